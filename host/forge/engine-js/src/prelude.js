// What a behaviour sees: `self`, its receiver's slots, and `telos`, the host. Run once, when the engine is built.
//
// A slot is read when it is first used, and written back at the end of the message when something in it changed. So
// `self.items.push(1)` is stored. What is put in is the very value and no copy, as anywhere in JavaScript: so
// `(self.items ??= []).push(1)` is stored too, and whoever still holds what was put in changes what will be stored. What
// cannot be stored is refused where it is put in, with line and column; what came into it later, at the end, with line
// and column of where it was put in.

(host) => {
  'use strict';

  const freeze = Object.freeze;
  const isArray = Array.isArray;
  const { parse, stringify } = JSON;
  const { Date, Error, Math } = globalThis;

  class Refusal extends Error { get name() { return 'Refusal'; } }
  class BadArguments extends Error { get name() { return 'BadArguments'; } }

  // What stands for a value that is watched, by the value; and the value, by what stands for it.
  const proxies = new WeakMap();
  const raw = new WeakMap();

  // A copy of a value as JSON has it. `path` names what is refused, and `above` is what it will be in.
  function plain(given, path, above = []) {
    const value = raw.get(given) ?? given;
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
    if (isArray(value) && Reflect.ownKeys(value).length !== value.length + 1) {
      throw new TypeError(`${path} cannot be stored: an array has no holes and no names`);
    }
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

  // A slot's value, which notes that something in it was changed.
  function watched(target, path, changed) {
    const known = proxies.get(target);
    if (known) return known;
    const inner = (key) => (isArray(target) ? `${path}[${key}]` : `${path}.${key}`);
    const shown = (key, value) => (raw.has(value) ? value : watched(value, inner(String(key)), changed));
    // What a property holds is watched too, where another value may take its place.
    const isInside = (property) => property !== undefined && property.configurable === true
      && property.value !== null && typeof property.value === 'object';
    const proxy = new Proxy(target, {
      get(object, key, receiver) {
        const value = Reflect.get(object, key, receiver);
        if (value === null || typeof value !== 'object') return value;
        return isInside(Reflect.getOwnPropertyDescriptor(object, key)) ? shown(key, value) : value;
      },
      getOwnPropertyDescriptor(object, key) {
        const property = Reflect.getOwnPropertyDescriptor(object, key);
        return isInside(property) ? { ...property, value: shown(key, property.value) } : property;
      },
      set(object, key, value) {
        if (typeof key === 'symbol') throw new TypeError(`${path} cannot be stored: JSON has no symbols`);
        if (isArray(object) && key === 'length') {
          if (value > object.length) throw new TypeError(`${inner(key)} cannot be stored: an array has no holes and no names`);
          object.length = value;
        } else if (isArray(object) && !(String(Number(key) >>> 0) === key && Number(key) <= object.length)) {
          throw new TypeError(`${inner(key)} cannot be stored: an array has no holes and no names`);
        } else {
          plain(value, inner(key), [object]);
          define(object, key, raw.get(value) ?? value);
        }
        changed(value);
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
      return shownIn(known, value, `self.${key}`);
    };
    const shownIn = (known, value, path) => {
      if (raw.has(value)) return value;
      const changed = (put) => {
        known.isChanged = true;
        known.put = where(put) ?? known.put;
      };
      return watched(value, path, changed);
    };
    // Where a value was put in that somebody may still hold, and so change without being watched.
    const where = (put) => (put !== null && typeof put === 'object' && !raw.has(put) ? new Error().stack : undefined);
    const self = new Proxy(Object.create(null), {
      get(_, key) { return name(key) === undefined ? undefined : show(key, cell(key)); },
      has(_, key) { return name(key) !== undefined && cell(key).value !== undefined; },
      set(_, key, value) {
        if (name(key) === undefined) throw new TypeError('a slot has a name, not a symbol');
        plain(value, `self.${key}`, [self]);
        cells.set(key, { value: raw.get(value) ?? value, isChanged: true, isGone: false, put: where(value) });
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
        else host.write(receiver, key, stringify(atLast(known, `self.${key}`)));
      }
    };
    const atLast = (known, path) => {
      try {
        return plain(known.value, path);
      } catch (error) {
        if (known.put) {
          error.message += '; this came in after its object was put in,';
          error.stack = known.put;
        }
        throw error;
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
    const answer = behaviour(self, message.arguments, world(message, parse(usesText)));
    return placed(behaviour, () => {
      if (answer !== null && typeof answer === 'object' && typeof answer.then === 'function') {
        throw new TypeError('handle answered a promise: nothing here is awaited, answer the value itself');
      }
      const text = json(answer, 'the answer');
      store();
      return text;
    });
  }

  function carry(change, slotsText, from, to) {
    const answer = change(parse(slotsText), from, to);
    if (answer === null || typeof answer !== 'object' || isArray(answer)) throw new TypeError('it must answer an object of slots');
    return json(answer, 'the state');
  }

  // What goes wrong after a function has answered lies in none of its lines, so it is told with the function's own.
  function placed(made, work) {
    try {
      return work();
    } catch (error) {
      if (error instanceof Error && !String(error.stack).includes('behaviour.js')) error.stack = place(made);
      throw error;
    }
  }

  const told = (name) => Object.getOwnPropertyDescriptor(Function.prototype, name).get;
  const [line, column] = [told('lineNumber'), told('columnNumber')];

  // Where a function was written, as a stack has it; empty when it was not written in the module.
  function place(made) {
    const at = line.call(made);
    return at === undefined ? '' : `at handle (behaviour.js:${at}:${column.call(made)})`;
  }

  const kindOf = (value) => Object.prototype.toString.call(value).slice(8, -1);
  const wordsOf = Function.prototype.toString;

  // Why what a module exports is no behaviour; null when it is one.
  function unfit(exports) {
    const { handle } = exports;
    if (typeof handle !== 'function') {
      return `the module must \`export function handle(self, args, telos)\`; ${exported(exports, handle)}`;
    }
    const what = /^class[\s{]/.test(wordsOf.call(handle)) ? 'a class' : {
      AsyncFunction: 'an async function', GeneratorFunction: 'a generator function', AsyncGeneratorFunction: 'an async generator',
    }[kindOf(handle)];
    return what ? `\`handle\` is ${what}; it must be a function that answers the value itself: nothing is awaited here ${place(handle)}` : null;
  }

  function exported(exports, handle) {
    const names = Object.keys(exports);
    if (names.includes('handle')) return `it exports handle, which is ${handle === null ? 'null' : `of type ${typeof handle}`} and no function`;
    if (names.length === 0) return 'it exports nothing';
    return `it exports ${names.join(', ')}${names.includes('default') ? ', and a default export is not looked at' : ''}`;
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
  for (const made of [function () {}, async function () {}, function* () {}, async function* () {}]) {
    const constructor = function Function() { throw new TypeError('functions are not made of texts here'); };
    Object.defineProperty(Object.getPrototypeOf(made), 'constructor', { value: constructor });
  }
  globalThis.Function = Function.prototype.constructor;

  return { handle, carry, unfit, place, misfitOf };
}
