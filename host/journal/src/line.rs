//! One line: what a producer says, and its JSON text.
//!
//! Field names are those of the OpenTelemetry log data model. What producers say sits in `event_name`, `body`,
//! `trace_id` and `attributes`; every other top-level field is the journal's own and cannot be set by them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest line, its newline included. A longer one is cut and marked `"truncated": true`.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Room kept for what the writer puts before a line: time, run, sequence and producer.
const PREFIX_BYTES_MAX: usize = 1_024;
const REST_BYTES_MAX: usize = LINE_BYTES_MAX - PREFIX_BYTES_MAX;
const NAME_BYTES_MAX: usize = 128;

/// How urgent a line is, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Severity {
    /// Every frame and step.
    Trace,
    /// Every request.
    Debug,
    /// Start, swap, stop.
    Info,
    /// Degraded, still serving.
    Warn,
    /// Someone must act.
    Error,
    /// The process cannot go on.
    Fatal,
}

/// A line as a producer says it. Names are cut at 128 bytes; the whole at [`LINE_BYTES_MAX`].
#[derive(Clone, Debug)]
pub struct Line {
    /// How urgent.
    pub severity: Severity,
    /// What happened, dotted and lower case: `plugin.swap`.
    pub event_name: Cow<'static, str>,
    /// One sentence for people.
    pub body: String,
    /// Ties together the lines of one message tree.
    pub trace_id: Option<String>,
    /// Details. `incident`, when a number, survives cutting.
    pub attributes: Map<String, Value>,
}

/// An audit row on its way into the journal. Written as `event_name: "audit.<kind>"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditFact {
    /// The row's number; rises, may have gaps.
    pub number: u64,
    /// When it was decided, wall clock, milliseconds since 1970.
    pub at_ms: u64,
    /// The commit that decided it.
    pub position: u64,
    /// What was decided: `plugin.activate`.
    pub kind: String,
    /// About whom or what.
    pub subject: String,
    /// Everything else.
    pub detail: Value,
}

impl Severity {
    /// All severities, least urgent first.
    pub const ALL: [Severity; 6] =
        [Severity::Trace, Severity::Debug, Severity::Info, Severity::Warn, Severity::Error, Severity::Fatal];

    /// The OpenTelemetry `severity_text`.
    pub fn text(self) -> &'static str {
        match self {
            Severity::Trace => "TRACE",
            Severity::Debug => "DEBUG",
            Severity::Info => "INFO",
            Severity::Warn => "WARN",
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        }
    }

    /// The OpenTelemetry `severity_number`: the first of each range of four.
    pub fn number(self) -> u8 {
        match self {
            Severity::Trace => 1,
            Severity::Debug => 5,
            Severity::Info => 9,
            Severity::Warn => 13,
            Severity::Error => 17,
            Severity::Fatal => 21,
        }
    }

    /// Reads a severity as people type it, in any case; `warning` also means WARN.
    pub fn parse(text: &str) -> Option<Severity> {
        let upper = text.to_ascii_uppercase();
        let known = Severity::ALL.into_iter().find(|severity| severity.text() == upper);
        known.or((upper == "WARNING").then_some(Severity::Warn))
    }

    /// Must it be on the disk before the writer does anything else?
    pub fn is_urgent(self) -> bool {
        self >= Severity::Error
    }
}

impl Line {
    /// A line without trace and attributes.
    pub fn new(
        severity: Severity,
        event_name: impl Into<Cow<'static, str>>,
        body: impl Into<String>,
    ) -> Line {
        Line {
            severity,
            event_name: event_name.into(),
            body: body.into(),
            trace_id: None,
            attributes: Map::new(),
        }
    }

    /// Adds one attribute.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Line {
        self.attributes.insert(key.to_owned(), value.into());
        self
    }

    /// Sets the trace.
    #[must_use]
    pub fn trace(mut self, trace_id: impl Into<String>) -> Line {
        self.trace_id = Some(trace_id.into());
        self
    }

    /// The line's JSON object without its opening brace; the writer puts its own fields before it.
    pub(crate) fn encode_rest(&self) -> String {
        encode_rest(self, None, false)
    }
}

impl AuditFact {
    /// As [`Line::encode_rest`]. `repeated`: said before, but perhaps into a file that did not reach the disk.
    pub(crate) fn encode_rest(&self, repeated: bool) -> String {
        let body = format!("{} {} (audit {})", self.kind, self.subject, self.number);
        let mut line = Line::new(Severity::Info, format!("audit.{}", self.kind), body);
        line.attributes = self.attributes();
        encode_rest(&line, Some(self.number), repeated)
    }

    fn attributes(&self) -> Map<String, Value> {
        let mut attributes = Map::new();
        attributes.insert("number".into(), self.number.into());
        attributes.insert("at_ms".into(), self.at_ms.into());
        attributes.insert("position".into(), self.position.into());
        attributes.insert("kind".into(), self.kind.clone().into());
        attributes.insert("subject".into(), self.subject.clone().into());
        attributes.insert("detail".into(), self.detail.clone());
        attributes
    }
}

/// A producer's name as it stands in the file: cut, and escaped with its quotes.
pub(crate) fn encode_name(name: &str) -> String {
    Value::from(cut(name, NAME_BYTES_MAX)).to_string()
}

#[derive(Serialize)]
struct Rest<'a> {
    severity_text: &'a str,
    severity_number: u8,
    event_name: &'a str,
    body: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    attributes: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fact: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    repeated: bool,
    #[serde(skip_serializing_if = "is_false")]
    truncated: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

fn encode_rest(line: &Line, fact: Option<u64>, repeated: bool) -> String {
    let whole = Rest {
        severity_text: line.severity.text(),
        severity_number: line.severity.number(),
        event_name: cut(&line.event_name, NAME_BYTES_MAX),
        body: &line.body,
        trace_id: line.trace_id.as_deref().map(|id| cut(id, NAME_BYTES_MAX)),
        attributes: &line.attributes,
        fact,
        repeated,
        truncated: false,
    };
    let text = to_json(&whole);
    if text.len() <= REST_BYTES_MAX { text } else { encode_cut(&whole) }
}

/// Halves what is kept until it fits: escaping can make one byte six, so no single cut is sure to.
fn encode_cut(whole: &Rest) -> String {
    let attributes_text = to_json(whole.attributes);
    let mut keep_bytes = REST_BYTES_MAX / 2;
    loop {
        let attributes = cut_attributes(whole.attributes, &attributes_text, keep_bytes / 2);
        let text = to_json(&Rest {
            body: cut(whole.body, keep_bytes),
            attributes: &attributes,
            truncated: true,
            ..*whole
        });
        if text.len() <= REST_BYTES_MAX {
            return text;
        }
        keep_bytes /= 2;
    }
}

/// Attributes that fit are kept as they are; others become the beginning of their text, and the incident.
fn cut_attributes(attributes: &Map<String, Value>, text: &str, keep_bytes: usize) -> Map<String, Value> {
    if text.len() <= keep_bytes {
        return attributes.clone();
    }
    let mut kept = Map::new();
    if let Some(incident) = attributes.get("incident").filter(|value| value.is_u64()) {
        kept.insert("incident".into(), incident.clone());
    }
    kept.insert("cut".into(), cut(text, keep_bytes).into());
    kept
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn to_json(value: &impl Serialize) -> String {
    // Strings, integers and JSON values always serialise; an empty object keeps the line readable if that ever ends.
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_cut(line: &Line) -> Value {
        let text = line.encode_rest();
        assert!(text.len() <= REST_BYTES_MAX, "{} bytes", text.len());
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_long_body_is_cut_and_marked() {
        let line = Line::new(Severity::Info, "long", "\u{1}".repeat(1 << 20)).with("incident", 7);
        let value = check_cut(&line);
        assert_eq!(value["truncated"], true);
        assert_eq!(value["attributes"]["incident"], 7);
    }

    #[test]
    fn long_attributes_become_text_and_keep_the_incident() {
        let line = Line::new(Severity::Warn, "long", "é".repeat(70_000))
            .with("incident", 7)
            .with("rows", vec!["ü\n\"".repeat(1_000); 500]);
        let value = check_cut(&line);
        assert_eq!(value["attributes"]["incident"], 7);
        assert!(value["attributes"]["cut"].as_str().unwrap().starts_with('{'));
    }

    #[test]
    fn control_bytes_never_reach_the_file_raw() {
        let text = Line::new(Severity::Info, "x", "a\n\u{1b}[31m\u{0}").encode_rest();
        assert!(text.bytes().all(|byte| byte >= 0x20), "{text}");
    }

    #[test]
    fn a_short_line_is_not_marked() {
        let value = check_cut(&Line::new(Severity::Info, "short", "body").trace("t1"));
        assert_eq!(value.get("truncated"), None);
        assert_eq!(value["trace_id"], "t1");
        assert_eq!(value["severity_number"], 9);
    }
}
