//! Goal: Babs answers from a real mind, token by token, and recalls by meaning what was said before a restart.
//! Method: the real binary with llama.cpp and the default minds, which `telos model pull --default` has fetched.

use serde_json::{Value, json};

use crate::running::{Running, guest};

fn babs() -> Running {
    assert!(
        std::env::var_os("TELOS_MODELS_DIR").is_some(),
        "TELOS_MODELS_DIR does not say where the minds are; `cargo xtask test --only llama` does"
    );
    let running = Running::with_minds();
    running.ok(&["plugin", "install", guest("babs").to_str().unwrap(), "--grant", "all"]);
    running
}

/// Everything said in answer to a line, and how many pieces it came in.
fn say(running: &Running, text: &str) -> (Value, usize) {
    let arguments = json!({ "text": text }).to_string();
    let output = running.run(&["send", "babs", "say", &arguments, "--stream"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let tokens = lines.iter().filter(|line| line.to_string().contains("\"token\"")).count();
    (lines.last().unwrap().clone(), tokens)
}

#[test]
fn babs_streams_answers_and_recalls_by_meaning_after_a_restart() {
    let mut running = babs();
    let (answer, tokens) = say(&running, "My dog is called Rex and he loves the beach.");
    assert!(tokens > 3, "{tokens} pieces: {answer}");
    say(&running, "The train to the office was late this morning.");
    running.kill();
    running.start();
    let arguments = json!({ "text": "What is the name of my pet?", "k": 1 }).to_string();
    let recalled = running.ok(&["send", "babs", "recall", &arguments])["value"].clone();
    assert_eq!(recalled[0]["said"], "My dog is called Rex and he loves the beach.", "{recalled}");
    let found = running.ok(&["memory", "search", "babs", "turns", "an animal at the sea", "-k", "1"]);
    assert!(found.to_string().contains("Rex"), "{found}");
    let stats = running.ok(&["memory", "stats"])["collections"][0].clone();
    let told = (&stats["owner"], &stats["collection"], &stats["vectors"], &stats["dim"], &stats["tail"]);
    assert_eq!(told, (&json!("babs"), &json!("turns"), &json!(2), &json!(384), &json!(2)), "{stats}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_killed_in_the_middle_of_an_answer_does_not_take_the_host_with_it() {
    use crate::running::eventually;
    use crate::workers::{bridge, kill, processes};

    let mut running = babs();
    running.stop();
    running.start_with(&["--workers", "1"]);
    eventually("the worker is ready", || bridge(&running, "workers") == 1);
    let host = running.host.as_ref().unwrap().id();
    let (answer, tokens) = say(&running, "My dog is called Rex.");
    assert!(tokens > 3 && bridge(&running, "given") > 0, "{answer}");
    std::thread::scope(|scope| {
        let long = scope.spawn(|| {
            let arguments = json!({ "text": "Tell me everything about the sea." }).to_string();
            running.run(&["send", "babs", "say", &arguments])
        });
        eventually("the worker is at it", || bridge(&running, "orders_in_hand") == 1);
        processes(&running, "worker --connect").into_iter().for_each(kill);
        // Whether the mind was done by then or not, its caller is told.
        long.join().unwrap();
    });
    say(&running, "Are you still there?");
    assert_eq!(running.host.as_ref().unwrap().id(), host);
}
