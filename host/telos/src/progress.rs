//! How far something long is: a bar on standard error for whoever watches a terminal, nothing for programs.

use serde_json::Value;

use crate::connection::{Connection, Piece};
use crate::error::CommandError;
use crate::output::{Output, field};

/// Columns of the bar itself.
const BAR_COLUMNS: usize = 24;
/// What a backup of the largest store takes on a slow disk, many times over.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);

/// Shows one telling.
pub(crate) fn show(told: &Value, output: &Output) {
    if !output.is_json() {
        output.progress(&bar(told));
    }
}

/// Takes the bar away, before a result or an error is printed.
pub(crate) fn clear(output: &Output) {
    if !output.is_json() {
        output.progress("");
    }
}

/// One call of something long; what it tells meanwhile is shown.
pub(crate) async fn call(
    host: &Connection,
    method: &str,
    params: Value,
    output: &Output,
) -> Result<Value, CommandError> {
    let mut pieces = host.stream(method, params, DEADLINE).await;
    let answer = loop {
        match pieces.next().await {
            Ok(Some(Piece::Chunk { value, .. })) => show(&value, output),
            Ok(Some(Piece::Reset { .. })) => {}
            Ok(Some(Piece::Result(value))) => break Ok(value),
            Ok(None) => break Ok(Value::Null),
            Err(error) => break Err(error.into()),
        }
    };
    clear(output);
    answer
}

/// `copying rows   [############            ]  50 %  512 of 1024`
fn bar(told: &Value) -> String {
    let (done, total) = (told["done"].as_u64().unwrap_or(0), told["total"].as_u64().unwrap_or(0));
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100).min(100);
    let filled = usize::try_from(percent).unwrap_or(100) * BAR_COLUMNS / 100;
    let (full, rest) = ("#".repeat(filled), " ".repeat(BAR_COLUMNS - filled));
    format!("{:<16} [{full}{rest}] {percent:3} %  {done} of {total}", field(told, "doing"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_bar_fills_and_never_overflows() {
        let told =
            |done: u64, total: u64| bar(&json!({"doing": "copying rows", "done": done, "total": total}));
        assert_eq!(told(1, 2), "copying rows     [############            ]  50 %  1 of 2");
        assert!(told(0, 0).contains("100 %"), "{}", told(0, 0));
        assert!(told(3, 2).contains("] 100 %"), "{}", told(3, 2));
    }
}
