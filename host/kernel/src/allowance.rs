//! Requests to minds, held to their component's budget by the clock: a request has its place until it is dropped.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use telos_store::ComponentId;

use crate::budget::{InferenceBudgets, InferenceTerms, Reading, Wait};

/// The budgets of every component of this host, or of one trial. Clones are the same.
#[derive(Clone)]
pub(crate) struct Allowances(Arc<Mutex<InferenceBudgets>>);

/// One request under way. Dropping it gives back its place, and what it did not cost.
pub(crate) struct Allowed {
    allowances: Allowances,
    component: ComponentId,
    reserved: u64,
    cost: u64,
}

impl Allowances {
    pub(crate) fn new(terms: InferenceTerms) -> Self {
        Self(Arc::new(Mutex::new(InferenceBudgets::new(terms))))
    }

    pub(crate) fn terms(&self) -> InferenceTerms {
        self.0.lock().terms()
    }

    /// Begins a request that costs `least` tokens at once, and `most` if it comes to its end.
    ///
    /// # Errors
    /// [`Wait`] when the component's budget is used up.
    pub(crate) fn begin(&self, component: &ComponentId, least: u64, most: u64) -> Result<Allowed, Wait> {
        self.0.lock().admit(component, most, Instant::now())?;
        let (allowances, component) = (self.clone(), component.clone());
        Ok(Allowed { allowances, component, reserved: most, cost: least })
    }

    /// What a component has used.
    pub(crate) fn reading(&self, component: &ComponentId) -> Reading {
        self.0.lock().reading(component, Instant::now())
    }
}

impl Allowed {
    /// One token more.
    pub(crate) fn count_token(&mut self) {
        self.cost += 1;
    }

    /// What it cost in all, once that is known.
    pub(crate) fn set_cost(&mut self, cost: u64) {
        self.cost = cost;
    }
}

impl Drop for Allowed {
    fn drop(&mut self) {
        let mut budgets = self.allowances.0.lock();
        budgets.settle(&self.component, self.reserved, self.cost, Instant::now());
    }
}
