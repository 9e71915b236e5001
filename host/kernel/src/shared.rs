//! What messages and changes of seats have in common.

use std::sync::Arc;

use telos_store::Store;

use crate::admission::Admission;
use crate::lane::Lanes;
use crate::seat::Seats;
use crate::traffic::Traffic;

/// The parts that whoever sends and whoever swaps must agree on. Clones are the same.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) seats: Arc<Seats>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) traffic: Arc<Traffic>,
}
