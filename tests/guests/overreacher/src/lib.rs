//! Imports inference, which nobody has by default, and tries everything else that a program can reach for. Ungranted it
//! must be told so, and nothing else may happen.

use std::net::{TcpListener, TcpStream, UdpSocket};

use telos_sdk::inference::Prompt;
use telos_sdk::prelude::*;

struct Overreacher;

#[derive(Deserialize)]
struct Think {
    #[serde(default = "question")]
    about: String,
}

/// Overreaches.
#[plugin]
impl Overreacher {
    /// Asks the default mind; refuses with the host's reason when it may not.
    #[selector]
    #[example(name = "thinks", arguments = {"about": "paths"}, generate = "a path", returns = "a path")]
    fn think(_this: &Receiver, arguments: Think) -> Result<String, Failure> {
        Ok(Prompt::new().user(arguments.about).max_tokens(16).generate()?.text()?)
    }

    /// Tries files, sockets, names and the environment, and answers what it got hold of.
    #[selector(read_only)]
    #[example(name = "gets hold of nothing", returns = [])]
    fn reach(_this: &Receiver) -> Result<Vec<&'static str>, Failure> {
        let tries = [
            ("a file", std::fs::read("/etc/passwd").is_ok()),
            ("a folder", std::fs::read_dir("/").is_ok()),
            ("a place to write", std::fs::write("/tmp/overreached", "x").is_ok()),
            ("the environment", std::env::vars_os().next().is_some()),
            ("arguments", std::env::args_os().next().is_some()),
            ("a connection", TcpStream::connect(("127.0.0.1", 22)).is_ok()),
            ("a port", TcpListener::bind(("127.0.0.1", 0)).is_ok()),
            ("datagrams", UdpSocket::bind(("127.0.0.1", 0)).is_ok()),
            ("a name", std::net::ToSocketAddrs::to_socket_addrs("localhost:80").is_ok()),
        ];
        Ok(tries.into_iter().filter(|(_, got)| *got).map(|(what, _)| what).collect())
    }

    /// Answers at once: the component is served all the same.
    #[selector(read_only)]
    #[example(name = "answers", returns = "pong")]
    fn ping(_this: &Receiver) -> Result<&'static str, Failure> {
        Ok("pong")
    }
}

fn question() -> String {
    "Say one word.".to_owned()
}
