//! Goal: the binary speaks to a host over its endpoint, prints what it promises, and ends with the right code.
//! Method: the real binary against a real bridge whose service answers from a table.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use telos_bridge::{BridgeConfig, Call, Effect, Endpoint, Reply, RpcError, Server, Service, serve};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

/// Calls of the selector `hang` are never answered; they are kept, so that the bridge does not answer them either.
#[derive(Default)]
struct Answers {
    unanswered: Mutex<Vec<Reply>>,
}

impl Service for Answers {
    fn call(&self, call: Call, reply: Reply) {
        reply.accepted();
        match (call.method.as_str(), call.params["selector"].as_str()) {
            ("object.send", Some("say")) => {
                reply.chunk(1, json!({"token": "wro"}));
                reply.reset(2);
                let text = call.params["arguments"]["text"].as_str().unwrap_or_default();
                for word in ["you said ", text] {
                    reply.chunk(2, json!({"token": word}));
                }
                reply.finish(Ok(
                    json!({"value": {"text": format!("you said {text}")}, "position": 1, "replayed": false}),
                ));
            }
            ("object.send", Some("fail")) => {
                let error =
                    RpcError::new("not-understood", Effect::None, "counter does not understand `fail`");
                reply.finish(Err(error.with_next("see `telos object show counter`").with_incident(7)));
            }
            ("object.send", Some("hang")) => {
                reply.chunk(1, json!("begun"));
                self.unanswered.lock().unwrap().push(reply);
            }
            ("object.send", _) => reply.finish(Ok(json!({"value": call.params["arguments"], "position": 1}))),
            ("plugin.list", _) => {
                reply.finish(Ok(
                    json!({"plugins": [{"id": "babs", "kind": "persona", "state": "serving"}], "inbox": []}),
                ));
            }
            ("plugin.check", _) => reply.finish(Ok(json!({"ok": false, "id": "x", "cause": "too large"}))),
            ("journal.tail", _) => {
                for number in 0..3 {
                    reply.chunk(
                        1,
                        json!({"body": format!("line {number}"), "severity_text": "INFO", "event_name": "e"}),
                    );
                }
                reply.finish(Ok(json!({"lines": 3})));
            }
            (method, _) => reply.finish(Err(RpcError::new("no-such-method", Effect::None, method))),
        }
    }
}

async fn start(home: &Path) -> Server {
    let run = home.join("run");
    std::fs::create_dir_all(&run).unwrap();
    let endpoint = Endpoint::Unix(run.join("host.sock"));
    let server = serve(endpoint, Arc::new(Answers::default()), BridgeConfig::default()).await.unwrap();
    std::fs::write(run.join("endpoint"), server.endpoint().to_string()).unwrap();
    server
}

async fn telos(home: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_telos"));
    command.arg("--home").arg(home).args(arguments).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    child.wait_with_output().await.unwrap()
}

#[track_caller]
fn check(output: &Output, code: i32, stdout: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "stderr: {errors}");
    assert_eq!(output.status.code(), Some(code), "stderr: {errors}");
}

fn json_lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_print_what_they_promise_and_end_with_their_code() {
    let home = tempfile::tempdir().unwrap();
    let server = start(home.path()).await;
    let telos = |arguments: &'static [&str], input: &'static str| telos(home.path(), arguments, input);

    check(&telos(&["send", "counter", "echo", "-"], "\"hi\"").await, 0, "hi\n");
    let sent = telos(&["--json", "send", "counter", "echo", r#"{"by":2}"#], "").await;
    assert_eq!(json_lines(&sent), [json!({"value": {"by": 2}, "position": 1})]);

    check(
        &telos(&["chat"], "hello\n\nagain\n").await,
        0,
        "wro\n(starting again)\nyou said hello\nwro\n(starting again)\nyou said again\n",
    );
    let chatted = telos(&["chat", "babs", "--json"], "hello\n").await;
    let lines = json_lines(&chatted);
    assert_eq!(lines[1], json!({"reset": 2}));
    assert_eq!(lines.last().unwrap()["result"]["value"]["text"], "you said hello");

    let tail = telos(&["--json", "journal", "tail"], "").await;
    assert_eq!(
        json_lines(&tail).iter().map(|line| line["body"].clone()).collect::<Vec<_>>(),
        ["line 0", "line 1", "line 2"]
    );

    let failed = telos(&["send", "counter", "fail"], "").await;
    check(&failed, 1, "");
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    for part in ["does not understand", "next: see `telos object show counter`", "incident 7"] {
        assert!(told.contains(part), "{told}");
    }
    let failed = telos(&["--json", "send", "counter", "fail"], "").await;
    assert_eq!(json_lines(&failed)[0]["error"]["data"]["kind"], "not-understood");

    assert_eq!(telos(&["plugin", "check", "x.wasm"], "").await.status.code(), Some(1));
    check(&telos(&["send", "counter", "echo", "{"], "").await, 2, "");
    server.shutdown().await;
}

#[tokio::test]
async fn without_a_host_every_command_says_so() {
    let home = tempfile::tempdir().unwrap();
    let absent = telos(home.path(), &["object", "list"], "").await;
    check(&absent, 1, "");
    assert!(String::from_utf8_lossy(&absent.stderr).contains("start one with `telos up`"));
    // The same when a host died and left its endpoint file behind.
    std::fs::create_dir(home.path().join("run")).unwrap();
    let socket = home.path().join("run/host.sock");
    std::fs::write(home.path().join("run/endpoint"), format!("unix:{}", socket.display())).unwrap();
    let absent = telos(home.path(), &["--json", "object", "list"], "").await;
    assert_eq!(json_lines(&absent)[0]["error"]["data"]["kind"], "no-host");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_host_is_gone_ends_in_doubt_and_says_how_to_look() {
    let home = tempfile::tempdir().unwrap();
    let server = start(home.path()).await;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_telos"));
    command.arg("--home").arg(home.path()).args(["--json", "--patience-s", "4", "send", "counter", "hang"]);
    command.args(["--stream", "--deadline-ms", "3600000"]).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().unwrap().contains("begun"));
    drop(server);
    let ended: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let data = &ended["error"]["data"];
    assert_eq!((&data["kind"], &data["effect"]), (&json!("silent"), &json!("unknown")), "{ended}");
    assert!(data["next"].as_str().unwrap().contains("telos audit"), "{ended}");
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("does not answer").count(), 1, "{said}");
}
