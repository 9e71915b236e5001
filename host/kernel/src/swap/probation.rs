//! How a probation ends: the release is permanent, or the seat returns, or nobody serves.
//!
//! ```text
//! permanent  one commit: state, seat, audit                                    what serves does not change
//! return     one commit: verdict, state and seat of the release before         as any swap; where it raised its state's
//!            it, its root object's slots, audit                                generation, that is carried back first
//! park       one commit: verdict, audit; then the seat is published empty      when there is nothing to return to, or no
//!                                                                              way back
//! ```
//! Each looks first whether the release still serves and is still on probation, in its turn: whoever decided anew who
//! serves has the last word.

use std::sync::Arc;

use serde_json::json;
use telos_store::{ComponentId, Digest, ReleaseRecord, ReleaseState, SeatRecord, Verdict};

use super::{SwapError, Swapper, now_ms};
use crate::change::Settled;
use crate::decision::{Decision, Reason};
use crate::evolution::{Back, NotBack};
use crate::generation::{self, Standing};
use crate::notice;
use crate::publication::{Change, Move};
use crate::seat::Release;

/// The audit row of a release that has served its probation.
pub(crate) const PLUGIN_PERMANENT: &str = "plugin.permanent";
/// The audit row of a seat that nobody has any more.
pub(crate) const PLUGIN_PARKED: &str = "plugin.parked";

/// Why a release on probation loses its seat.
#[derive(Clone)]
pub(crate) enum Fall {
    /// It was burnt: it is quarantined.
    Burnt(String),
    /// This host cannot load it, which may be the host's fault.
    Unloadable(String),
}

/// The release that a release on probation returns to.
pub(crate) enum Earlier {
    /// It knows the same state.
    Alike(Arc<Release>),
    /// It knows an earlier state, to which what serves would have to carry its state back.
    Outdated(Arc<Release>),
}

impl Fall {
    fn cause(&self) -> &str {
        let (Self::Burnt(cause) | Self::Unloadable(cause)) = self;
        cause
    }

    /// The same, for this cause.
    fn because(self, cause: String) -> Self {
        match self {
            Self::Burnt(_) => Self::Burnt(cause),
            Self::Unloadable(_) => Self::Unloadable(cause),
        }
    }

    fn verdict(&self) -> Verdict {
        Verdict { cause: self.cause().to_owned(), at_ms: now_ms() }
    }
}

impl Swapper {
    /// The state that a release has in the seat: one that was permanent stays so.
    pub(crate) fn state_in_the_seat(&self, release: &Release) -> Result<ReleaseState, SwapError> {
        let known = self.store.release(&release.component, &release.digest)?;
        let was_permanent = known.is_some_and(|record| record.state == ReleaseState::Permanent);
        Ok(if was_permanent { ReleaseState::Permanent } else { ReleaseState::Probation })
    }

    /// Where the seat returns to from a release: the last permanent one; where none is, what serves now, which may be on
    /// probation itself and serves well so far.
    pub(crate) fn returns_to(
        &self,
        digest: Digest,
        state: ReleaseState,
        serving: Option<&SeatRecord>,
    ) -> Result<Option<Digest>, SwapError> {
        let Some(seat) = serving.filter(|_| state == ReleaseState::Probation) else { return Ok(None) };
        let record = self.store.release(&seat.component, &seat.digest)?;
        let is_permanent = record.is_some_and(|record| record.state == ReleaseState::Permanent);
        let last = if is_permanent { seat.digest } else { seat.returns_to.unwrap_or(seat.digest) };
        Ok(Some(last).filter(|last| *last != digest))
    }

    /// The release that a release on probation would return to; none when there is none, or this host cannot load it.
    ///
    /// # Errors
    /// When that cannot be learned now.
    pub(crate) fn earlier(&self, component: &ComponentId) -> Result<Option<Earlier>, SwapError> {
        let seat = self.store.seat(component)?;
        let Some(digest) = seat.and_then(|seat| seat.returns_to) else { return Ok(None) };
        let Some(record) = self.store.release(component, &digest)? else { return Ok(None) };
        let release = match self.load(&record) {
            Ok(release) => Arc::new(release),
            Err(error) if error.is_of_the_moment() => return Err(error),
            Err(_) => return Ok(None),
        };
        let standing = generation::standing(release.descriptor.generation, self.in_force(component)?);
        Ok(match standing {
            Standing::Serves => Some(Earlier::Alike(release)),
            Standing::Outdated(_) => Some(Earlier::Outdated(release)),
            Standing::Evolves(_) => None,
        })
    }

    /// Makes a release permanent that has served its probation.
    pub(crate) async fn make_permanent(
        &self,
        component: &ComponentId,
        digest: Digest,
    ) -> Result<(), SwapError> {
        let _turn = self.turn.lock().await;
        let Some((seat, record)) = self.on_probation(component, digest)? else { return Ok(()) };
        self.change(None, |unit| {
            unit.put_release(ReleaseRecord { state: ReleaseState::Permanent, ..record.clone() })?;
            unit.set_seat(SeatRecord { returns_to: None, ..seat.clone() })?;
            let detail = json!({ "version": record.version, "digest": digest });
            unit.audit(PLUGIN_PERMANENT, component.as_str(), detail)?;
            Ok((Settled::default(), None))
        })
        .await?;
        fail::fail_point!("kernel::permanent");
        if let Some(release) = self.seats.current().releases.get(component) {
            release.tally.watch(release.digest != digest);
        }
        Ok(())
    }

    /// Takes the seat from a release on probation: gives it back to the last permanent one, or to nobody.
    pub(crate) async fn let_fall(
        &self,
        component: &ComponentId,
        digest: Digest,
        fall: Fall,
    ) -> Result<(), SwapError> {
        if self.on_probation(component, digest)?.is_none() {
            return Ok(());
        }
        match self.earlier(component)? {
            Some(Earlier::Alike(earlier)) => self.give_back(component, digest, earlier, fall).await,
            Some(Earlier::Outdated(earlier)) => self.give_back_state(component, digest, earlier, fall).await,
            None => self.park(component, digest, fall).await,
        }
    }

    /// As [`Self::give_back`], with the state of the component carried back. What cannot be carried back parks the seat;
    /// but for a release that does not load, which cannot carry either: it may load at another start.
    async fn give_back_state(
        &self,
        component: &ComponentId,
        digest: Digest,
        earlier: Arc<Release>,
        fall: Fall,
    ) -> Result<(), SwapError> {
        let carrier = self.find_release(component, &digest.to_string())?;
        let fallen = self.fallen(component, digest, &fall, ReleaseState::Quarantined)?;
        let earlier = self.find_release(component, &earlier.digest.to_string())?;
        let back = Back {
            record: earlier.clone(),
            carrier,
            reason: Reason::Returned,
            ousted: Some(fallen.clone()),
            force: true,
            request: None,
        };
        match self.carry_back(back).await {
            Ok(returned) => {
                self.notices.put(component, notice::fallen(&fallen, Some(&returned.version), fall.cause()));
                Ok(())
            }
            Err(NotBack::Overtaken) => Ok(()),
            Err(NotBack::NoWay(why) | NotBack::Hindered(why, _)) if matches!(fall, Fall::Unloadable(_)) => {
                self.notices.put(component, notice::stranded(&fallen, fall.cause(), &why));
                Ok(())
            }
            Err(NotBack::NoWay(why)) => {
                let cause = format!("{}; it gives its seat to nobody, because {why}", fall.cause());
                self.park(component, digest, fall.because(cause)).await
            }
            Err(hindered) => Err(hindered.into_error(&earlier, &fallen.version)),
        }
    }

    async fn give_back(
        &self,
        component: &ComponentId,
        digest: Digest,
        earlier: Arc<Release>,
        fall: Fall,
    ) -> Result<(), SwapError> {
        let fallen = self.fallen(component, digest, &fall, ReleaseState::Quarantined)?;
        let decide_return = || {
            // Somebody may have decided anew while the root object was waited for.
            let still = self.on_probation(component, digest)?;
            still.ok_or_else(|| SwapError::NothingWaits(component.clone()))?;
            let record = self.find_release(component, &earlier.digest.to_string())?;
            let release = Arc::clone(&earlier);
            let ousted = Some(fallen.clone());
            let decision = self.decision(record, Reason::Returned, None)?;
            // What it may use is asked at each call; a grant taken from it since is no reason that nobody serves.
            Ok(Decision { release, missing: Vec::new(), ousted, ..decision })
        };
        let returned = self.change_seat(decide_return).await?;
        self.notices.put(component, notice::fallen(&fallen, Some(&returned.version), fall.cause()));
        Ok(())
    }

    async fn park(&self, component: &ComponentId, digest: Digest, fall: Fall) -> Result<(), SwapError> {
        let toll = self.traffic.toll();
        let (still, turn) = self.in_turn(|| Ok((self.on_probation(component, digest)?, Vec::new()))).await?;
        if still.is_none() {
            return Ok(());
        }
        let fallen = self.fallen(component, digest, &fall, ReleaseState::Parked)?;
        let moved = vec![self.moved(component, None)];
        let (Settled { position }, pause) = self
            .change(None, |unit| {
                unit.put_release(fallen.clone())?;
                let detail = json!({ "version": fallen.version, "digest": digest, "cause": fall.cause() });
                unit.audit(PLUGIN_PARKED, component.as_str(), detail)?;
                Ok((
                    Settled::default(),
                    Some(self.publication(Change::Seats(vec![Move::Vacate(component.clone())]), Vec::new())),
                ))
            })
            .await?;
        fail::fail_point!("kernel::parked");
        self.account(position, moved, pause, &toll);
        drop(turn);
        self.notices.put(component, notice::fallen(&fallen, None, fall.cause()));
        Ok(())
    }

    /// The record of a release that loses its seat. One that only does not load is in no quarantine.
    fn fallen(
        &self,
        component: &ComponentId,
        digest: Digest,
        fall: &Fall,
        burnt: ReleaseState,
    ) -> Result<ReleaseRecord, SwapError> {
        let record = self.find_release(component, &digest.to_string())?;
        let state = match fall {
            Fall::Burnt(_) => burnt,
            Fall::Unloadable(_) => ReleaseState::Returned,
        };
        Ok(ReleaseRecord { state, verdict: Some(fall.verdict()), ..record })
    }

    /// The seat and the release in it, while that is this one and on probation.
    pub(crate) fn on_probation(
        &self,
        component: &ComponentId,
        digest: Digest,
    ) -> Result<Option<(SeatRecord, ReleaseRecord)>, SwapError> {
        let seat = self.store.seat(component)?.filter(|seat| seat.digest == digest);
        let record = self.store.release(component, &digest)?;
        let on_probation = |record: &ReleaseRecord| record.state == ReleaseState::Probation;
        Ok(seat.zip(record.filter(on_probation)))
    }
}
