//! Which minds stay in memory. Pure: decides, and leaves loading and freeing to the caller.
//!
//! At most one mind per kind, and all together under the memory budget. What has to leave is the resident of the same
//! kind first, then the least recently used until the newcomer fits.

use crate::{Kind, Mind, MindError};

/// The residents and the budget.
#[derive(Debug)]
pub(crate) struct Residency {
    memory_bytes_max: u64,
    /// Least recently used first.
    residents: Vec<Resident>,
}

#[derive(Debug)]
struct Resident {
    name: String,
    kind: Kind,
    memory_bytes: u64,
}

/// What to do so that a mind may answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is resident.
    Resident,
    /// Free these, in order, then load it.
    Load { evict: Vec<String> },
}

impl Residency {
    pub(crate) fn new(memory_bytes_max: u64) -> Self {
        Self { memory_bytes_max, residents: Vec::new() }
    }

    /// Counts the mind as resident and most recently used from now on; says what has to happen for that.
    ///
    /// # Errors
    /// [`MindError::TooLarge`] when it does not fit alone; nothing changes then.
    pub(crate) fn admit(&mut self, mind: &Mind) -> Result<Admission, MindError> {
        if let Some(at) = self.position(&mind.name) {
            self.residents[at..].rotate_left(1);
            return Ok(Admission::Resident);
        }
        if mind.memory_bytes > self.memory_bytes_max {
            let (needed, allowed) = (mind.memory_bytes, self.memory_bytes_max);
            return Err(MindError::TooLarge { name: mind.name.clone(), needed, allowed });
        }
        let evict = self.make_room(mind);
        let Mind { name, kind, memory_bytes, .. } = mind;
        self.residents.push(Resident { name: name.clone(), kind: *kind, memory_bytes: *memory_bytes });
        Ok(Admission::Load { evict })
    }

    /// The mind is gone, or was never loaded.
    pub(crate) fn forget(&mut self, name: &str) {
        self.residents.retain(|resident| resident.name != name);
    }

    fn make_room(&mut self, mind: &Mind) -> Vec<String> {
        let same_kind = self.residents.iter().position(|resident| resident.kind == mind.kind);
        let mut evicted: Vec<String> =
            same_kind.map(|at| self.residents.remove(at).name).into_iter().collect();
        while self.memory_bytes() + mind.memory_bytes > self.memory_bytes_max {
            evicted.push(self.residents.remove(0).name);
        }
        evicted
    }

    fn memory_bytes(&self) -> u64 {
        self.residents.iter().map(|resident| resident.memory_bytes).sum()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.residents.iter().position(|resident| resident.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalogue;

    fn mind(name: &str, kind: Kind, memory_bytes: u64) -> Mind {
        Mind { name: name.into(), kind, memory_bytes, ..Catalogue::bundled().minds()[0].clone() }
    }

    fn load(evict: &[&str]) -> Result<Admission, MindError> {
        Ok(Admission::Load { evict: evict.iter().map(|name| (*name).to_owned()).collect() })
    }

    #[test]
    fn one_mind_of_each_kind_is_resident() {
        let mut residency = Residency::new(100);
        assert_eq!(residency.admit(&mind("t1", Kind::Text, 40)), load(&[]));
        assert_eq!(residency.admit(&mind("e1", Kind::Embedding, 10)), load(&[]));
        assert_eq!(residency.admit(&mind("t1", Kind::Text, 40)), Ok(Admission::Resident));
        assert_eq!(residency.admit(&mind("t2", Kind::Text, 40)), load(&["t1"]));
        assert_eq!(residency.admit(&mind("e1", Kind::Embedding, 10)), Ok(Admission::Resident));
        assert_eq!(residency.admit(&mind("t1", Kind::Text, 40)), load(&["t2"]));
    }

    #[test]
    fn a_large_mind_pushes_the_other_kind_out_too() {
        let mut residency = Residency::new(100);
        residency.admit(&mind("e1", Kind::Embedding, 30)).unwrap();
        residency.admit(&mind("t1", Kind::Text, 40)).unwrap();
        assert_eq!(residency.admit(&mind("t2", Kind::Text, 90)), load(&["t1", "e1"]));
        assert_eq!(residency.admit(&mind("e1", Kind::Embedding, 10)), load(&[]));
    }

    #[test]
    fn a_mind_beyond_the_budget_is_refused_and_changes_nothing() {
        let mut residency = Residency::new(100);
        residency.admit(&mind("t1", Kind::Text, 40)).unwrap();
        let refusal = residency.admit(&mind("t2", Kind::Text, 101));
        assert!(matches!(refusal, Err(MindError::TooLarge { needed: 101, allowed: 100, .. })));
        assert_eq!(residency.admit(&mind("t1", Kind::Text, 40)), Ok(Admission::Resident));
    }

    #[test]
    fn a_forgotten_mind_is_loaded_again() {
        let mut residency = Residency::new(100);
        residency.admit(&mind("t1", Kind::Text, 40)).unwrap();
        residency.forget("t1");
        assert_eq!(residency.admit(&mind("t1", Kind::Text, 40)), load(&[]));
    }
}
