//! What Babs is told before she answers. Pure, but for handing it to the host.
//!
//! Made for a very small mind, by trying 30 wordings and layouts on SmolLM2 135M and keeping this one. It is then still
//! a small mind: on ten facts not used for choosing, nine answers had the fact's key word, not all of them in a
//! sensible sentence. With one or two earlier turns between facts and question it was three or four of ten (on another
//! ten), since it repeats its own last answer; so the newest turns go in only when there is no fact to tell.

use telos_sdk::inference::Prompt;

use crate::memory::{Recalled, Turn};

/// Newest turns that go into a prompt without facts.
pub(crate) const RECENT: usize = 2;
const MAX_TOKENS: u32 = 80;
/// Characters of one fact or recent line.
const LINE_CHARS: usize = 240;
const WHO: &str = "You are Babs, a helpful AI assistant. Answer in one short sentence.";

/// One line of the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    System(String),
    User(String),
    Babs(String),
}

/// The conversation to be continued: who Babs is, then facts and the line, or else the newest turns and the line.
pub(crate) fn lines(said: &str, facts: &[Recalled], recent: &[Turn]) -> Vec<Line> {
    let mut lines = vec![Line::System(WHO.to_owned())];
    if facts.is_empty() {
        for turn in recent {
            lines.push(Line::User(clip(&turn.said, LINE_CHARS)));
            lines.push(Line::Babs(clip(&turn.answered, LINE_CHARS)));
        }
    }
    lines.push(Line::User(with_facts(said, facts)));
    lines
}

/// The lines as the host takes them.
pub(crate) fn compose(lines: &[Line]) -> Prompt {
    let start = Prompt::new().max_tokens(MAX_TOKENS).temperature(0.0);
    lines.iter().fold(start, |prompt, line| match line {
        Line::System(text) => prompt.system(text),
        Line::User(text) => prompt.user(text),
        Line::Babs(text) => prompt.assistant(text),
    })
}

/// At most `chars` characters, on one line; what is cut off shows as `...`.
pub(crate) fn clip(text: &str, chars: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(chars) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

fn with_facts(said: &str, facts: &[Recalled]) -> String {
    if facts.is_empty() {
        return said.to_owned();
    }
    // Farthest first, so that the nearest fact is next to the line.
    let told: Vec<_> = facts.iter().rev().map(|fact| clip(&fact.said, LINE_CHARS)).collect();
    let label = if said.ends_with('?') { "Question: " } else { "" };
    format!("{}\n\n{label}{said}", told.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(said: &str) -> Recalled {
        let object = "a".repeat(32).parse().unwrap();
        Recalled { object, distance: 0.1, said: said.into(), answered: "Fine.".into() }
    }

    fn turn(said: &str) -> Turn {
        let object = "b".repeat(32).parse().unwrap();
        Turn { object, number: 1, said: said.into(), answered: "I see.".into(), when_ms: 0 }
    }

    #[track_caller]
    fn check(said: &str, facts: &[&str], recent: &[&str], expected: &[&str]) {
        let facts: Vec<_> = facts.iter().map(|said| fact(said)).collect();
        let recent: Vec<_> = recent.iter().map(|said| turn(said)).collect();
        let lines = lines(said, &facts, &recent);
        assert_eq!(lines[0], Line::System(WHO.to_owned()));
        let texts: Vec<_> = lines[1..].iter().map(text).collect();
        assert_eq!(texts, expected);
    }

    fn text(line: &Line) -> &str {
        match line {
            Line::System(text) | Line::User(text) | Line::Babs(text) => text,
        }
    }

    #[test]
    fn without_memories_the_line_stands_alone() {
        check("Hello!", &[], &[], &["Hello!"]);
    }

    #[test]
    fn facts_come_right_before_the_question_nearest_last_and_replace_the_newest_turns() {
        let expected = "I have a dog. Rex is my dog.\n\nQuestion: Who is Rex?";
        check("Who is Rex?", &["Rex is my dog.", "I have a dog."], &["It rains."], &[expected]);
    }

    #[test]
    fn a_statement_is_not_called_a_question() {
        check("I like Rex.", &["Rex is my dog."], &[], &["Rex is my dog.\n\nI like Rex."]);
    }

    #[test]
    fn without_facts_the_newest_turns_come_first() {
        check("And you?", &[], &["I am well."], &["I am well.", "I see.", "And you?"]);
    }

    #[test]
    fn clip_keeps_characters_whole_and_lines_single() {
        assert_eq!(clip("a\n b\tc", 10), "a b c");
        assert_eq!(clip("äöü", 2), "äö...");
        assert_eq!(clip("äöü", 3), "äöü");
    }
}
