//! A port for other machines: keys, roles and refusals, as the commands show them.

use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::running::{Running, command, eventually};

const OPEN: [&str; 2] = ["--listen", "127.0.0.1:0"];

fn opened() -> Running {
    let mut running = Running::new();
    running.stop();
    running.start_with(&OPEN);
    running
}

fn remote(running: &Running) -> String {
    running.announced()["remote"].as_str().unwrap().to_owned()
}

/// Another machine, as far as a home makes one.
struct Elsewhere {
    home: tempfile::TempDir,
}

impl Elsewhere {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    /// Makes a key there, and allows it here.
    fn allowed(running: &Running, name: &str, role: &str) -> Self {
        let elsewhere = Self::new();
        let made = elsewhere.make_key(name);
        running.ok(&["keys", "allow", name, made["public"].as_str().unwrap(), "--role", role]);
        elsewhere
    }

    fn make_key(&self, name: &str) -> Value {
        let output = command(self.home.path()).args(["--json", "keys", "new", name]).output().unwrap();
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn key(&self, name: &str) -> String {
        self.home.path().join("keys").join(format!("{name}.key")).to_str().unwrap().to_owned()
    }

    /// The exit code, and what was printed.
    fn ask(&self, remote: &str, name: &str, arguments: &[&str]) -> (i32, Value) {
        let far = ["--json", "--connect", remote, "--key", &self.key(name)];
        let output = command(self.home.path()).args(far).args(arguments).output().unwrap();
        let said = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code().unwrap(), said)
    }
}

#[test]
fn a_key_on_the_list_comes_in_with_its_role_until_it_is_revoked() {
    let running = opened();
    let remote = remote(&running);
    let laptop = Elsewhere::new();
    let made = laptop.make_key("laptop");
    let (code, said) = laptop.ask(&remote, "laptop", &["doctor"]);
    assert_eq!(code, 1);
    assert!(said["error"]["message"].as_str().unwrap().contains("not on this host's list"), "{said}");
    assert!(said["error"]["data"]["next"].as_str().unwrap().contains("telos keys allow"), "{said}");

    let public = made["public"].as_str().unwrap();
    running.ok(&["keys", "allow", "laptop", public, "--role", "client"]);
    let (code, said) = laptop.ask(&remote, "laptop", &["doctor"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(said["home"].as_str().unwrap(), running.path().to_str().unwrap());
    let (code, said) = laptop.ask(&remote, "laptop", &["object", "set", "x", "y", "1"]);
    assert_eq!((code, &said["error"]["data"]["kind"]), (1, &Value::from("denied")), "{said}");

    let desk = Elsewhere::allowed(&running, "desk", "operator");
    assert_eq!(desk.ask(&remote, "desk", &["object", "list"]).0, 0);
    let names: Vec<Value> = running.ok(&["keys", "list"])["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["name"].clone())
        .collect();
    assert_eq!(names, ["laptop", "desk"]);

    running.ok(&["keys", "revoke", "laptop"]);
    assert_eq!(laptop.ask(&remote, "laptop", &["object", "list"]).0, 1);
    assert_eq!(desk.ask(&remote, "desk", &["object", "list"]).0, 0);
    assert!(running.refused(&["keys", "revoke", "laptop"]).contains("no key is called laptop"));

    let doctor = running.doctor();
    let guard = doctor["checks"].as_array().unwrap().iter().find(|check| check["check"] == "guard").unwrap();
    assert!(guard["cause"].as_str().unwrap().contains("unknown-key 2"), "{guard}");
    eventually("the refusals are in the journal", || {
        running.text(&["--json", "journal", "tail", "--lines", "1000"]).contains("guard.refused")
    });
}

#[test]
fn a_host_keeps_its_key_and_its_clients_find_it_again() {
    let mut running = opened();
    let desk = Elsewhere::allowed(&running, "desk", "operator");
    let key = |remote: &str| remote.rsplit_once('/').unwrap().1.to_owned();
    let before = key(&remote(&running));
    running.stop();
    running.start_with(&OPEN);
    assert_eq!(key(&remote(&running)), before);
    assert_eq!(running.ok(&["keys", "list"])["host"], before.as_str());
    assert_eq!(desk.ask(&remote(&running), "desk", &["doctor"]).0, 0);
}

#[test]
fn what_works_at_a_home_is_not_done_at_another_host_by_mistake() {
    let elsewhere = Elsewhere::new();
    elsewhere.make_key("k");
    let remote = format!("noise:127.0.0.1:1/{}", "0".repeat(64));
    for line in ["keys list", "store restore ./x", "store evolve --script ./x", "model list", "up"] {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let (code, said) = elsewhere.ask(&remote, "k", &arguments);
        assert_eq!((code, &said["error"]["data"]["kind"]), (2, &Value::from("usage")), "{line}: {said}");
    }
    // Nobody is there, and nothing of this home is shown in its place.
    for line in ["doctor", "store verify", "store stats", "journal tail", "object list"] {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let (code, said) = elsewhere.ask(&remote, "k", &arguments);
        assert_eq!((code, &said["error"]["data"]["kind"]), (1, &Value::from("refused")), "{line}: {said}");
    }
    let output = command(elsewhere.home.path()).args(["--connect", &remote, "doctor"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "without a key");
}

/// Ended when the test does.
struct Foreground(Child);

impl Drop for Foreground {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_proxy_leads_local_programs_to_the_host() {
    let running = opened();
    let desk = Elsewhere::allowed(&running, "desk", "client");
    let socket = desk.home.path().join("proxy.sock");
    let log = desk.home.path().join("proxy.log");
    let endpoint = format!("unix:{}", socket.display());
    let proxy = command(desk.home.path())
        .args(["--json", "bridge", "proxy", "--listen", &endpoint])
        .args(["--connect", &remote(&running), "--key", &desk.key("desk")])
        .stdout(std::fs::File::create(&log).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _proxy = Foreground(proxy);
    let said = |log: &Path| std::fs::read_to_string(log).unwrap();
    eventually("the proxy is ready", || said(&log).contains("\"ready\":true"));
    let ready: Value = serde_json::from_str(&said(&log)).unwrap();
    assert_eq!(
        (&ready["role"], &ready["endpoint"]),
        (&Value::from("client"), &Value::from(endpoint.as_str()))
    );

    // Our own commands find a host by the file that names its endpoint.
    std::fs::create_dir_all(desk.home.path().join("run")).unwrap();
    std::fs::write(desk.home.path().join("run/endpoint"), &endpoint).unwrap();
    let output = command(desk.home.path()).args(["--json", "doctor"]).output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["home"].as_str().unwrap(), running.path().to_str().unwrap(), "{said}");
}

#[test]
fn a_worker_whose_key_is_revoked_says_so_and_names_the_host_that_it_looks_for() {
    let running = opened();
    let remote = remote(&running);
    let elsewhere = Elsewhere::allowed(&running, "helper", "worker");
    let log = elsewhere.home.path().join("worker.log");
    let file = std::fs::File::create(&log).unwrap();
    let mut worker = command(elsewhere.home.path());
    worker.args(["--connect", &remote, "--key", &elsewhere.key("helper"), "worker", "--roles", "sandbox"]);
    let mut worker = worker.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    eventually("it is welcome", || said().contains("ready"));
    running.ok(&["keys", "revoke", "helper"]);
    eventually("it says why it is not any more", || said().contains("refused our key"));
    eventually("and where it looks", || said().contains("looking for its host"));
    worker.kill().unwrap();
    worker.wait().unwrap();
    let said = said();
    assert!(said.contains(&format!("looking for its host  endpoint {remote}")), "{said}");
    assert!(said.contains("telos keys allow") && !said.contains("unix:"), "{said}");
    assert_eq!(said.matches("refused our key").count(), 1, "{said}");
}
