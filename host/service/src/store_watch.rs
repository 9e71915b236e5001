//! What the journal says of the store's standing. Never here: what is decided in it, which are audit rows.

use telos_journal::{Line, Severity};
use telos_store::Standing;

/// What was said so far of how the store stands with its disk: a line for each change, however often it is looked at.
#[derive(Default)]
pub(crate) struct StoreWatch {
    failures: u64,
    is_in_trouble: bool,
    is_damaged: bool,
}

impl StoreWatch {
    /// The lines for what changed since the last look.
    pub(crate) fn step(&mut self, now: &Standing) -> Vec<Line> {
        [self.failed(now), self.writable(now), self.damaged(now)].into_iter().flatten().collect()
    }

    fn failed(&mut self, now: &Standing) -> Option<Line> {
        let more = now.failures.checked_sub(self.failures).filter(|more| *more > 0)?;
        (self.failures, self.is_in_trouble) = (now.failures, true);
        let cause = now.last_failure.as_deref().unwrap_or_default();
        let line = Line::new(Severity::Error, "store.failed", format!("the store could not write: {cause}"));
        Some(line.with("failures", more).with("is_full", now.full.is_some()))
    }

    fn writable(&mut self, now: &Standing) -> Option<Line> {
        if !self.is_in_trouble || now.trouble().is_some() {
            return None;
        }
        self.is_in_trouble = false;
        Some(Line::new(Severity::Info, "store.writable", "the store takes writes again"))
    }

    /// Said once, however many readers meet it: what they are answered says where.
    fn damaged(&mut self, now: &Standing) -> Option<Line> {
        let was_damaged = std::mem::replace(&mut self.is_damaged, now.damage.is_some());
        match (&now.damage, was_damaged) {
            (Some(what), false) => {
                let body = format!("the store met damage while it read: {what}");
                Some(Line::new(Severity::Error, "store.damaged", body))
            }
            (None, true) => {
                Some(Line::new(Severity::Info, "store.whole", "a check of the whole store found no damage"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [&str; 0] = [];

    fn events(watch: &mut StoreWatch, now: &Standing) -> Vec<String> {
        let lines = watch.step(now);
        lines.iter().map(|line| line.event_name.to_string()).collect()
    }

    #[test]
    fn a_change_of_the_store_is_said_once() {
        let (mut watch, mut now) = (StoreWatch::default(), Standing::default());
        assert_eq!(events(&mut watch, &now), NONE);
        (now.failures, now.read_only) = (2, Some("no space".into()));
        assert_eq!(events(&mut watch, &now), ["store.failed"]);
        (now.read_only, now.full) = (None, Some("no space".into()));
        assert_eq!(events(&mut watch, &now), NONE);
        now.full = None;
        assert_eq!(events(&mut watch, &now), ["store.writable"]);
        assert_eq!(events(&mut watch, &now), NONE);
        now.failures = 3;
        assert_eq!(events(&mut watch, &now), ["store.failed", "store.writable"]);
    }

    #[test]
    fn damage_is_said_when_it_is_first_met_and_when_it_is_gone() {
        let (mut watch, mut now) = (StoreWatch::default(), Standing::default());
        now.damage = Some("page 7".into());
        assert_eq!(events(&mut watch, &now), ["store.damaged"]);
        now.damage = Some("page 9".into());
        assert_eq!(events(&mut watch, &now), NONE);
        now.damage = None;
        assert_eq!(events(&mut watch, &now), ["store.whole"]);
        assert_eq!(events(&mut watch, &now), NONE);
    }
}
