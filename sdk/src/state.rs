//! State guards: what was read, changed and forgotten is written, or the message fails.
//!
//! [`Receiver::slot`] lends a slot's value. When the guard goes out of scope, or at the end of the message if it
//! never does, a value that now serialises differently is written. So:
//!
//! - Nothing is lost by forgetting to write: a guard that was leaked or forgotten is written at the end. The values
//!   live in the receiver's arena, and guards borrow the receiver, so when the message ends nobody can hold one.
//! - No update is lost: while a guard is alive a second one for its slot is refused; and a changed slot that something
//!   else wrote meanwhile (a nested message, or [`Object::write`]) is not overwritten.
//! - What cannot be written (denied, read-only selector, changed meanwhile, not JSON, not readable again) breaks the
//!   covenant: the message fails and names the slot.
//!
//! Before sending a message whose receiver reads the slot, end the guard's scope or call [`Slot::write`].

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use typed_arena::Arena;

use crate::object::Object;
use crate::storage::{Host, StorageError};

/// The object a message was sent to, and the guards lent during the message.
pub struct Receiver {
    object: Object,
    trace: String,
    shelf: Box<dyn Shelf>,
    /// Every value ever lent; only grows, so a guard may borrow its value while others are added.
    lent: Arena<Box<dyn Settle>>,
    /// Slots whose guard is alive or forgotten.
    held: RefCell<BTreeSet<(Object, String)>>,
    /// The first breach: the one that failed the message.
    breach: RefCell<Option<Breach>>,
}

/// A slot's value, lent until the end of the scope, and written back if it changed.
pub struct Slot<'r, T: State> {
    receiver: &'r Receiver,
    loan: &'r mut Loan<T>,
}

/// What a slot can hold: anything that goes to JSON and back, and has a value where the slot is absent.
pub trait State: Serialize + DeserializeOwned + Default + 'static {}

impl<T: Serialize + DeserializeOwned + Default + 'static> State for T {}

/// State that was changed and could not be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) slot: String,
    pub(crate) cause: String,
}

/// Where slots are kept: the host, or a map in tests.
pub(crate) trait Shelf {
    /// The value found by delegation, as JSON text; none when there is none and no default is declared.
    fn lookup(&self, object: Object, slot: &str) -> Result<Option<String>, StorageError>;
    fn write(&self, object: Object, slot: &str, value: &str) -> Result<(), StorageError>;
}

impl Receiver {
    /// The receiver of one message, over the host's storage.
    pub(crate) fn new(object: Object, trace: String) -> Self {
        Self::over(Box::new(Host), object, trace)
    }

    fn over(shelf: Box<dyn Shelf>, object: Object, trace: String) -> Self {
        Self {
            object,
            trace,
            shelf,
            lent: Arena::new(),
            held: RefCell::default(),
            breach: RefCell::default(),
        }
    }

    /// The object itself, to be stored, sent to or read without a guard.
    pub fn object(&self) -> Object {
        self.object
    }

    /// The trace of the message's whole tree, 32 hex digits.
    pub fn trace(&self) -> &str {
        &self.trace
    }

    /// A guard over the receiver's slot: its own value, else an ancestor's, else the declared default, else
    /// `T::default()`. What is written becomes the receiver's own.
    ///
    /// # Errors
    /// [`StorageError::Held`] while another guard has the slot, [`StorageError::Mismatch`] when the value is no `T`,
    /// and the host's own errors.
    pub fn slot<T: State>(&self, name: &str) -> Result<Slot<'_, T>, StorageError> {
        self.slot_of(self.object, name)
    }

    /// As [`slot`](Self::slot), over another object; writing needs the plugin to own it.
    ///
    /// # Errors
    /// As [`slot`](Self::slot).
    pub fn slot_of<T: State>(&self, object: Object, name: &str) -> Result<Slot<'_, T>, StorageError> {
        let place = (object, name.to_owned());
        if self.held.borrow().contains(&place) {
            return Err(StorageError::Held(place.1));
        }
        let loan = Loan::<T>::read(&*self.shelf, object, name)?;
        self.held.borrow_mut().insert(place);
        Ok(Slot { receiver: self, loan: self.keep(loan) })
    }

    /// Writes what is still lent and changed. Called once, when the selector's function has answered.
    pub(crate) fn settle(self) -> Result<(), Breach> {
        let Self { shelf, lent, breach, .. } = self;
        if let Some(breach) = breach.into_inner() {
            return Err(breach);
        }
        lent.into_vec().iter_mut().try_for_each(|loan| loan.settle(&*shelf))
    }

    fn keep<T: State>(&self, loan: Loan<T>) -> &mut Loan<T> {
        let kept: &mut dyn Any = &mut **self.lent.alloc(Box::new(loan));
        kept.downcast_mut().expect("the box was made of this very type")
    }

    fn release<T: State>(&self, loan: &mut Loan<T>) {
        if let Err(breach) = loan.settle(&*self.shelf) {
            self.breach.borrow_mut().get_or_insert(breach);
        }
        loan.finish();
        self.held.borrow_mut().remove(&(loan.object, std::mem::take(&mut loan.slot)));
    }
}

impl<T: State> Slot<'_, T> {
    /// Writes the value now, if it changed, so that messages sent next see it.
    ///
    /// # Errors
    /// Why it could not be written; the guard tries again when it goes out of scope.
    pub fn write(&mut self) -> Result<(), StorageError> {
        self.loan.write(&*self.receiver.shelf)
    }
}

impl<T: State> Deref for Slot<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.loan.value
    }
}

impl<T: State> DerefMut for Slot<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.loan.value
    }
}

impl<T: State> Drop for Slot<'_, T> {
    fn drop(&mut self) {
        self.receiver.release(self.loan);
    }
}

/// A value on loan, and what it was.
struct Loan<T> {
    object: Object,
    slot: String,
    value: T,
    /// The value's own serialisation when it was read or last written. Not the stored text, which may spell the same
    /// value otherwise: a slot that was only read must never count as changed.
    known: String,
    /// The stored text when it was read or last written.
    stored: Option<String>,
    is_finished: bool,
}

/// A loan of any type.
trait Settle: Any {
    fn settle(&mut self, shelf: &dyn Shelf) -> Result<(), Breach>;
}

impl<T: State> Loan<T> {
    fn read(shelf: &dyn Shelf, object: Object, slot: &str) -> Result<Self, StorageError> {
        let stored = shelf.lookup(object, slot)?;
        let value = match &stored {
            Some(text) => parse(slot, text)?,
            None => T::default(),
        };
        let known = spell(slot, &value)?;
        Ok(Self { object, slot: slot.to_owned(), value, known, stored, is_finished: false })
    }

    fn write(&mut self, shelf: &dyn Shelf) -> Result<(), StorageError> {
        let text = spell(&self.slot, &self.value)?;
        if text == self.known {
            return Ok(());
        }
        // NaN becomes null, a skipped field disappears: better to fail now than at every later read.
        parse::<T>(&self.slot, &text)?;
        if !is_same(&shelf.lookup(self.object, &self.slot)?, &self.stored) {
            return Err(StorageError::ChangedMeanwhile(self.slot.clone()));
        }
        shelf.write(self.object, &self.slot, &text)?;
        self.stored = Some(text.clone());
        self.known = text;
        Ok(())
    }

    /// Frees the value: the arena keeps the loan until the message ends.
    fn finish(&mut self) {
        self.value = T::default();
        self.is_finished = true;
    }
}

impl<T: State> Settle for Loan<T> {
    fn settle(&mut self, shelf: &dyn Shelf) -> Result<(), Breach> {
        if self.is_finished {
            return Ok(());
        }
        self.write(shelf).map_err(|error| Breach { slot: self.slot.clone(), cause: error.to_string() })
    }
}

fn parse<T: DeserializeOwned>(slot: &str, text: &str) -> Result<T, StorageError> {
    serde_json::from_str(text).map_err(|cause| StorageError::mismatch(slot, &cause))
}

fn spell<T: Serialize>(slot: &str, value: &T) -> Result<String, StorageError> {
    serde_json::to_string(value).map_err(|cause| StorageError::mismatch(slot, &cause))
}

/// Whether two stored texts say the same value; the host may spell what it stores anew.
fn is_same(one: &Option<String>, other: &Option<String>) -> bool {
    let value = |text: &Option<String>| text.as_deref().map(|text| serde_json::from_str::<Value>(text).ok());
    one == other || value(one) == value(other)
}

#[cfg(test)]
mod tests;
