//! Imports inference, which nobody has by default. Ungranted it must be told so, and nothing else may happen.

use telos_sdk::inference::Prompt;
use telos_sdk::prelude::*;

struct Overreacher;

#[derive(Deserialize)]
struct Think {
    #[serde(default = "question")]
    about: String,
}

/// Overreaches.
#[plugin]
impl Overreacher {
    /// Asks the default mind; refuses with the host's reason when it may not.
    #[selector]
    #[example(name = "thinks", arguments = {"about": "paths"}, generate = "a path", returns = "a path")]
    fn think(_this: &Receiver, arguments: Think) -> Result<String, Failure> {
        Ok(Prompt::new().user(arguments.about).max_tokens(16).generate()?.text()?)
    }

    /// Answers at once: the component is served all the same.
    #[selector(read_only)]
    #[example(name = "answers", returns = "pong")]
    fn ping(_this: &Receiver) -> Result<&'static str, Failure> {
        Ok("pong")
    }
}

fn question() -> String {
    "Say one word.".to_owned()
}
