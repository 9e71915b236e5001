//! Where a host may listen, and what it does with what it finds there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use telos_bridge::{BridgeConfig, BridgeError, Client, ClientConfig, ConnectError, Endpoint, Token, serve};

use crate::fixture::{Host, calm, echo, performer};
use crate::wires::{Wires, on_every_wire};

async fn nobody_there_is_said_at_once_with_what_to_do(wires: Wires) {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::Unix(dir.path().join("host.sock"));
    let since = Instant::now();
    let error = Client::connect(endpoint.clone(), wires.calling(ClientConfig::default())).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoHost { .. }));
    assert_eq!(error.to_string(), format!("no host answers at {endpoint}; start one with `telos up`"));
    assert!(since.elapsed() < Duration::from_secs(2), "it waited");
}

async fn a_listener_that_never_greets_is_reported_as_stuck(wires: Wires) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let config = ClientConfig { connect_timeout: Duration::from_millis(200), ..ClientConfig::default() };
    let config = wires.calling(config);
    let error = Client::connect(Endpoint::Unix(path), config).await.unwrap_err();
    assert!(matches!(error, ConnectError::Silent { .. }), "{error}");
}

async fn the_file_of_a_dead_host_is_replaced(wires: Wires) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead listener leaves its file");
    let server =
        serve(Endpoint::Unix(path.clone()), performer(&Arc::default()), wires.serving(calm())).await.unwrap();
    let client = Client::connect(Endpoint::Unix(path), wires.calling(ClientConfig::default())).await.unwrap();
    assert_eq!(echo(&client, json!(1)).await, json!(1));
    server.shutdown().await;
}

async fn the_file_of_a_living_host_is_left_alone(wires: Wires) {
    let host = Host::start(wires, calm()).await;
    let error = serve(host.server.endpoint().clone(), performer(&Arc::default()), wires.serving(calm()))
        .await
        .unwrap_err();
    assert!(matches!(error, BridgeError::InUse { .. }), "{error}");
    let client = host.client().await;
    assert_eq!(echo(&client, json!(1)).await, json!(1));
}

async fn a_file_that_is_no_socket_is_left_alone(wires: Wires) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host.sock");
    std::fs::write(&path, "precious").unwrap();
    let error = serve(Endpoint::Unix(path.clone()), performer(&Arc::default()), wires.serving(calm()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not a socket"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

async fn only_the_owner_can_open_the_socket_file(wires: Wires) {
    use std::os::unix::fs::PermissionsExt as _;
    let host = Host::start(wires, calm()).await;
    let mode = std::fs::metadata(host.socket_path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

async fn a_tcp_endpoint_wants_its_token(wires: Wires) {
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    let any_port: Endpoint = "tcp:127.0.0.1:0".parse().unwrap();
    let error = serve(any_port.clone(), performer(&Arc::default()), wires.serving(calm())).await.unwrap_err();
    assert!(matches!(error, BridgeError::NoTokenFile { .. }), "{error}");

    let config = BridgeConfig { token_file: Some(token_file.clone()), ..wires.serving(calm()) };
    let server = serve(any_port, performer(&Arc::default()), config).await.unwrap();
    let wrong = [None, Some(Token::from_bytes([0; 32]))];
    for token in wrong {
        let config = ClientConfig { token, ..wires.calling(ClientConfig::default()) };
        let error = Client::connect(server.endpoint().clone(), config).await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("token"), "{error}");
    }
    let config = ClientConfig { token_file: Some(token_file), ..wires.calling(ClientConfig::default()) };
    let client = Client::connect(server.endpoint().clone(), config).await.unwrap();
    assert_eq!(echo(&client, json!(1)).await, json!(1));
    assert_eq!(server.stats().refused, 2);
}

#[tokio::test]
async fn an_open_port_is_not_served() {
    let endpoint = Endpoint::Tcp("0.0.0.0:0".parse().unwrap());
    assert!(matches!(
        serve(endpoint, performer(&Arc::default()), calm()).await,
        Err(BridgeError::Endpoint(_))
    ));
}

on_every_wire! {
    "current_thread":
        nobody_there_is_said_at_once_with_what_to_do,
        a_listener_that_never_greets_is_reported_as_stuck,
        the_file_of_a_dead_host_is_replaced,
        the_file_of_a_living_host_is_left_alone,
        a_file_that_is_no_socket_is_left_alone,
        only_the_owner_can_open_the_socket_file,
        a_tcp_endpoint_wants_its_token;
}
