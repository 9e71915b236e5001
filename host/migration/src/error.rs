//! Why a migration did not happen. Nothing was changed, whatever it was, but for [`telos_store::DraftError::Unsynced`]:
//! then the store was changed, and a power cut may undo it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use telos_store::{DraftError, Failure, JsonError, NameError, ObjectId, ReadError, WriteError};

/// Why a migration did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvolveError {
    /// The script could not be read.
    #[error("{}: {cause}", path.display())]
    Unreadable {
        /// The script.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
    /// The script is longer than one may be.
    #[error("{}: more than {allowed} bytes, which one script may have", path.display())]
    ScriptTooLarge {
        /// The script.
        path: PathBuf,
        /// The bound.
        allowed: u64,
    },
    /// The script is not text.
    #[error("{}:{line}: not UTF-8 text", path.display())]
    NotText {
        /// The script.
        path: PathBuf,
        /// The first line that is not.
        line: usize,
    },
    /// The script is not Lua.
    #[error("{}:{line}{}: {what}", path.display(), after_colon(*column))]
    Syntax {
        /// The script.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1; none where the parser's complaint does not tell.
        column: Option<usize>,
        /// What the parser said.
        what: String,
    },
    /// The script asked for something that cannot be.
    #[error("{}: {refused}{}", place(path, *line), at_object(*object))]
    Refused {
        /// The script.
        path: PathBuf,
        /// Its line, where known.
        line: Option<usize>,
        /// The object that it was at.
        object: Option<ObjectId>,
        /// What was refused.
        #[source]
        refused: Box<Refused>,
    },
    /// The script made a mistake of its own.
    #[error("{}: {what}{}", place(path, *line), at_object(*object))]
    Script {
        /// The script.
        path: PathBuf,
        /// Its line, where known.
        line: Option<usize>,
        /// The object that it was at.
        object: Option<ObjectId>,
        /// What it did, in Lua's words; at most 1 KiB of them.
        what: String,
    },
    /// The script used more than it may.
    #[error("{}: {limit}{}", place(path, *line), at_object(*object))]
    Limit {
        /// The script.
        path: PathBuf,
        /// Its line, where known.
        line: Option<usize>,
        /// The object that it was at.
        object: Option<ObjectId>,
        /// What there was too much of.
        limit: Limit,
    },
    /// The store could not be drafted, or the draft not become the store.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// Nothing can be run now.
    #[error("no thread to run the script in")]
    NoThread(#[source] io::Error),
}

/// What a script may not have more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Limit {
    /// Instructions.
    #[error("more than {0} instructions; look for a loop without an end")]
    Instructions(u64),
    /// Bytes.
    #[error("more than {0} bytes of values at a time")]
    Memory(usize),
    /// Seconds.
    #[error("not done after {0} seconds")]
    Seconds(u64),
}

/// What was refused to a script.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// By the store.
    #[error(transparent)]
    Store(#[from] WriteError),
    /// A value that is no JSON.
    #[error("slot {slot:?}: {why}")]
    Value {
        /// The slot.
        slot: String,
        /// What is wrong with it.
        #[source]
        why: ValueError,
    },
    /// A slot that is not there.
    #[error("object {object} has no value slot {slot:?}")]
    NoSuchSlot {
        /// The object.
        object: ObjectId,
        /// The slot.
        slot: String,
    },
    /// A slot that is there already.
    #[error("object {object} has a slot {slot:?} already")]
    SlotTaken {
        /// The object.
        object: ObjectId,
        /// The slot.
        slot: String,
    },
    /// Only who has objects may get more: anything else is a misspelling.
    #[error("{0} owns no object")]
    NoSuchOwner(String),
    /// The root object of a plugin that serves keeps its name.
    #[error("{0} names the root object of a plugin that serves, and stays with it")]
    RootName(String),
    /// A generation that is none.
    #[error("{0} is no generation: one is a whole number from 1 to 4294967295")]
    NoGeneration(String),
    /// The run was ended from outside.
    #[error("the run is over")]
    Over,
}

/// Why a value of a script is no JSON value, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Deeper than JSON may be, or without an end.
    #[error("the table is nested deeper than 127 tables, or contains itself")]
    Nested,
    /// Larger than a slot may be.
    #[error("the value takes more than {0} bytes")]
    TooLarge(usize),
    /// Not data.
    #[error("a {0} cannot be stored; `null` stands for JSON's null, and `remove` removes a slot")]
    Kind(&'static str),
    /// Not a number of JSON's.
    #[error("a number that is not finite cannot be stored")]
    NotFinite,
    /// Not text.
    #[error("a text that is not UTF-8 cannot be stored")]
    NotText,
    /// Neither an array nor an object.
    #[error("a table is stored when its keys are 1 to n, or all texts")]
    Keys,
    /// A whole number that Lua would round.
    #[error("it holds {0}, a whole number that a script cannot hold exactly")]
    Number(u64),
    /// Something else that the store does not take.
    #[error("{0}")]
    Json(String),
}

impl EvolveError {
    /// The object that a script was at when it failed.
    pub fn object(&self) -> Option<ObjectId> {
        match self {
            EvolveError::Refused { object, .. }
            | EvolveError::Script { object, .. }
            | EvolveError::Limit { object, .. } => *object,
            _ => None,
        }
    }
}

impl From<ReadError> for Refused {
    fn from(cause: ReadError) -> Refused {
        Refused::Store(cause.into())
    }
}

impl From<Failure> for Refused {
    fn from(cause: Failure) -> Refused {
        ReadError::from(cause).into()
    }
}

impl From<NameError> for Refused {
    fn from(cause: NameError) -> Refused {
        Refused::Store(cause.into())
    }
}

impl From<JsonError> for ValueError {
    fn from(cause: JsonError) -> ValueError {
        match cause {
            JsonError::TooLarge(overflow) => ValueError::TooLarge(overflow.allowed),
            other => ValueError::Json(other.to_string()),
        }
    }
}

fn place(path: &Path, line: Option<usize>) -> String {
    format!("{}{}", path.display(), after_colon(line))
}

fn after_colon(number: Option<usize>) -> String {
    number.map(|number| format!(":{number}")).unwrap_or_default()
}

fn at_object(object: Option<ObjectId>) -> impl fmt::Display {
    object.map(|object| format!(" (at object {object})")).unwrap_or_default()
}
