//! Why a command did not do what it was asked, and the exit code that says so.

use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};
use telos_bridge::{CallError, ConnectError, Effect, EndpointError, RpcError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CommandError {
    /// The arguments parse and make no sense.
    #[error("{message}")]
    Usage { message: String, next: String },
    #[error("no host is running at {}", home.display())]
    NoHost { home: PathBuf },
    #[error(transparent)]
    Connect(Box<ConnectError>),
    #[error("{}: {source}", path.display())]
    Endpoint { path: PathBuf, source: EndpointError },
    #[error(transparent)]
    Call(Box<CallError>),
    /// Said by this process in the host's words, since no host was there to say it.
    #[error(transparent)]
    Said(Box<RpcError>),
    #[error("{what}: {source}")]
    File { what: String, source: io::Error },
    /// Refused or failed on this side of the bridge.
    #[error("{message}")]
    Refused { message: String, next: String },
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// What the argument parser says to people, as message and next step.
impl From<clap::Error> for CommandError {
    fn from(error: clap::Error) -> CommandError {
        let text = error.render().to_string();
        let mut paragraphs = text.split("\n\n").map(one_line);
        let message = paragraphs.next().unwrap_or_default();
        let help = "`telos --help` lists commands and options".to_owned();
        // Tips and the usage; what follows them is the parser's own pointer to --help.
        let next: Vec<String> =
            paragraphs.filter(|text| text.starts_with("Usage:") || text.starts_with("tip:")).collect();
        let next = if next.is_empty() { help } else { next.join("; ") };
        CommandError::Usage { message: message.trim_start_matches("error: ").to_owned(), next }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl From<ConnectError> for CommandError {
    fn from(error: ConnectError) -> CommandError {
        CommandError::Connect(Box::new(error))
    }
}

impl From<CallError> for CommandError {
    fn from(error: CallError) -> CommandError {
        CommandError::Call(Box::new(error))
    }
}

impl From<RpcError> for CommandError {
    fn from(error: RpcError) -> CommandError {
        CommandError::Said(Box::new(error))
    }
}

impl CommandError {
    /// 2 for what a different command line would mend, else 1.
    pub(crate) fn exit_code(&self) -> u8 {
        if matches!(self, CommandError::Usage { .. }) { 2 } else { 1 }
    }

    /// No host answers: what is in its files is all there is to learn.
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            CommandError::NoHost { .. } => true,
            CommandError::Connect(error) => matches!(**error, ConnectError::Silent { .. }),
            _ => false,
        }
    }

    /// The reader of our output went away: `telos … | head`. Nothing is wrong.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, CommandError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// For `--json`: one shape, whatever failed.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "error": self.to_rpc() })
    }

    /// For people: what and where, then what next.
    pub(crate) fn to_text(&self) -> String {
        let error = self.to_rpc();
        let mut text = format!("telos: {}", error.message);
        if let Some(effect) = self.effect_text(error.data.effect) {
            text.push_str(&format!("\n  {effect}"));
        }
        if let Some(next) = &error.data.next {
            text.push_str(&format!("\n  next: {next}"));
        }
        if let Some(incident) = error.data.incident {
            text.push_str(&format!("\n  details: incident {incident} in `telos journal tail`"));
        }
        text
    }

    /// Nothing where nothing can have happened anyway: the command did not come as far as asking a host.
    fn effect_text(&self, effect: Effect) -> Option<&'static str> {
        match (self, effect) {
            (_, Effect::Unknown) => Some("whether it took effect is not known"),
            (_, Effect::Committed) => Some("it took effect"),
            (CommandError::Call(_) | CommandError::Connect(_), Effect::None) => Some("nothing was changed"),
            _ => None,
        }
    }

    fn to_rpc(&self) -> RpcError {
        let (kind, next) = match self {
            CommandError::Call(error) => return error.to_rpc(),
            CommandError::Said(error) => return RpcError::clone(error),
            CommandError::Usage { next, .. } => ("usage", Some(next.clone())),
            CommandError::Refused { next, .. } => ("refused", Some(next.clone())),
            CommandError::NoHost { .. } => ("no-host", Some("start one with `telos up`".to_owned())),
            CommandError::Connect(error) => ("connect", connect_next(error).map(ToOwned::to_owned)),
            CommandError::Endpoint { .. } => {
                ("endpoint", Some("start the host again; it writes this file".to_owned()))
            }
            CommandError::File { .. } => ("file", None),
            CommandError::Output(_) => ("output", None),
        };
        let mut error = RpcError::new(kind, Effect::None, self.to_string());
        error.data.next = next;
        error
    }
}

fn connect_next(error: &ConnectError) -> Option<&'static str> {
    match error {
        ConnectError::Silent { .. } => {
            Some("`telos journal tail` shows what it did last; end its process if it stays so")
        }
        _ => None,
    }
}

/// A refusal of this process itself, and what to do next.
pub(crate) fn refused(message: impl Into<String>, next: impl Into<String>) -> CommandError {
    CommandError::Refused { message: message.into(), next: next.into() }
}

/// A mistake in the arguments that only shows once they are read.
pub(crate) fn usage(message: impl Into<String>, next: impl Into<String>) -> CommandError {
    CommandError::Usage { message: message.into(), next: next.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_host_says_where_and_what_next() {
        let error = CommandError::NoHost { home: "/home/ann/.telos".into() };
        assert_eq!(
            error.to_text(),
            "telos: no host is running at /home/ann/.telos\n  next: start one with `telos up`"
        );
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn the_argument_parser_s_words_become_message_and_next_step() {
        use clap::Parser;
        let said = |arguments: &[&str]| {
            let error = crate::command::Arguments::try_parse_from(arguments).unwrap_err();
            CommandError::from(error).to_json()["error"].clone()
        };
        let missing = said(&["telos", "send", "counter"]);
        assert_eq!(missing["data"]["kind"], "usage");
        assert_eq!(missing["message"], "the following required arguments were not provided: <SELECTOR>");
        assert!(missing["data"]["next"].as_str().unwrap().starts_with("Usage: telos send"), "{missing}");
        let unknown = said(&["telos", "sned"]);
        assert!(unknown["message"].as_str().unwrap().contains("sned"), "{unknown}");
        assert!(unknown["data"]["next"].as_str().unwrap().contains("send"), "{unknown}");
    }

    #[test]
    fn a_call_s_error_says_whether_it_took_effect() {
        let text = |effect| CommandError::from(CallError::Timeout { effect }).to_text();
        assert!(text(Effect::None).contains("\n  nothing was changed"), "{}", text(Effect::None));
        assert!(text(Effect::Unknown).contains("is not known"), "{}", text(Effect::Unknown));
    }

    #[test]
    fn a_host_s_error_keeps_kind_effect_next_and_incident() {
        let rpc = RpcError::new("trap", Effect::Unknown, "counter trapped")
            .with_next("see the journal")
            .with_incident(42);
        let error = CommandError::from(CallError::Host(rpc));
        let text = error.to_text();
        for part in ["counter trapped", "not known", "next: see the journal", "incident 42"] {
            assert!(text.contains(part), "{text}");
        }
        let data = &error.to_json()["error"]["data"];
        assert_eq!(
            (&data["kind"], &data["effect"], &data["incident"]),
            (&json!("trap"), &json!("unknown"), &json!(42))
        );
    }
}
