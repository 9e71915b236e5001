//! The module: what the mind wrote, and behind it what the architect knows better. Pure.
//!
//! ```text
//!        function handle(...)          as the mind wrote it, on its own lines and columns; `export` is blanked
//! // The architect's, ...
//! function checkedHandle(...)          arguments of another kind are refused; a number that is none is no answer
//! export { checkedHandle as handle };
//! ```
//! The check says of arguments what [`crate::sample::schema`] says.

use std::fmt::Write;

use telos_sdk::prelude::*;

use crate::sample::schema;

const MARK: &str = "// The architect's, from the message that was missed:";

/// The source in what a mind said: its first block of code, or all of it.
pub(crate) fn extract(said: &str) -> String {
    let Some((_, after)) = said.split_once("```") else { return said.trim().to_owned() };
    // The first line says the language.
    let code = after.split_once('\n').map_or("", |(_, code)| code);
    let code = code.split_once("```").map_or(code, |(code, _)| code);
    code.trim().to_owned()
}

/// The whole module.
pub(crate) fn complete(source: &str, sample: &Value) -> String {
    let schema = schema(sample);
    let mut whole =
        format!("{}\n\n{MARK}\nfunction checkedHandle(self, args, telos) {{\n", unexported(source));
    let fits = fits(&schema, "args", 0);
    if !fits.is_empty() {
        let wanted = json!(format!("wanted are arguments like {schema}"));
        let _ = writeln!(whole, "  if (!({})) telos.badArguments({wanted});", fits.join(" && "));
    }
    whole.push_str(
        "  const answer = handle(self, args, telos);
  if (typeof answer === 'number' && !Number.isFinite(answer)) telos.refuse(`the answer is ${answer}`);
  return answer;
}
export { checkedHandle as handle };
",
    );
    whole
}

/// What the mind wrote of a whole module.
pub(crate) fn written(whole: &str) -> String {
    let Some((source, _)) = whole.split_once(MARK) else { return whole.trim().to_owned() };
    let restored = source.lines().map(|line| match line.strip_prefix(BLANK) {
        Some(rest) if DECLARATIONS.iter().any(|word| rest.starts_with(word)) => format!("{EXPORT}{rest}"),
        _ => line.to_owned(),
    });
    restored.collect::<Vec<_>>().join("\n").trim().to_owned()
}

const EXPORT: &str = "export ";
/// As long, so that columns stay what they were.
const BLANK: &str = "       ";
const DECLARATIONS: [&str; 6] = ["function", "async function", "const", "let", "var", "class"];

fn unexported(source: &str) -> String {
    let line = |line: &str| match line.strip_prefix(EXPORT) {
        Some(rest) if DECLARATIONS.iter().any(|word| rest.starts_with(word)) => format!("{BLANK}{rest}"),
        Some(rest) if rest.trim_start().starts_with('{') && rest.contains('}') => String::new(),
        _ => line.to_owned(),
    };
    source.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Conditions in JavaScript that a value of the schema meets.
fn fits(schema: &Value, value: &str, depth: usize) -> Vec<String> {
    match schema["type"].as_str() {
        Some("array") => {
            let item = format!("item{depth}");
            let each = fits(&schema["items"], &item, depth + 1).join(" && ");
            let mut conditions = vec![format!("Array.isArray({value})")];
            conditions.extend((!each.is_empty()).then(|| format!("{value}.every(({item}) => {each})")));
            conditions
        }
        Some("object") => {
            let mut conditions =
                vec![format!("{value} !== null && typeof {value} === 'object' && !Array.isArray({value})")];
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let inner = format!("{value}[{}]", json!(name));
                conditions.extend(fits(&schema["properties"][name], &inner, depth));
            }
            conditions
        }
        Some(kind) => vec![format!("typeof {value} === '{kind}'")],
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_block_is_the_source_or_else_everything() {
        assert_eq!(extract("Sure:\n```js\nlet a;\n```\nand\n```js\nlet b;\n```"), "let a;");
        assert_eq!(extract("```javascript\r\nlet a;"), "let a;", "cut off");
        assert_eq!(extract(" let a; \n"), "let a;");
        assert_eq!(extract("```"), "");
    }

    #[test]
    fn lines_and_columns_of_the_mind_stay_what_they_were() {
        let source = "const two = 2;\nexport function handle(self, args) {\n  return args * two;\n}";
        let whole = complete(source, &json!(1));
        assert!(whole.starts_with("const two = 2;\n       function handle(self, args) {\n"), "{whole}");
        assert_eq!(written(&whole), source);
        assert_eq!(written(source), source, "where there is nothing of ours");
    }

    #[test]
    fn a_list_of_exports_goes_and_a_missing_export_does_not_matter() {
        let whole = complete("function handle() {}\nexport { handle };", &Value::Null);
        assert_eq!(whole.matches("export").count(), 1, "{whole}");
        assert!(!whole.contains("badArguments"), "a message without arguments says nothing of them: {whole}");
    }

    #[test]
    fn the_check_says_what_the_schema_says() {
        let conditions = |sample| fits(&schema(&sample), "args", 0).join(" && ");
        assert_eq!(conditions(json!("x")), "typeof args === 'string'");
        assert_eq!(
            conditions(json!([[1]])),
            "Array.isArray(args) && args.every((item0) => Array.isArray(item0) && item0.every((item1) => typeof item1 === 'number'))"
        );
        assert_eq!(
            conditions(json!({"it's \"a\"": {"b": 1}})),
            "args !== null && typeof args === 'object' && !Array.isArray(args) && args[\"it's \\\"a\\\"\"] !== null && typeof args[\"it's \\\"a\\\"\"] === 'object' && !Array.isArray(args[\"it's \\\"a\\\"\"])"
        );
    }
}
