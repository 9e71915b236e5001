//! `telos chat`: lines from standard input to a persona, its answers as they come.

use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::send::show_progress;
use crate::connection::{Connection, Piece};
use crate::error::{CommandError, usage};
use crate::output::{Output, field, rows, show};

/// A first answer includes loading a mind.
const DEADLINE: Duration = Duration::from_secs(600);
/// The longest line; longer ones are refused, not cut.
const LINE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// Whom to talk with: an object's name. May be left out when there is one persona.
    persona: Option<String>,
}

pub(crate) async fn run(chat: Chat, host: &Connection, output: &Output) -> Result<(), CommandError> {
    let persona = match chat.persona {
        Some(persona) => persona,
        None => only_persona(&host.call("plugin.list", json!({})).await?)?,
    };
    let is_live = std::io::stdin().is_terminal() && !output.is_json();
    if is_live {
        output.note(&format!("talking with {persona}; end with Ctrl-D"));
    }
    while let Some(line) = read_line(is_live, output).await? {
        match say(host, &persona, &line, output).await {
            // A person goes on after a failed turn; a script must not.
            Err(error @ CommandError::Call(_)) if is_live => output.note(&error.to_text()),
            outcome => outcome?,
        }
    }
    Ok(())
}

/// The one serving persona of a `plugin.list`.
fn only_persona(list: &Value) -> Result<String, CommandError> {
    let is_persona = |plugin: &&Value| plugin["kind"] == "persona" && plugin["state"] == "serving";
    let names: Vec<String> =
        rows(list, "plugins").filter(is_persona).map(|plugin| field(plugin, "id")).collect();
    match names.as_slice() {
        [name] => Ok(name.clone()),
        [] => Err(usage(
            "no persona is serving",
            "install one with `telos plugin install`, or name an object that understands `say`",
        )),
        several => Err(usage(
            format!("several personas are serving: {}", several.join(", ")),
            format!("name one: `telos chat {}`", several[0]),
        )),
    }
}

/// The next line that says something; nothing at the end of the input.
async fn read_line(is_live: bool, output: &Output) -> Result<Option<String>, CommandError> {
    loop {
        if is_live {
            output.progress("> ");
        }
        let Some(line) =
            tokio::task::spawn_blocking(read_stdin_line).await.map_err(std::io::Error::other)??
        else {
            return Ok(None);
        };
        let line = line.trim_end_matches(['\r', '\n']);
        if !line.trim().is_empty() {
            return Ok(Some(line.to_owned()));
        }
    }
}

fn read_stdin_line() -> Result<Option<String>, CommandError> {
    let mut line = String::new();
    let mut input = std::io::Read::take(std::io::stdin().lock(), LINE_BYTES_MAX as u64 + 1);
    let read = input.read_line(&mut line);
    let count =
        read.map_err(|source| CommandError::File { what: "cannot read standard input".into(), source })?;
    if count > LINE_BYTES_MAX {
        return Err(usage(
            format!("a line is longer than {LINE_BYTES_MAX} bytes"),
            "say it in shorter lines",
        ));
    }
    Ok((count > 0).then_some(line))
}

async fn say(host: &Connection, persona: &str, line: &str, output: &Output) -> Result<(), CommandError> {
    let params = json!({"object": persona, "selector": "say", "arguments": {"text": line}});
    let mut pieces = host.stream("object.send", params, DEADLINE).await;
    let mut answer = Answer::default();
    while let Some(piece) = pieces.next().await? {
        if output.is_json() {
            output.json(&piece_json(&piece))?;
            continue;
        }
        show_progress(&piece, output);
        match answer.take(&piece) {
            Said::Nothing => {}
            Said::More(text) => output.piece(&text)?,
            Said::Anew => output.line("\n(starting again)\n")?,
        }
    }
    Ok(())
}

fn piece_json(piece: &Piece) -> Value {
    match piece {
        Piece::Chunk { attempt, value } => json!({"chunk": value, "attempt": attempt}),
        Piece::Reset { attempt } => json!({"reset": attempt}),
        Piece::Result(value) => json!({"result": value}),
    }
}

/// What of an answer was printed so far.
#[derive(Default)]
struct Answer {
    has_text: bool,
}

#[derive(Debug, PartialEq)]
enum Said {
    Nothing,
    More(String),
    /// What is on the screen is void; the answer begins again.
    Anew,
}

impl Answer {
    fn take(&mut self, piece: &Piece) -> Said {
        match piece {
            Piece::Chunk { value, .. } => match value["token"].as_str() {
                Some(token) => {
                    self.has_text = true;
                    Said::More(token.to_owned())
                }
                None => Said::Nothing,
            },
            Piece::Reset { .. } if std::mem::take(&mut self.has_text) => Said::Anew,
            Piece::Reset { .. } => Said::Nothing,
            Piece::Result(_) if self.has_text => Said::More("\n".to_owned()),
            Piece::Result(answer) => Said::More(whole_text(&answer["value"]) + "\n"),
        }
    }
}

/// The text of an answer that came without pieces.
fn whole_text(value: &Value) -> String {
    value["text"].as_str().map(|text| show(&Value::from(text))).unwrap_or_else(|| show(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(value: Value) -> Piece {
        Piece::Chunk { attempt: 1, value }
    }

    /// What stands on the screen after these pieces.
    #[track_caller]
    fn check(pieces: &[Piece], expected: &str) {
        let mut answer = Answer::default();
        let said = pieces.iter().map(|piece| match answer.take(piece) {
            Said::Nothing => String::new(),
            Said::More(text) => text,
            Said::Anew => "<anew>".to_owned(),
        });
        assert_eq!(said.collect::<String>(), expected);
    }

    #[test]
    fn pieces_are_printed_once_and_the_result_only_ends_them() {
        let result = || Piece::Result(json!({"value": {"text": "hello"}}));
        check(&[chunk(json!({"token": "hel"})), chunk(json!({"token": "lo"})), result()], "hello\n");
        check(&[chunk(json!({"progress": {"fraction": 0.1}})), result()], "hello\n");
        check(&[Piece::Result(json!({"value": "plain"}))], "plain\n");
    }

    #[test]
    fn a_reset_prints_the_answer_anew() {
        let anew = Piece::Reset { attempt: 2 };
        check(&[Piece::Reset { attempt: 2 }, chunk(json!({"token": "a"}))], "a");
        check(&[chunk(json!({"token": "a"})), anew, chunk(json!({"token": "b"}))], "a<anew>b");
    }

    #[test]
    fn the_only_persona_is_chosen_and_several_are_named() {
        let plugin = |id: &str, kind: &str, state: &str| json!({"id": id, "kind": kind, "state": state});
        let list = |plugins: Vec<Value>| json!({"plugins": plugins});
        let babs = || plugin("babs", "persona", "serving");
        let others =
            vec![plugin("counter", "behaviour", "serving"), plugin("old", "persona", "staged"), babs()];
        assert_eq!(only_persona(&list(others)).unwrap(), "babs");
        let several = only_persona(&list(vec![babs(), plugin("cora", "persona", "serving")])).unwrap_err();
        assert!(several.to_text().contains("babs, cora"), "{}", several.to_text());
        assert_eq!(only_persona(&list(vec![])).unwrap_err().exit_code(), 2);
    }
}
