//! What went wrong in JavaScript, in the words of whoever repairs it: name, message, and where.

use rquickjs::{CaughtError, Ctx, Object, Value};

/// Longest text that is passed on.
const TEXT_CHARS_MAX: usize = 4_000;
/// Lines of the stack that are passed on.
const FRAMES_MAX: usize = 4;

/// Why there is no value.
pub(crate) enum Problem {
    /// The arguments do not fit, in the behaviour's words.
    BadArguments(String),
    /// The behaviour declines, in its words.
    Refused(String),
    /// An error that nobody caught.
    Broken(String),
}

impl Problem {
    /// As one text, whatever it is.
    pub(crate) fn into_text(self) -> String {
        let (Self::BadArguments(text) | Self::Refused(text) | Self::Broken(text)) = self;
        text
    }

    pub(crate) fn of<'js>(context: &Ctx<'js>, caught: CaughtError<'js>) -> Self {
        match caught {
            CaughtError::Exception(exception) => Self::of_error(exception.as_object()),
            CaughtError::Value(value) => Self::Broken(format!("it threw {}", shown(context, value))),
            CaughtError::Error(error) => Self::Broken(error.to_string()),
        }
    }

    fn of_error(error: &Object<'_>) -> Self {
        let read = |name: &str| error.get::<_, String>(name).unwrap_or_default();
        let (name, message) = (read("name"), read("message"));
        match name.as_str() {
            "Refusal" => Self::Refused(cut(&message)),
            "BadArguments" => Self::BadArguments(cut(&message)),
            _ => {
                Self::Broken(cut(&format!("{name}: {message}{}{}", places(&read("stack")), bound(&message))))
            }
        }
    }

    /// The same of a source that cannot be read: with what can be.
    pub(crate) fn of_source(self, source: &str) -> Self {
        match self.of_imports(source) {
            Self::Broken(text) if text.starts_with("SyntaxError: ") => Self::Broken(format!(
                "{text}; a behaviour is one module of plain JavaScript, without types or imports"
            )),
            other => other,
        }
    }

    /// The same of a source that imports something: with where it does.
    pub(crate) fn of_imports(self, source: &str) -> Self {
        match self {
            Self::Broken(text) => match imported(&text) {
                Some(name) => {
                    let place = import_of(source, name).unwrap_or_default();
                    Self::Broken(format!(
                        "it imports '{name}'{place}; a behaviour is one module and imports nothing"
                    ))
                }
                None => Self::Broken(text),
            },
            other => other,
        }
    }
}

/// Where it happened: the behaviour's own lines of a stack, innermost first.
fn places(stack: &str) -> String {
    let own = stack.lines().map(str::trim).filter(|line| line.contains("behaviour.js"));
    let frames: Vec<&str> = own.take(FRAMES_MAX).collect();
    if frames.is_empty() { String::new() } else { format!(" {}", frames.join(" ")) }
}

/// What a bound is, for whoever came to it.
fn bound(message: &str) -> &'static str {
    match message {
        "interrupted" => {
            "; it worked longer than it may: some hundred milliseconds for a message, some ten outside of functions"
        }
        "out of memory" => "; a message has 40 MiB",
        _ => "",
    }
}

/// The module that there is none of, in the engine's words.
fn imported(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("could not load module '")?;
    rest.split_once('\'').map(|(name, _)| name)
}

/// Where a source imports a module, which may be named there as one beside it.
fn import_of(source: &str, name: &str) -> Option<String> {
    let quoted = ["'", "\"", "'./", "\"./"].map(|begin| format!("{begin}{name}{}", &begin[..1]));
    let places = quoted.iter().flat_map(|quoted| source.match_indices(quoted.as_str()).map(|(at, _)| at));
    let is_imported = |at: &usize| {
        let before = source.get(..*at).unwrap_or_default().trim_end();
        before.ends_with("from") || before.ends_with("import")
    };
    let before = source.get(..places.filter(is_imported).min()?)?;
    let line = before.rsplit('\n').next().unwrap_or_default();
    Some(format!(" at behaviour.js:{}:{}", before.matches('\n').count() + 1, line.chars().count() + 1))
}

fn shown<'js>(context: &Ctx<'js>, value: Value<'js>) -> String {
    let json = context.json_stringify(value).ok().flatten().and_then(|text| text.to_string().ok());
    json.map_or_else(|| "something that is not JSON".into(), |json| cut(&json))
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}
