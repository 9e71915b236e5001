//! Behaviour that nobody uses any more: proposed for retirement, and retired when somebody says so.

use std::time::{Duration, Instant};

use telos_kernel::seams::Severity;

use super::{Workshop, WorkshopError, component_id, now_ms, unfit};
use crate::ticket::{Ticket, TicketState};

/// After this long without a message, retirement is proposed.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How often the workshop looks what is used.
const LOOK: Duration = Duration::from_secs(3_600);

impl Workshop {
    /// Takes behaviour away that serves: its component is removed, and its object understands the message no more. The
    /// record stays, and the ticket can be opened again.
    ///
    /// # Errors
    /// [`WorkshopError`]. Cut off in between, it is asked for again.
    pub async fn retire(&self, number: u64) -> Result<Ticket, WorkshopError> {
        let mut ticket = self.ticket(number)?;
        if ticket.state != TicketState::Serving {
            return Err(unfit(&ticket, "only what serves can be retired"));
        }
        let component = component_id(&ticket.component)?;
        if self.kernel()?.serves(&component) {
            self.kernel()?.remove(&ticket.component).await?;
        }
        (ticket.approved_by, ticket.retirement_proposed) = (None, false);
        ticket.turn(TicketState::Retired, "retired by an operator".into(), now_ms());
        self.untaught(ticket.clone(), "forge.retired")?;
        Ok(ticket)
    }

    /// Looks, once in a while, what of it was used since the last look.
    pub(super) fn look_after_use(&self, last: &mut Option<Instant>) -> Result<(), WorkshopError> {
        let unused = unused_time();
        if last.is_some_and(|last| last.elapsed() < LOOK.min(unused)) {
            return Ok(());
        }
        *last = Some(Instant::now());
        for mut ticket in self.tickets() {
            if ticket.state != TicketState::Serving {
                continue;
            }
            let answered = self.kernel()?.answered(&component_id(&ticket.component)?);
            let was_proposed = ticket.retirement_proposed;
            if !ticket.note_use(answered, now_ms(), unused) {
                continue;
            }
            let is_proposed = ticket.retirement_proposed && !was_proposed;
            if is_proposed {
                self.say(Severity::Warn, "forge.retirement-proposed", ticket.cause.clone());
            }
            self.update(ticket, is_proposed.then_some("forge.retirement-proposed"))?;
        }
        Ok(())
    }
}

fn unused_time() -> Duration {
    fail::fail_point!("forge::unused-time", |_| Duration::from_millis(200));
    UNUSED
}
