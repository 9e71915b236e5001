//! Says which release it is, together with another component: of one set both are of one version.

use telos_sdk::prelude::*;

struct Twin;

#[derive(Deserialize)]
struct Asked {
    /// The object to ask for its release.
    to: String,
    /// How often, in turns with itself.
    #[serde(default = "once")]
    times: u64,
}

/// Is one of two.
#[plugin(id = "twin", version = "0.1.0")]
#[slot(name = "count", default = 0, summary = "How often it was asked.")]
impl Twin {
    /// Answers the releases of itself and of the other, as often as asked.
    #[selector(read_only)]
    #[example(name = "asks", arguments = {"to": "0123456789abcdef0123456789abcdef"}, send = "0.1.0", returns = ["0.1.0", "0.1.0"])]
    fn both(_this: &Receiver, asked: Asked) -> Result<Vec<String>, Failure> {
        let mut releases = Vec::new();
        for _ in 0..asked.times {
            releases.push("0.1.0".to_owned());
            releases.push(object(&asked.to)?.send("release", &Value::Null)?);
        }
        Ok(releases)
    }

    /// The same, and counts it.
    #[selector]
    #[example(name = "counts", arguments = {"to": "0123456789abcdef0123456789abcdef"}, send = "0.1.0", returns = ["0.1.0", "0.1.0"], after = {"count": 1})]
    fn both_and_count(this: &Receiver, asked: Asked) -> Result<Vec<String>, Failure> {
        *this.slot::<u64>("count")? += 1;
        Self::both(this, asked)
    }

    /// How often it was asked.
    #[selector(read_only)]
    #[example(name = "reads", before = {"count": 3}, returns = 3)]
    fn asked(this: &Receiver) -> Result<u64, Failure> {
        Ok(*this.slot("count")?)
    }
}

fn object(to: &str) -> Result<Object, Failure> {
    match to.parse() {
        Ok(object) => Ok(object),
        Err(_) => Object::find(to)?.ok_or_else(|| Failure::refused(format!("no object is called `{to}`"))),
    }
}

fn once() -> u64 {
    1
}
