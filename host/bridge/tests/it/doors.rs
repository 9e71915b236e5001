//! One host at several private sockets, each with the most that its peers may do.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use telos_bridge::{BridgeConfig, BridgeError, Client, ClientConfig, Door, Endpoint, Role, Server, serve};
use tempfile::TempDir;

use crate::fixture::{Deeds, SOON, calm, echo, performer, within};

fn doors(dir: &TempDir) -> Vec<Door> {
    let door = |role: Role| Door {
        endpoint: Endpoint::Unix(dir.path().join(format!("{}.sock", role.as_str()))),
        role_max: role,
    };
    Role::ALL.map(door).to_vec()
}

async fn serve_at(endpoint: Endpoint, config: BridgeConfig) -> Result<Server, BridgeError> {
    serve(endpoint, performer(&Arc::<Deeds>::default()), config).await
}

async fn client(endpoint: &Endpoint, role: Role) -> Client {
    let config = ClientConfig { role, ..ClientConfig::default() };
    Client::connect(endpoint.clone(), config).await.unwrap()
}

async fn role_of(client: &Client) -> Value {
    client.call("role", Value::Null, within(SOON)).await.unwrap()
}

#[tokio::test]
async fn a_door_bounds_what_its_peers_are_granted_and_the_endpoint_does_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let config = BridgeConfig { doors: doors(&dir), ..calm() };
    let server = serve_at(Endpoint::Unix(dir.path().join("host.sock")), config).await.unwrap();
    for (asked, granted) in
        [(Role::Operator, ["Client", "Worker", "Operator"]), (Role::Client, ["Client", "Client", "Client"])]
    {
        for (door, granted) in doors(&dir).iter().zip(granted) {
            assert_eq!(role_of(&client(&door.endpoint, asked).await).await, json!(granted), "{door:?}");
        }
    }
    assert_eq!(role_of(&client(server.endpoint(), Role::Operator).await).await, json!("Operator"));
}

#[tokio::test]
async fn a_door_needs_no_token_where_the_endpoint_does() {
    let dir = tempfile::tempdir().unwrap();
    let token_file = Some(dir.path().join("token"));
    let config = BridgeConfig { doors: doors(&dir), token_file: token_file.clone(), ..calm() };
    let server = serve_at("tcp:127.0.0.1:0".parse().unwrap(), config).await.unwrap();
    let without = Client::connect(server.endpoint().clone(), ClientConfig::default()).await;
    assert!(without.is_err());
    let config = ClientConfig { token_file, ..ClientConfig::default() };
    let by_port = Client::connect(server.endpoint().clone(), config).await.unwrap();
    let by_door = client(&doors(&dir)[0].endpoint, Role::Client).await;
    for round in 0..20 {
        assert_eq!(echo(&by_port, json!(round)).await, json!(round));
        assert_eq!(echo(&by_door, json!([round])).await, json!([round]));
    }
}

#[tokio::test]
async fn a_stopped_host_leaves_its_doors_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let config = BridgeConfig { doors: doors(&dir), drain: Duration::from_millis(100), ..calm() };
        serve_at(Endpoint::Unix(dir.path().join("host.sock")), config)
    };
    for round in 0..3 {
        let server = start().await.unwrap();
        let peer = client(&doors(&dir)[1].endpoint, Role::Worker).await;
        assert_eq!(echo(&peer, json!(round)).await, json!(round));
        assert!(matches!(start().await, Err(BridgeError::InUse { .. })));
        server.shutdown().await;
    }
}

#[tokio::test]
async fn a_port_is_no_door() {
    let dir = tempfile::tempdir().unwrap();
    let door = Door { endpoint: "tcp:127.0.0.1:0".parse().unwrap(), role_max: Role::Client };
    let config = BridgeConfig { doors: vec![door], ..calm() };
    let refused = serve_at(Endpoint::Unix(dir.path().join("host.sock")), config).await;
    assert!(matches!(refused, Err(BridgeError::Door { .. })), "{refused:?}");
}
