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
            _ => Self::Broken(cut(&format!("{name}: {message}{}", places(&read("stack"))))),
        }
    }
}

/// Where it happened: the behaviour's own lines of a stack, innermost first.
fn places(stack: &str) -> String {
    let own = stack.lines().map(str::trim).filter(|line| line.contains("behaviour.js"));
    let frames: Vec<&str> = own.take(FRAMES_MAX).collect();
    if frames.is_empty() { String::new() } else { format!(" {}", frames.join(" ")) }
}

fn shown<'js>(context: &Ctx<'js>, value: Value<'js>) -> String {
    let json = context.json_stringify(value).ok().flatten().and_then(|text| text.to_string().ok());
    json.map_or_else(|| "something that is not JSON".into(), |json| cut(&json))
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}
