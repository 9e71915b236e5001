//! `archive`: the running component's collections, moved to disk by jobs that outlive the message.

use telos_store::{ArchiveError, BuiltAbout};

use crate::archivist::{Archivist, Refusal, State};
use crate::contract::archive::{self, Edition, Error, Progress, Selection};
use crate::effects::{Operation, Verdict};
use crate::failure::Failure;
use crate::instance::MessageState;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl archive::Host for MessageState {
    async fn begin(&mut self, selection: Selection) -> Answer<archive::Job> {
        let archivist = match self.archivist_to_change(&selection.collection)? {
            Ok(archivist) => archivist,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let key = selection.collection.as_bytes();
        match self.tree()?.effects.ask(Operation::Archive, key) {
            Verdict::Replay(answer) => Ok(Ok(answer.parse()?)),
            Verdict::Diverged => self.end(Failure::Conflict { attempts: 0 }),
            Verdict::Live => {
                let began = archivist.begin(&self.release.component, &selection.collection);
                if let Ok(job) = &began {
                    self.tree()?.effects.record(Operation::Archive, key, job.to_string());
                }
                self.archived(began)
            }
        }
    }

    async fn status(&mut self, job: archive::Job) -> Answer<archive::State> {
        let archivist = match self.archivist()? {
            Ok(archivist) => archivist,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let status = archivist.state(&self.release.component, job);
        Ok(self.archived(status)?.map(told))
    }

    async fn validate(&mut self, job: archive::Job) -> Answer<Edition> {
        let archivist = match self.archivist()? {
            Ok(archivist) => archivist,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let component = self.release.component.clone();
        let validated = archivist.validate(&component, job).await;
        Ok(self.archived(validated)?.map(edition))
    }

    async fn publish(&mut self, job: archive::Job) -> Answer<()> {
        let archivist = match self.archivist_to_change(&format!("job {job}"))? {
            Ok(archivist) => archivist,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let published = archivist.publish(&self.release.component, job);
        self.archived(published)
    }

    async fn cancel(&mut self, job: archive::Job) -> Answer<()> {
        let archivist = match self.archivist_to_change(&format!("job {job}"))? {
            Ok(archivist) => archivist,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let cancelled = archivist.cancel(&self.release.component, job);
        self.archived(cancelled)
    }
}

impl MessageState {
    fn archivist(&mut self) -> Answer<std::sync::Arc<Archivist>> {
        if !self.is_granted("archive")? {
            return Ok(Err(Error::Denied));
        }
        Ok(self.tree()?.surroundings.archivist.clone().ok_or(Error::Unavailable))
    }

    fn archivist_to_change(&mut self, what: &str) -> Answer<std::sync::Arc<Archivist>> {
        let archivist = self.archivist()?;
        if archivist.is_ok() && self.tree()?.is_read_only {
            self.note_read_only_write(&format!("(archive: {what})"));
            return Ok(Err(Error::ReadOnly));
        }
        Ok(archivist)
    }

    fn archived<T>(&mut self, outcome: Result<T, Refusal>) -> Answer<T> {
        let error = match outcome {
            Ok(value) => return Ok(Ok(value)),
            Err(Refusal::NoSuchJob) => Error::NoSuchJob,
            Err(Refusal::Unready) => Error::Unready,
            Err(Refusal::Busy) => Error::Busy,
            Err(Refusal::Archive(ArchiveError::NoSuchCollection(..))) => Error::NoSuchCollection,
            Err(Refusal::Archive(ArchiveError::Busy(..))) => Error::Busy,
            Err(Refusal::Archive(ArchiveError::InMemory)) => Error::Unavailable,
            Err(Refusal::Archive(ArchiveError::Forgotten)) => Error::Unready,
            Err(Refusal::Archive(error @ (ArchiveError::NotCosine(_) | ArchiveError::Empty(_)))) => {
                Error::Invalid(error.to_string())
            }
            Err(Refusal::Archive(error)) => Error::Failed(self.host_incident("archive", &error.to_string())?),
        };
        Ok(Err(error))
    }
}

fn told(state: State) -> archive::State {
    match state {
        State::Building(done, of) => archive::State::Building(Progress { done, of }),
        State::Built(about) => archive::State::Built(edition(about)),
        State::Publishing(about) => archive::State::Publishing(edition(about)),
        State::Published(about) => archive::State::Published(edition(about)),
        State::Ended(why) => archive::State::Ended(why),
    }
}

fn edition(about: BuiltAbout) -> Edition {
    Edition { number: about.edition, vectors: about.rows, recall: about.recall, bytes: about.bytes as u64 }
}
