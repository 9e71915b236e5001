//! Structured lines for the host's journal: `info!("counted", count = 3)`.
//!
//! A sentence first, formatted as by `format!` with captured names, then fields that serialise to JSON. Lines never
//! fail and never block; past 100 a second (bursts of 500) the host drops and counts them.

use serde_json::Value;

use crate::bindings::telos::host::logging as host;
pub use crate::bindings::telos::host::logging::Level;

/// Writes one line. The macros are the comfortable way.
///
/// `message`: one sentence, at most 8 KiB; longer is cut. `fields`: a JSON object of at most 16 KiB.
pub fn log(level: Level, message: &str, fields: &Value) {
    host::log(level, message, &fields.to_string());
}

/// Writes one line at a [`Level`]: `log!(Level::Info, "counted", count = 3)`.
#[macro_export]
macro_rules! log {
    ($level:expr, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {
        $crate::logging::log(
            $level,
            &::std::format!($message),
            &$crate::json!({ $((::std::stringify!($field)): $value),* }),
        )
    };
}

/// Writes a line for following one message in detail.
#[macro_export]
macro_rules! trace { ($($line:tt)*) => { $crate::log!($crate::logging::Level::Trace, $($line)*) }; }

/// Writes a line for following one plugin's work.
#[macro_export]
macro_rules! debug { ($($line:tt)*) => { $crate::log!($crate::logging::Level::Debug, $($line)*) }; }

/// Writes a line that an operator wants to see once.
#[macro_export]
macro_rules! info { ($($line:tt)*) => { $crate::log!($crate::logging::Level::Info, $($line)*) }; }

/// Writes a line about something degraded that still works.
#[macro_export]
macro_rules! warn { ($($line:tt)*) => { $crate::log!($crate::logging::Level::Warn, $($line)*) }; }

/// Writes a line about something that someone must act on.
#[macro_export]
macro_rules! error { ($($line:tt)*) => { $crate::log!($crate::logging::Level::Error, $($line)*) }; }
