//! `logging`: lines for the journal, tagged with plugin, release and trace, cut to their bounds.

use serde_json::{Map, Value};

use crate::contract::logging;
use crate::instance::MessageState;
use crate::seams::{JournalLine, Severity};

const MESSAGE_BYTES_MAX: usize = 8 << 10;
const FIELDS_BYTES_MAX: usize = 16 << 10;

impl logging::Host for MessageState {
    async fn log(&mut self, level: logging::Level, message: String, fields: String) -> wasmtime::Result<()> {
        if !self.is_granted("logging")? {
            return Ok(());
        }
        let mut attributes = Map::new();
        attributes.insert("release".into(), self.release.version().to_string().into());
        attributes.insert("selector".into(), self.selector.clone().into());
        attributes.insert("fields".into(), parse_fields(&fields));
        let line = JournalLine {
            severity: severity(level),
            event: "plugin.log",
            body: cut(&message, MESSAGE_BYTES_MAX),
            trace: Some(self.tree()?.root.trace.clone()),
            plugin: Some(self.release.component.to_string()),
            attributes,
        };
        self.tree()?.surroundings.journal.record(line);
        Ok(())
    }
}

fn severity(level: logging::Level) -> Severity {
    match level {
        logging::Level::Trace => Severity::Trace,
        logging::Level::Debug => Severity::Debug,
        logging::Level::Info => Severity::Info,
        logging::Level::Warn => Severity::Warn,
        logging::Level::Error => Severity::Error,
    }
}

fn parse_fields(fields: &str) -> Value {
    if fields.len() > FIELDS_BYTES_MAX {
        return cut(fields, FIELDS_BYTES_MAX).into();
    }
    match serde_json::from_str(fields) {
        Ok(value @ Value::Object(_)) => value,
        _ => fields.into(),
    }
}

fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    format!("{}… (cut)", &text[..text.floor_char_boundary(bytes_max)])
}
