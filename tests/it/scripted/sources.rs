//! Goal: no source breaks the host. Method: random texts, and random words of the language, are handed to the engine as
//! behaviours; each is taken or refused in words, and the host serves on.

use proptest::prelude::*;
use serde_json::Value;
use telos_kernel::BootError;
use telos_tests::TestKernel;
use telos_tests::behaviour::{Script, engine};

use super::{run, try_install};

const WORDS: [&str; 40] = [
    "export ",
    "function ",
    "handle",
    "(self, args, telos)",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ";",
    ",",
    "=>",
    "=",
    "...",
    "`",
    "${",
    "'",
    "\"",
    "/",
    "*",
    "//",
    "/*",
    "\n",
    "class ",
    "async ",
    "await ",
    "yield ",
    "for (;;)",
    "while (1)",
    "new ",
    "Proxy",
    "this",
    "globalThis",
    "import ",
    "from ",
    "throw ",
    "return ",
    "1",
    "telos.refuse",
];

fn source() -> impl Strategy<Value = String> {
    let words = prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..30);
    prop_oneof![
        1 => any::<String>(),
        3 => words.clone().prop_map(|words| words.concat()),
        2 => words.prop_map(|words| format!("export function handle(self, args, telos) {{ {} }}", words.concat())),
        1 => (1_usize..60_000, prop::sample::select(vec!["(", "[", "{", "!", "`${", "a=>", "-", "0,"]))
            .prop_map(|(times, word)| word.repeat(times)),
    ]
}

/// As deep as anybody writes, and far deeper.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_may_be_deep_and_one_that_is_too_deep_is_refused_in_words() {
    let kernel = TestKernel::new();
    for (open, close) in [("(", ")"), ("[", "]"), ("{a:", "}"), ("`${", "}`"), ("!", ""), ("a=>", "")] {
        for (times, is_well) in [(64, true), (20_000, false)] {
            let source = format!(
                "export function handle() {{ return ({}0{}) }}",
                open.repeat(times),
                close.repeat(times)
            );
            match kernel.kernel.boot(engine().name.into(), Script::of(&source).text()).await {
                Ok(()) => assert!(is_well || open == "!", "{times} times {open}"),
                Err(BootError::Refused(why)) => {
                    let is_told = why.starts_with("RangeError: ") || why.contains("behaviour.js:1:");
                    assert!(!is_well && is_told, "{times} times {open}: {why}");
                }
                Err(other) => panic!("{times} times {open}: {:.100}", other.to_string()),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn any_source_is_taken_or_refused_in_words(sources in prop::collection::vec(source(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let kernel = TestKernel::new();
            for source in sources {
                match kernel.kernel.boot(engine().name.into(), Script::of(&source).text()).await {
                    Ok(()) => {}
                    Err(BootError::Refused(why)) => assert!(!why.is_empty(), "{source}"),
                    Err(other) => panic!("{:.100}: {source:.100}", other.to_string()),
                }
            }
            let well = Script::of("export function handle() { return 'well'; }");
            try_install(&kernel, &well).await.unwrap();
            assert_eq!(run(&kernel, Value::Null).await.unwrap(), "well");
        });
    }
}
