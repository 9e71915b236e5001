//! Sets: several seats that change at once, or none.
//!
//! ```text
//! examine, try     every new build, as an install does      crash after: nothing happened
//! plan             what each member changes, and why the    pure reading; `--plan` ends here
//!                  set may not
//! decide, publish  one commit, one table                    crash after: all of the new releases serve, or none
//! ```
//! No member may wait for a grant or a start: a set that serves in part is no set.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use telos_store::{ComponentId, DedupeKey, Unit};

use super::candidate::Candidate;
use super::{InstallRequest, Leaving, SwapError, Swapped, Swapper};
use crate::contract::CONTRACT_VERSION;
use crate::decision::{Decision, Reason};
use crate::generation::Standing;
use crate::publication::{Change, Move};
use crate::seat::Release;
use crate::traffic::{Moved, micros};
use crate::trial::ExampleResult;
use crate::turn::ChangingRoot;

/// Seats that a set may change.
pub const SET_MEMBERS_MAX: usize = 64;

/// What a set asks for.
#[derive(Debug, Clone, Default)]
pub struct SetRequest {
    /// New builds, each with what its install asks for.
    pub install: Vec<(Vec<u8>, InstallRequest)>,
    /// Components that are to serve a kept release: its version, or the start of its digest.
    pub swap: Vec<(String, String)>,
    /// Components whose seats are taken away.
    pub remove: Vec<String>,
}

/// What a set would do, member by member.
#[derive(Debug, Clone, Serialize)]
pub struct SetPlan {
    /// All of it would be done.
    pub ok: bool,
    /// Each member, in the order of their ids.
    pub members: Vec<SetMember>,
    /// Microseconds for which no root would begin: what 99 of 100 changes of seats took since the host started. None
    /// before the first.
    pub pause_estimate_us: Option<u64>,
}

/// What becomes of one seat.
#[derive(Debug, Clone, Serialize)]
pub struct SetMember {
    /// The component.
    pub id: ComponentId,
    /// `install`, `swap`, `remove`, or `keep` when it serves already.
    pub action: &'static str,
    /// The version that serves now.
    pub from: Option<String>,
    /// The version that is to serve.
    pub to: Option<String>,
    /// Interfaces that it imports and the one that serves does not.
    pub imports_added: Vec<String>,
    /// The other way round.
    pub imports_removed: Vec<String>,
    /// Interfaces that an operator must grant first.
    pub missing_grants: Vec<String>,
    /// The contract that it was built for.
    pub contract: Option<String>,
    /// The generations between which state would be carried over; none when it stays.
    pub generation: Option<(u32, u32)>,
    /// How its examples went; empty for a kept release, whose examples passed once.
    pub examples: Vec<ExampleResult>,
    /// Why the set cannot be applied, by this member; none when it can.
    pub cause: Option<String>,
    /// What would lift that.
    pub next: Option<String>,
}

/// A set that was applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetApplied {
    /// The releases that serve now by this set, in the order of their ids; also those that did already.
    pub serving: Vec<Swapped>,
    /// The components whose seats are gone.
    pub removed: Vec<ComponentId>,
    /// The commit that decided all of it.
    #[serde(default)]
    pub position: u64,
    /// As of one swap: see [`Swapped::pause_us`].
    #[serde(default)]
    pub pause_us: u64,
}

/// A new build on its way into a set.
struct Entry {
    candidate: Candidate,
    request: InstallRequest,
}

/// What one member decides.
enum Step {
    Serve(Box<Decision>),
    /// It does already.
    Keep(Arc<Release>),
    Remove(ComponentId, Box<Leaving>),
}

impl Step {
    fn component(&self) -> &ComponentId {
        match self {
            Self::Serve(decision) => &decision.release.component,
            Self::Keep(release) => &release.component,
            Self::Remove(component, _) => component,
        }
    }
}

impl Swapper {
    /// What a set would do; nothing changes.
    pub(crate) async fn plan_set(&self, set: SetRequest) -> Result<SetPlan, SwapError> {
        let entries = self.enter(&set).await?;
        let mut members = Vec::new();
        for entry in &entries {
            members.push(self.member_of_entry(entry).await?);
        }
        for step in self.kept_steps(&set)? {
            members.push(self.member(&step)?);
        }
        members.sort_by(|one, other| one.id.cmp(&other.id));
        let ok = members.iter().all(|member| member.cause.is_none());
        Ok(SetPlan { ok, members, pause_estimate_us: self.pauses.estimate_us() })
    }

    /// Changes every seat of a set in one commit, or none.
    pub(crate) async fn apply_set(
        &self,
        set: SetRequest,
        request: Option<DedupeKey>,
    ) -> Result<SetApplied, SwapError> {
        if let Some(answer) = self.remembered(request)? {
            return Ok(answer);
        }
        let entries = self.enter(&set).await?;
        for entry in &entries {
            self.prepare_entry(entry).await?;
        }
        fail::fail_point!("kernel::set-tried");
        for (bytes, _) in &set.install {
            self.store.put_blob(bytes)?;
        }
        fail::fail_point!("kernel::set-bytes-kept");
        let applied = self.change_seats(&set, &entries, request).await;
        if applied.as_ref().is_err_and(|error| error.effect() == crate::failure::Effect::None) {
            for entry in &entries {
                self.withdraw(entry.candidate.release.digest).await;
            }
        }
        applied
    }

    async fn change_seats(
        &self,
        set: &SetRequest,
        entries: &[Entry],
        request: Option<DedupeKey>,
    ) -> Result<SetApplied, SwapError> {
        let prepare = || {
            let mut steps = self.kept_steps(set)?;
            for entry in entries {
                steps.push(self.step_of_entry(entry)?);
            }
            steps.sort_by(|one, other| one.component().cmp(other.component()));
            let roots = steps.iter().map(|step| self.root_of(step)).collect::<Result<Vec<_>, _>>()?;
            Ok((steps, roots.into_iter().flatten().collect()))
        };
        let toll = self.traffic.toll();
        let (steps, turn) = self.in_turn(prepare).await?;
        self.demand_whole(&steps)?;
        let prepared = steps.iter().map(|step| self.prepared(step)).collect::<Result<Vec<_>, _>>()?;
        let moves: Vec<Move> = steps.iter().filter_map(as_move).collect();
        let moved = moves.iter().map(|step| self.moved_by(step)).collect();
        let (applied, pause) = self
            .change(request, |unit| {
                for (step, changes_root) in steps.iter().zip(&prepared) {
                    self.write_step(unit, step, *changes_root)?;
                }
                let change = Change::Seats(moves.clone());
                Ok((self.applied(&steps), Some(self.publication(change, turn.places.clone()))))
            })
            .await?;
        fail::fail_point!("kernel::set-decided");
        moves.iter().for_each(|step| match step {
            Move::Serve { release, .. } => self.notices.forget(&release.component),
            Move::Vacate(component) => self.notices.forget(component),
        });
        self.account(applied.position, moved, pause, &toll);
        Ok(SetApplied { pause_us: micros(pause.unwrap_or_default()), ..applied })
    }

    /// Examines the new builds, and refuses a set that names a component twice or nothing at all.
    async fn enter(&self, set: &SetRequest) -> Result<Vec<Entry>, SwapError> {
        let mut entries = Vec::new();
        let mut named = BTreeSet::new();
        let members = set.install.len() + set.swap.len() + set.remove.len();
        if !(1..=SET_MEMBERS_MAX).contains(&members) {
            return Err(SwapError::SetSize { members, max: SET_MEMBERS_MAX });
        }
        for (bytes, request) in &set.install {
            let candidate = self.examine(bytes, &request.source, request.limits).await?;
            name_once(&mut named, candidate.release.component.as_str())?;
            entries.push(Entry { candidate, request: request.clone() });
        }
        let kept = set.swap.iter().map(|(id, _)| id).chain(&set.remove);
        for id in kept {
            name_once(&mut named, id)?;
        }
        Ok(entries)
    }

    /// What an install refuses before it decides.
    async fn prepare_entry(&self, entry: &Entry) -> Result<(), SwapError> {
        let release = &entry.candidate.release;
        super::manifest_agrees(release, &entry.request)?;
        self.demand_later(release, &entry.request.source)?;
        if !self.has_passed(release)? {
            self.demand_examples(&entry.candidate).await?;
        }
        Ok(())
    }

    fn step_of_entry(&self, entry: &Entry) -> Result<Step, SwapError> {
        let release = &entry.candidate.release;
        if let Some(serving) = self.serving(&release.component, release.digest) {
            return Ok(Step::Keep(serving));
        }
        let granting = self.granting(release, &entry.request.grants)?;
        let missing = self.missing(release, &granting)?;
        Ok(Step::Serve(Box::new(Decision {
            release: Arc::clone(release),
            record: super::record(release, &entry.request.source)?,
            granting,
            missing,
            consumed: None,
            reason: Reason::Installed,
            ousted: None,
            no_return: false,
            lesson: None,
            request: None,
        })))
    }

    /// The members that need no new bytes.
    fn kept_steps(&self, set: &SetRequest) -> Result<Vec<Step>, SwapError> {
        let mut steps = Vec::new();
        for (id, wanted) in &set.swap {
            let component = component(id)?;
            let record = self.find_release(&component, wanted)?;
            steps.push(match self.serving(&component, record.digest) {
                Some(serving) => Step::Keep(serving),
                None => Step::Serve(Box::new(self.decision(record, Reason::Swapped, None)?)),
            });
        }
        for id in &set.remove {
            let component = component(id)?;
            let leaving = self.leaving(&component)?;
            steps.push(Step::Remove(component, Box::new(leaving)));
        }
        Ok(steps)
    }

    fn serving(&self, component: &ComponentId, digest: telos_store::Digest) -> Option<Arc<Release>> {
        let table = self.seats.current();
        table.releases.get(component).filter(|release| release.digest == digest).cloned()
    }

    fn root_of(&self, step: &Step) -> Result<Option<ChangingRoot>, SwapError> {
        match step {
            Step::Serve(decision) => self.changing_root(&decision.release),
            Step::Keep(_) => Ok(None),
            Step::Remove(component, _) => self.root(component),
        }
    }

    /// Refuses a set of which a member could not serve at once.
    fn demand_whole(&self, steps: &[Step]) -> Result<(), SwapError> {
        for step in steps {
            if let Some((cause, next)) = self.hindrance(step)? {
                return Err(SwapError::SetMember { component: step.component().clone(), cause, next });
            }
        }
        Ok(())
    }

    /// Why a member could not serve at once, and what would lift that.
    fn hindrance(&self, step: &Step) -> Result<Option<(String, String)>, SwapError> {
        let Step::Serve(decision) = step else { return Ok(None) };
        let release = &decision.release;
        let told = |error: SwapError| (error.to_string(), error.next_step().unwrap_or_default());
        if let Err(error) = self.demand_lifted(release) {
            return Ok(Some(told(error)));
        }
        if let Err(error) = self.demand_requirements(release) {
            return Ok(Some(told(error)));
        }
        if !decision.missing.is_empty() {
            return Ok(Some((
                format!("it needs a grant: {}", decision.missing.join(", ")),
                format!(
                    "grant it with the set (`grant = \"all\"` under its bytes), or before it: `telos plugin grant {} {}`",
                    release.component,
                    decision.missing.join(" ")
                ),
            )));
        }
        match self.standing(release) {
            Ok(Standing::Evolves(from)) => Ok(Some((
                format!(
                    "its state must be carried from generation {from} to {} first",
                    release.descriptor.generation
                ),
                format!(
                    "leave it out of the set: `telos plugin install` it alone, then `telos plugin swap {} {}` carries \
                     its state over while messages flow",
                    release.component,
                    release.version()
                ),
            ))),
            Ok(_) => Ok(None),
            Err(error) => Ok(Some(told(error))),
        }
    }

    /// Whether a member's root object changes with it; and what serves on probation is watched from the start.
    fn prepared(&self, step: &Step) -> Result<bool, SwapError> {
        match step {
            Step::Serve(decision) => {
                let state = self.state_in_the_seat(&decision.release)?;
                decision.release.tally.watch(state == telos_store::ReleaseState::Probation);
                self.changes_root(&decision.release)
            }
            Step::Keep(_) | Step::Remove(..) => Ok(false),
        }
    }

    fn write_step(&self, unit: &mut Unit, step: &Step, changes_root: bool) -> Result<(), SwapError> {
        match step {
            Step::Serve(decision) => {
                let state = self.state_in_the_seat(&decision.release)?;
                self.write_activation(unit, decision, state, changes_root)
            }
            Step::Keep(_) => Ok(()),
            Step::Remove(component, leaving) => self.write_removal(unit, component, leaving),
        }
    }

    fn moved_by(&self, step: &Move) -> Moved {
        match step {
            Move::Serve { release, .. } => self.moved(&release.component, Some(release.digest)),
            Move::Vacate(component) => self.moved(component, None),
        }
    }

    fn applied(&self, steps: &[Step]) -> SetApplied {
        let serving = |step: &Step| match step {
            Step::Serve(decision) => Some(decision.serving(self.serving_version(step.component()))),
            Step::Keep(release) => Some(self.unchanged(release)),
            Step::Remove(..) => None,
        };
        let removed = |step: &Step| match step {
            Step::Remove(component, _) => Some(component.clone()),
            _ => None,
        };
        SetApplied {
            serving: steps.iter().filter_map(serving).collect(),
            removed: steps.iter().filter_map(removed).collect(),
            position: 0,
            pause_us: 0,
        }
    }

    async fn member_of_entry(&self, entry: &Entry) -> Result<SetMember, SwapError> {
        let release = &entry.candidate.release;
        let mut member = self.member(&self.step_of_entry(entry)?)?;
        let refused = super::manifest_agrees(release, &entry.request)
            .and_then(|()| self.demand_later(release, &entry.request.source))
            .err();
        if let Some(error) = refused {
            (member.cause, member.next) = (Some(error.to_string()), error.next_step());
        }
        if !self.has_passed(release)? {
            member.examples = self.try_out(&entry.candidate).await?;
        }
        if let Some(failed) = member.examples.iter().find(|example| !example.passed) {
            let ExampleResult { selector, name, detail, .. } = failed;
            member.cause = Some(format!("its example `{name}` of `{selector}` fails: it {detail}"));
            member.next = Some("mend it and give the new build a later version".into());
        }
        Ok(member)
    }

    fn member(&self, step: &Step) -> Result<SetMember, SwapError> {
        let component = step.component();
        let table = self.seats.current();
        let serving = table.releases.get(component);
        let (action, to) = match step {
            Step::Serve(decision) if matches!(decision.reason, Reason::Installed) => {
                ("install", Some(&decision.release))
            }
            Step::Serve(decision) => ("swap", Some(&decision.release)),
            Step::Keep(release) => ("keep", Some(release)),
            Step::Remove(..) => ("remove", None),
        };
        let missing = match step {
            Step::Serve(decision) => decision.missing.clone(),
            _ => Vec::new(),
        };
        let (cause, next) = self.hindrance(step)?.unzip();
        let generation = match to.map(|release| (release, self.standing(release))) {
            Some((release, Ok(Standing::Evolves(from)))) => Some((from, release.descriptor.generation)),
            _ => None,
        };
        Ok(SetMember {
            id: component.clone(),
            action,
            from: serving.map(|release| release.version().to_string()),
            to: to.map(|release| release.version().to_string()),
            imports_added: beyond(to, serving),
            imports_removed: beyond(serving, to),
            missing_grants: missing,
            contract: match step {
                Step::Serve(decision) => Some(decision.record.contract.clone()),
                Step::Keep(_) => Some(CONTRACT_VERSION.to_owned()),
                Step::Remove(..) => None,
            },
            generation,
            examples: Vec::new(),
            cause,
            next: next.filter(|next| !next.is_empty()),
        })
    }
}

/// What one release imports and the other does not.
fn beyond(one: Option<&Arc<Release>>, other: Option<&Arc<Release>>) -> Vec<String> {
    let imports = |release: Option<&Arc<Release>>| -> BTreeSet<String> {
        release.into_iter().flat_map(|release| release.imports.iter().cloned()).collect()
    };
    imports(one).difference(&imports(other)).cloned().collect()
}

fn as_move(step: &Step) -> Option<Move> {
    match step {
        Step::Serve(decision) => Some(decision.as_move()),
        Step::Keep(_) => None,
        Step::Remove(component, _) => Some(Move::Vacate(component.clone())),
    }
}

fn name_once(named: &mut BTreeSet<String>, id: &str) -> Result<(), SwapError> {
    match named.insert(id.to_owned()) {
        true => Ok(()),
        false => Err(SwapError::SetTwice(id.to_owned())),
    }
}

fn component(id: &str) -> Result<ComponentId, SwapError> {
    ComponentId::new(id).map_err(|_| SwapError::NoSuchPlugin(id.to_owned()))
}
