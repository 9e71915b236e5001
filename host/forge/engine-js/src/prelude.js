// What a behaviour sees: `self`, its receiver's slots, and `telos`, the host. Run once, when the engine is built.
//
// A slot is read when it is first used, and written back at the end of the message when something in it changed. So
// `self.items.push(1)` is stored. What cannot be stored is refused where it is put in, with line and column.

(host) => {
  'use strict';

  const freeze = Object.freeze;
  const isArray = Array.isArray;
  const { parse, stringify } = JSON;

  class Refusal extends Error { get name() { return 'Refusal'; } }
  class BadArguments extends Error { get name() { return 'BadArguments'; } }

  // A copy of a value as JSON has it. `path` names what is refused.
  function plain(value, path, above = []) {
    if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
    if (typeof value === 'number') {
      if (Number.isFinite(value)) return value;
      throw new TypeError(`${path} cannot be stored: ${value} is no JSON number`);
    }
    if (typeof value !== 'object') {
      throw new TypeError(`${path} cannot be stored: JSON has no ${typeof value}`);
    }
    if (above.includes(value)) throw new TypeError(`${path} cannot be stored: it contains itself`);
    const inside = [...above, value];
    if (isArray(value)) return Array.from(value, (item, index) => plain(item, `${path}[${index}]`, inside));
    const proto = Object.getPrototypeOf(value);
    if (proto !== Object.prototype && proto !== null) {
      const kind = proto.constructor && proto.constructor.name || 'object';
      throw new TypeError(`${path} cannot be stored: JSON has no ${kind}; take a plain object, an array or a string`);
    }
    const copy = {};
    for (const key of Reflect.ownKeys(value)) {
      if (typeof key === 'symbol') throw new TypeError(`${path} cannot be stored: JSON has no symbols`);
      define(copy, key, plain(value[key], `${path}.${key}`, inside));
    }
    return copy;
  }

  function define(object, key, value) {
    Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
  }

  // What was put in is copied, so that a later change of the original would be lost: it is refused instead.
  function seal(value) {
    if (value === null || typeof value !== 'object' || Object.isFrozen(value)) return;
    freeze(value);
    for (const key of Reflect.ownKeys(value)) seal(value[key]);
  }

  // A slot's value, which notes that something in it was changed.
  function watched(target, path, changed, proxies, raw) {
    const known = proxies.get(target);
    if (known) return known;
    const inner = (key) => (isArray(target) ? `${path}[${key}]` : `${path}.${key}`);
    const take = (key, value) => {
      const held = raw.get(value) ?? value;
      const copy = plain(held, inner(key));
      if (held === value) seal(value);
      return copy;
    };
    const proxy = new Proxy(target, {
      get(object, key, receiver) {
        const value = Reflect.get(object, key, receiver);
        const isOwn = value !== null && typeof value === 'object' && Object.hasOwn(object, key);
        return isOwn ? watched(value, inner(String(key)), changed, proxies, raw) : value;
      },
      set(object, key, value) {
        if (typeof key === 'symbol') throw new TypeError(`${path} cannot be stored: JSON has no symbols`);
        if (isArray(object) && key === 'length') {
          object.length = value;
        } else if (isArray(object) && !(String(Number(key) >>> 0) === key && Number(key) <= object.length)) {
          throw new TypeError(`${inner(key)} cannot be stored: an array has no holes and no names`);
        } else {
          define(object, key, take(key, value));
        }
        changed();
        return true;
      },
      defineProperty(object, key, descriptor) {
        if (!('value' in descriptor)) throw new TypeError(`${inner(String(key))} cannot be stored: it is computed`);
        return this.set(object, key, descriptor.value);
      },
      deleteProperty(object, key) {
        if (isArray(object) && Object.hasOwn(object, key)) {
          if (Number(key) !== object.length - 1) {
            throw new TypeError(`${inner(String(key))} cannot be taken out so: use splice`);
          }
          // Whoever shortens an array does so next.
          changed();
          return Reflect.deleteProperty(object, key);
        }
        changed();
        return Reflect.deleteProperty(object, key);
      },
      setPrototypeOf() { throw new TypeError(`${path} cannot be stored: JSON has no prototypes`); },
      preventExtensions() { throw new TypeError(`${path} is stored, and cannot be frozen`); },
    });
    proxies.set(target, proxy);
    raw.set(proxy, target);
    return proxy;
  }

  // The receiver's slots as properties.
  function slots(receiver) {
    const cells = new Map();
    const proxies = new WeakMap();
    const raw = new WeakMap();
    const name = (key) => {
      if (typeof key === 'string') return key;
      return undefined;
    };
    const cell = (key) => {
      let known = cells.get(key);
      if (!known) {
        const text = host.lookup(receiver, key);
        known = { value: text == null ? undefined : parse(text), isChanged: false, isGone: false };
        cells.set(key, known);
      }
      return known;
    };
    const show = (key, known) => {
      const { value } = known;
      if (value === null || typeof value !== 'object') return value;
      return watched(value, `self.${key}`, () => { known.isChanged = true; }, proxies, raw);
    };
    const self = new Proxy(Object.create(null), {
      get(_, key) { return name(key) === undefined ? undefined : show(key, cell(key)); },
      has(_, key) { return name(key) !== undefined && cell(key).value !== undefined; },
      set(_, key, value) {
        if (name(key) === undefined) throw new TypeError('a slot has a name, not a symbol');
        const held = raw.get(value) ?? value;
        const copy = plain(held, `self.${key}`);
        if (held === value) seal(value);
        cells.set(key, { value: copy, isChanged: true, isGone: false });
        return true;
      },
      defineProperty(_, key, descriptor) {
        if (!('value' in descriptor)) throw new TypeError(`self.${String(key)} cannot be stored: it is computed`);
        return this.set(_, key, descriptor.value);
      },
      deleteProperty(_, key) {
        if (name(key) !== undefined) cells.set(key, { value: undefined, isChanged: true, isGone: true });
        return true;
      },
      ownKeys() {
        const keys = new Set(host.slots(receiver));
        for (const [key, known] of cells) {
          if (known.isGone) keys.delete(key); else if (known.isChanged) keys.add(key);
        }
        return [...keys];
      },
      getOwnPropertyDescriptor(_, key) {
        if (name(key) === undefined || cell(key).value === undefined) return undefined;
        return { value: show(key, cell(key)), writable: true, enumerable: true, configurable: true };
      },
      setPrototypeOf() { throw new TypeError('self has no prototype to set: its parents are objects of the host'); },
      preventExtensions() { throw new TypeError('self cannot be frozen'); },
    });
    const store = () => {
      for (const [key, known] of cells) {
        if (!known.isChanged) continue;
        if (known.isGone) host.remove(receiver, key);
        else host.write(receiver, key, stringify(plain(known.value, `self.${key}`)));
      }
    };
    return { self, store };
  }

  // xoshiro128**, from the message's seed.
  function chance(seed) {
    let state = Uint32Array.from(seed);
    const rotate = (word, by) => (word << by) | (word >>> (32 - by));
    const next = () => {
      const answer = Math.imul(rotate(Math.imul(state[1], 5), 7), 9) >>> 0;
      const mixed = state[1] << 9;
      state[2] ^= state[0]; state[3] ^= state[1]; state[1] ^= state[2]; state[0] ^= state[3];
      state[2] ^= mixed; state[3] = rotate(state[3], 11);
      return answer;
    };
    return () => ((next() >>> 5) * 67108864 + (next() >>> 6)) / 9007199254740992;
  }

  const json = (value, what) => stringify(plain(value === undefined ? null : value, what));

  // The host as far as the behaviour was made for it.
  function world(message, uses) {
    const only = (interface_, name, call) => (...given) => {
      if (!uses.includes(interface_)) {
        throw new TypeError(`telos.${name} is not there: this behaviour was not made to use ${interface_}`);
      }
      return call(...given);
    };
    return freeze({
      selector: message.selector,
      receiver: message.receiver,
      trace: message.trace,
      refuse(why) { throw new Refusal(String(why)); },
      badArguments(why) { throw new BadArguments(String(why)); },
      log(text, fields = {}) { host.log(String(text), json(fields, 'fields')); },
      find(name) { return host.find(String(name)); },
      read(object, slot) { const text = host.lookup(String(object), String(slot)); return text == null ? undefined : parse(text); },
      send: only('messaging', 'send', (to, selector, args) => parse(host.send(String(to), String(selector), json(args, 'args')))),
      post: only('messaging', 'post', (to, selector, args) => { host.post(String(to), String(selector), json(args, 'args')); }),
      emit: only('messaging', 'emit', (piece) => { host.emit(json(piece, 'piece')); }),
      generate: only('inference', 'generate', (prompt, options = {}) => host.generate(json({ ...options, prompt }, 'options'))),
      embed: only('inference', 'embed', (texts) => parse(host.embed(json(texts, 'texts')))),
      remember: only('vectors', 'remember', (collection, object, vector, about = {}) => {
        host.remember(String(collection), String(object), json(vector, 'vector'), json(about, 'about'));
      }),
      recall: only('vectors', 'recall', (collection, vector, k = 10) => parse(host.recall(String(collection), json(vector, 'vector'), k))),
      forget: only('vectors', 'forget', (collection, object) => host.forget(String(collection), String(object))),
    });
  }

  // Answers the result as JSON text, after what changed was stored.
  function handle(behaviour, messageText, usesText) {
    const message = parse(messageText);
    const random = chance(host.seed());
    define(Math, 'random', random);
    const now = host.now();
    define(Date, 'now', () => now);
    const { self, store } = slots(message.receiver);
    const args = message.arguments;
    const answer = behaviour(self, args, world(message, parse(usesText)));
    if (answer !== null && typeof answer === 'object' && typeof answer.then === 'function') {
      throw new TypeError('handle answered a promise: nothing here is awaited, answer the value itself');
    }
    const text = json(answer, 'the answer');
    store();
    return text;
  }

  function carry(change, slotsText, from, to) {
    const answer = change(parse(slotsText), from, to);
    if (answer === null || typeof answer !== 'object' || isArray(answer)) throw new TypeError('it must answer an object of slots');
    return json(answer, 'the state');
  }

  // Why arguments do not fit their declared schema; undefined when they do, or nobody can tell: what is not known here
  // fits. Asked only for a message that broke, so that what nobody promised to take is refused and not a fault.
  function misfit(schema, value, path = 'arguments') {
    if (schema === true || schema === null || typeof schema !== 'object') {
      return schema === false ? `${path} must not be there` : undefined;
    }
    const kind = value === null ? 'null' : isArray(value) ? 'array' : typeof value;
    const types = schema.type === undefined ? [] : [].concat(schema.type);
    const isOf = (type) => type === kind || (type === 'integer' && Number.isInteger(value));
    if (types.length > 0 && !types.some(isOf)) return `${path} must be ${types.join(' or ')}, and is ${kind}`;
    if (schema.enum && !schema.enum.some((one) => stringify(one) === stringify(value))) {
      return `${path} must be one of ${stringify(schema.enum)}`;
    }
    if (kind === 'number') {
      if (value < schema.minimum) return `${path} must be at least ${schema.minimum}`;
      if (value > schema.maximum) return `${path} must be at most ${schema.maximum}`;
    }
    if (kind === 'array') {
      if (value.length < schema.minItems) return `${path} must have at least ${schema.minItems} items`;
      for (let at = 0; schema.items !== undefined && at < value.length; at += 1) {
        const found = misfit(schema.items, value[at], `${path}[${at}]`);
        if (found) return found;
      }
    }
    if (kind === 'object') {
      for (const name of schema.required ?? []) {
        if (!Object.hasOwn(value, name)) return `${path}.${name} is missing`;
      }
      for (const [name, inner] of Object.entries(schema.properties ?? {})) {
        const found = Object.hasOwn(value, name) ? misfit(inner, value[name], `${path}.${name}`) : undefined;
        if (found) return found;
      }
    }
    return undefined;
  }

  const misfitOf = (schemaText, valueText) => misfit(parse(schemaText), parse(valueText)) ?? null;

  // Code is what the source says, and nothing is made of texts at run time.
  delete globalThis.eval;
  const kind = (value) => Object.prototype.toString.call(value).slice(8, -1);
  for (const made of [function () {}, async function () {}, function* () {}, async function* () {}]) {
    const constructor = function Function() { throw new TypeError('functions are not made of texts here'); };
    Object.defineProperty(Object.getPrototypeOf(made), 'constructor', { value: constructor });
  }
  globalThis.Function = Function.prototype.constructor;

  return { handle, carry, kind, misfitOf };
}
