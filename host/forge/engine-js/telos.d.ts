/**
 * What JavaScript of a behaviour sees.
 *
 * A behaviour is one ES module, at most 128 KiB of source, that exports `handle`. It may export `evolve` and `devolve`.
 * It imports nothing, and awaits nothing: what it leaves for later by a promise breaks the message. There are no timers,
 * no network, no files, no `console`, no `eval`, and `Function` makes nothing of texts. TypeScript is not taken; these declarations are for editors.
 *
 * Each message runs in a fresh instance: what is kept in variables of the module is gone afterwards, and what is kept in
 * `self` stays. `Date.now()` stands still at the moment at which the message was admitted, in milliseconds since 1970, and
 * `Math.random()` begins with the message's own seed: a message that is run again gets both again.
 *
 * Bounds of one message, each told as an error with line and column: 40 MiB of memory, 192 KiB of stack, and some hundred
 * milliseconds of work of its own; waiting for the host does not count.
 *
 * An error that nobody catches ends the message as broken: nothing of it is kept, and its sender is told.
 */

/** A value that can be stored and sent: finite numbers, no `undefined`, no cycles, no classes. */
type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** An object's identity: 32 hex digits. */
type ObjectId = string;

/**
 * Answers one message. `undefined` is answered as `null`; a promise is refused. At most 256 KiB as JSON.
 *
 * Export it by this name: `export function handle(self, args, telos) { ... }`.
 */
type Handle = (self: Self, args: Json, telos: Telos) => Json | void;

/**
 * Carries one object's slots from generation `from` to `to`, and answers all that it has afterwards. Optional; `devolve` is
 * the way back. Neither reaches `self` or `telos`.
 */
type Evolve = (slots: { [slot: string]: Json }, from: number, to: number) => { [slot: string]: Json };

/**
 * The slots of the object that the message was sent to.
 *
 * A slot that the object lacks is looked for in its parents, then in the defaults of the descriptor, and is `undefined`
 * where nobody has it. What is changed is written when `handle` has answered, also deep inside: `self.items.push(1)`.
 * `delete self.name` removes the object's own slot. `Object.keys(self)` are its own slots.
 *
 * What cannot be stored throws a `TypeError` where it is put in. What is put in is the very value and no copy: whoever
 * still holds it changes what will be stored, and what is put into two places is one until the message ends. What came in
 * that way and cannot be stored throws at the end, with the line and column where its object was put in.
 *
 * Bounds: names 1 to 128 bytes, a value 256 KiB, an object 1,024 slots and 1 MiB; past one, storing throws.
 */
interface Self {
  [slot: string]: any;
}

/**
 * The message, and the host as far as the behaviour was made to use it.
 *
 * A member whose interface the behaviour was not made to use throws a `TypeError`. What the host refuses, because it was
 * not granted, passes a bound or found nothing, throws an `Error` that says what and why.
 */
interface Telos {
  /** The message's name. */
  readonly selector: string;

  /** The object that the message was sent to. */
  readonly receiver: ObjectId;

  /** The trace that the message belongs to, 32 hex digits. */
  readonly trace: string;

  /** Declines: nothing of the message is kept, and its sender gets these words. At most 4,000 characters. */
  refuse(why: string): never;

  /** As `refuse`, because the arguments do not fit: say what was expected. */
  badArguments(why: string): never;

  /** A line in the host's journal, for people, at most 8 KiB; details at most 16 KiB. What is too much is dropped. */
  log(text: string, fields?: { [name: string]: Json }): void;

  /** The object of this name; `undefined` when there is none. */
  find(name: string): ObjectId | undefined;

  /** A slot of any object, by delegation; `undefined` where nobody has it. */
  read(object: ObjectId, slot: string): Json | undefined;

  /**
   * Sends a message and answers its answer, inside this message: the receiver sees what was stored before, and not what
   * `self` still holds. When it fails, this throws and only the receiver's own changes are gone. Uses `messaging`.
   *
   * `to`: an identity or a name. Messages within messages: 8 deep.
   */
  send(to: ObjectId | string, selector: string, args?: Json): Json;

  /** Sends a message after this one is kept, at least once and in effect once; no answer. Uses `messaging`. At most 1,000. */
  post(to: ObjectId | string, selector: string, args?: Json): void;

  /** A provisional piece of the answer to who waits for it, at most 64 KiB; waits for room. Uses `messaging`. */
  emit(piece: Json): void;

  /** Text by a mind. Uses `inference`. */
  generate(prompt: string, options?: GenerateOptions): string;

  /** One vector for each text, of length 1.0. At most 64 texts of 8 KiB. Uses `inference`. */
  embed(texts: string[]): number[][];

  /**
   * Adds an object's vector to a collection, or replaces it. The first makes the collection: its dimension, 1 to 4,096, by
   * cosine. `about`: at most 4 KiB. Uses `vectors`.
   */
  remember(collection: string, object: ObjectId, vector: number[], about?: { [name: string]: Json }): void;

  /** The `k` nearest, closest first, 10 unless told, 1 to 1,000; fewer when there are fewer. Uses `vectors`. */
  recall(collection: string, vector: number[], k?: number): Near[];

  /** Removes an object's vector; whether there was one. Uses `vectors`. */
  forget(collection: string, object: ObjectId): boolean;
}

/** How a mind is to answer. */
interface GenerateOptions {
  /** Its name in the catalogue; the default mind otherwise. */
  mind?: string;
  /** What it is told before the prompt. */
  system?: string;
  /** At most this many tokens, 1 to 4,096; 256 unless told. */
  max_tokens?: number;
  /** 0, the default, always takes the likeliest token; at most 2. */
  temperature?: number;
  /** A whole number from 0; the same gives the same text. 0 unless told. */
  seed?: number;
  /** The text ends before any of these; at most 8. */
  stop?: string[];
  /** A JSON Schema that the text must satisfy. */
  schema?: Json;
}

/** One hit of `recall`. */
interface Near {
  object: ObjectId;
  /** By cosine: 0 the same direction, 1 unrelated, 2 opposite. */
  distance: number;
  about: Json;
}
