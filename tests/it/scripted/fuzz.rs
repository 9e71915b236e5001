//! Goal: whatever bytes come as a source, as a behaviour's text or as a component, no host panics and no engine traps;
//! each is taken, or refused in words about the bytes. Method: bytes of known sources are changed at random; what is
//! answered in new words is changed further. `host/forge/fuzz` has the assembler alone, for a fuzzer that sees branches.
//!
//! `TELOS_LONG` has it go on for five minutes, from `TELOS_SEED` or the clock.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use telos_forge::{Behaviour, assemble, taken_apart};
use telos_kernel::{BootError, TrialMessage, TrialOrder, Tryout};
use telos_tests::TestKernel;
use telos_tests::behaviour::{Script, engine};

const ROUNDS: usize = 400;
const LONG: Duration = Duration::from_secs(300);
const SOURCE_BYTES_MAX: usize = 4_096;
const KNOWN: [&str; 12] = [
    "export function handle(self, args, telos) { self.value = (self.value ?? 0) + args.by; return self.value; }",
    "export const handle = (self, args) => args.list.map((x) => `${x.a}`).filter(Boolean).sort();",
    "export function handle(self) { (self.items ??= []).push({ a: [1, 2] }); return self.items; }",
    "class A { #x = 1; static y = 2; get x() { return this.#x; } } export function handle() { return new A().x; }",
    "export function* handle() { yield* [1]; }",
    "export async function handle() { for await (const x of [1]) await x; }",
    "import a, { b as c } from 'd'; export * from 'e'; export default a;",
    "label: for (let i = 0; i < 9; i++) { try { continue label; } finally { switch (i) { default: break; } } } export function handle() {}",
    "export function handle(self, args) { return /(?<n>a+)+$/u.exec(String(args))?.groups.n ?? JSON.stringify({ ...args }); }",
    "export let handle; handle = function ({ a = 1, ...rest } = {}, [b] = []) { return [a, b, rest, 1n ** 2n, 0x1f, 1e309]; };",
    "const p = new Proxy({}, { get() { throw p; } }); export function handle() { return p.x; } export const evolve = (s) => s;",
    "globalThis.Error = null; Object.prototype.toJSON = () => 1; Array.prototype.push = null; export function handle() { throw undefined; }",
];
const WORDS: [&[u8]; 24] = [
    b"{",
    b"}",
    b"(",
    b")",
    b"[",
    b"]",
    b"`",
    b"${",
    b"'",
    b"\\u{110000}",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"//",
    b"/*",
    b"\xe2\x80\xa8",
    b"export ",
    b"import ",
    b"await ",
    b"yield ",
    b"super.",
    b"new.target",
    b"import.meta",
    b"{\"descriptor\":",
];

/// xorshift64*: a run is its seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(word).unwrap() % bound.max(1)
    }

    /// The bytes with a few changes, some of them out of another's.
    fn changed(&mut self, bytes: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let (from, to) = (self.below(bytes.len() + 1), self.below(bytes.len() + 1));
            let (from, to) = (from.min(to), from.max(to));
            match self.below(6) {
                0 if from < bytes.len() => bytes[from] ^= 1 << self.below(8),
                1 => drop(bytes.drain(from..to.min(from + 16))),
                2 => drop(bytes.splice(from..from, WORDS[self.below(WORDS.len())].iter().copied())),
                3 => {
                    let copy = bytes[from..to].repeat(1 + self.below(64));
                    drop(bytes.splice(from..from, copy));
                }
                4 => {
                    let tail = other.get(self.below(other.len())..).unwrap_or_default().to_vec();
                    bytes.truncate(from);
                    bytes.extend(tail);
                }
                _ => drop(bytes.splice(from..to.min(from + 8), (0..4).map(|at| b'0' + at))),
            }
        }
        bytes.truncate(SOURCE_BYTES_MAX);
        bytes
    }
}

/// How often what came of it.
#[derive(Default)]
struct Seen {
    taken: usize,
    refused: usize,
    tried: usize,
    reassembled: usize,
    words: BTreeSet<String>,
}

impl Seen {
    fn counts(&self) -> String {
        let Self { taken, refused, tried, reassembled, .. } = self;
        format!(
            "{taken} taken, {refused} refused, {tried} messages tried, {reassembled} changed components that come apart"
        )
    }

    /// Whether nothing was answered so before: by its letters, since names and numbers are the bytes' own.
    fn is_new(&mut self, said: &str) -> bool {
        self.words.len() < 2_000
            && self.words.insert(said.chars().filter(char::is_ascii_lowercase).take(60).collect())
    }
}

async fn boot(kernel: &TestKernel, text: String, seen: &mut Seen) -> Result<(), String> {
    match kernel.kernel.boot(engine().name.into(), text.clone()).await {
        Ok(()) => {
            seen.taken += 1;
            Ok(())
        }
        Err(BootError::Refused(why)) if !why.is_empty() => {
            seen.refused += 1;
            Err(why)
        }
        Err(other) => panic!("{other:?} of\n{text}"),
    }
}

/// A component comes apart as it was put together; of one that was changed, what comes apart makes it.
fn check_component(behaviour: &Behaviour, chance: &mut Chance, seen: &mut Seen) -> Option<Vec<u8>> {
    let component = assemble(engine(), behaviour).ok()?;
    let apart = taken_apart(engine(), &component).expect("it was assembled");
    assert_eq!((&apart.source, &apart.uses), (&behaviour.source, &behaviour.uses));
    let mut other = component.clone();
    for _ in 0..=chance.below(3) {
        let at = chance.below(other.len());
        other[at] = u8::try_from(chance.below(256)).unwrap();
    }
    if let Some(changed) = taken_apart(engine(), &other) {
        assert!(assemble(engine(), &changed).unwrap() == other);
        seen.reassembled += 1;
    }
    Some(component)
}

/// Messages to what starts: whatever it does is told as its own fault.
async fn try_it(kernel: &TestKernel, component: Vec<u8>, script: &Script, seen: &mut Seen) {
    let arguments = [Value::Null, json!({}), json!({"by": 1, "list": [{"a": 1}]}), json!("aaaa!")];
    let message =
        |arguments: Value| TrialMessage { before: Default::default(), arguments, recordings: Vec::new() };
    let messages = arguments.map(message).into();
    let order = TrialOrder {
        module: engine().name.into(),
        text: script.text(),
        component,
        selector: "run".into(),
        messages,
    };
    match kernel.kernel.try_out(order).await {
        Tryout::Tried(tried) => seen.tried += tried.len(),
        Tryout::NoComponent(_) => {}
        other => panic!("{other:?} of\n{}", script.source),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_bytes_come_nothing_panics_and_nothing_traps() {
    let is_long = std::env::var_os("TELOS_LONG").is_some();
    let seed = std::env::var("TELOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let clock = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() | 1;
    let seed = seed.unwrap_or(if is_long { clock } else { 7 });
    let (kernel, mut chance, mut seen, started) =
        (TestKernel::new(), Chance(seed), Seen::default(), Instant::now());
    let mut corpus: Vec<Vec<u8>> = KNOWN.iter().map(|source| source.as_bytes().to_vec()).collect();
    // What starts is rare among what is changed, and is changed as often as all the rest.
    let mut starting = corpus.clone();
    let mut rounds = 0_usize;
    while if is_long { started.elapsed() < LONG } else { rounds < ROUNDS } {
        rounds += 1;
        let (one, other) = (chance.below(corpus.len()), chance.below(corpus.len()));
        let from = if rounds.is_multiple_of(2) { &corpus[one] } else { &starting[one % starting.len()] };
        let bytes = chance.changed(from, &corpus[other]);
        let source = String::from_utf8_lossy(&bytes).into_owned();
        let script = Script::of(&source);
        let component = check_component(&script.behaviour(), &mut chance, &mut seen);
        let said = boot(&kernel, script.text(), &mut seen).await;
        // The text itself, which an assembled component carries and a hostile one need not.
        let text = chance.changed(script.text().as_bytes(), &bytes);
        let _ = boot(&kernel, String::from_utf8_lossy(&text).into_owned(), &mut seen).await;
        if let (Ok(()), Some(component)) = (&said, component) {
            try_it(&kernel, component, &script, &mut seen).await;
        }
        let list = if said.is_ok() { &mut starting } else { &mut corpus };
        if seen.is_new(&said.err().unwrap_or_else(|| source.clone())) {
            list.push(bytes);
        }
    }
    println!("seed {seed}: {rounds} rounds, {} kinds of words; {}", seen.words.len(), seen.counts());
    assert!(
        seen.taken > 0 && seen.refused > 0 && seen.tried > 0,
        "seed {seed}: nothing was tried: {}",
        seen.counts()
    );
}
