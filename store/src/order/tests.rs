//! The order alone: what it answers as of each position, and what it forgets.

use super::*;
use crate::id::{ComponentId, Revision};
use crate::json::Json;
use crate::limit;
use crate::object::Slot;

const AT_MS: u64 = 5_000;

fn id(number: u64) -> ObjectId {
    ObjectId::from_parts(0, number)
}

fn key(number: u64, acked_through: u64) -> DedupeKey {
    DedupeKey { session: SessionId { client: 1, incarnation: 1 }, number, acked_through }
}

fn name() -> ObjectName {
    ObjectName::new("a").unwrap()
}

fn collection() -> CollectionKey {
    CollectionKey { owner: ComponentId::operator(), name: name() }
}

fn known_session(acked_through: u64, numbers: &[u64]) -> KnownSession {
    KnownSession { acked_through, last_ms: AT_MS, numbers: numbers.iter().copied().collect() }
}

/// A unit that gives an object a name and a vector, or takes both away.
fn writes(object: u64, is_there: bool) -> Layer {
    let mut layer = Layer::default();
    layer.names.insert(name(), is_there.then_some(id(object)));
    let vector = || Vector { components: vec![1.0, 2.0].into(), metadata: Json::null() };
    layer.collections.insert(collection(), CollectionForm::of_first(2));
    layer.vectors.insert((collection(), id(object)), is_there.then(vector));
    layer
}

#[test]
fn each_position_sees_what_was_voted_for_up_to_it() {
    let mut order = Order::default();
    let first = order.add(&mut writes(1, true), None, &[], AT_MS);
    let second = order.add(&mut writes(1, false), None, &[], AT_MS);
    assert_eq!((first.get(), second.get(), order.position(), order.waiting()), (1, 2, second, 2));
    assert_eq!(order.name(&name(), Position::NONE), None);
    assert_eq!(order.name(&name(), first), Some((Some(id(1)), first)));
    assert_eq!(order.name(&name(), second), Some((None, second)));
    assert_eq!(order.vector(&collection(), id(1), first), Some(first));
    assert_eq!(order.vector(&collection(), id(1), second), Some(Position::NONE));
    assert_eq!(order.form(&collection()), Some(CollectionForm::of_first(2)));
    order.settle(first, 1);
    assert_eq!(order.name(&name(), first), None, "the tables have it now");
    assert_eq!(order.name(&name(), second), Some((None, second)));
    order.settle(second, 1);
    assert_eq!((order.name(&name(), second), order.form(&collection()), order.waiting()), (None, None, 0));
}

/// A unit that gives an object a state.
fn state(object: u64, slot: &str) -> Layer {
    let mut layer = Layer::default();
    let slots = [(slot.into(), Slot::Value(Json::null()))].into();
    let made = Object {
        id: id(object),
        owner: ComponentId::operator(),
        generation: 1,
        revision: Revision::NONE.next(),
        position: Position::NONE,
        parents: vec![],
        slots,
    };
    layer.objects.insert(id(object), Arc::new(made));
    layer
}

fn durable(order: &Order, object: u64, at: Position) -> Option<Position> {
    match order.state(id(object), at)? {
        Known::Durable(state) => Some(state.position),
        Known::Pending(_) => None,
    }
}

#[test]
fn a_state_that_was_decided_is_remembered_until_a_newer_one_is_or_until_states_are_reshaped() {
    let mut order = Order::default();
    let first = order.add(&mut state(1, "a"), None, &[], AT_MS);
    let second = order.add(&mut state(1, "b"), None, &[], AT_MS);
    assert!(matches!(order.state(id(1), first), Some(Known::Pending(state)) if state.position == first));
    order.settle(first, 1);
    assert_eq!(durable(&order, 1, first), Some(first));
    assert!(matches!(order.state(id(1), second), Some(Known::Pending(state)) if state.position == second));
    order.settle(second, 1);
    assert_eq!(durable(&order, 1, second), Some(second));
    assert!(order.state(id(1), first).is_none(), "the tables know what was before");

    let mut reshape = Layer::default();
    reshape.records.push(RecordWrite::SettleShadows { keys: vec![] });
    let third = order.add(&mut state(2, "a"), None, &[], AT_MS);
    let fourth = order.add(&mut reshape, None, &[], AT_MS);
    assert!(
        order.state(id(1), fourth).is_none(),
        "what is voted for may be in the tables before this hears of it"
    );
    order.settle(fourth, 2);
    assert!(order.state(id(2), third).is_none(), "a row was put in its place perhaps");
    let fifth = order.add(&mut state(2, "b"), None, &[], AT_MS);
    order.settle(fifth, 1);
    assert_eq!(durable(&order, 2, fifth), Some(fifth));
    order.end_era(fifth);
    assert!(order.state(id(2), fifth).is_none());
}

#[test]
fn what_is_remembered_is_bounded_and_the_newest_of_it_stays() {
    let mut order = Order::default();
    let slot = "a".repeat(limit::SLOT_NAME_BYTES_MAX);
    let of_one = slot.len() + "null".len() + limit::RECENT_STATE_BYTES + limit::RECENT_SLOT_BYTES;
    let tried = u64::try_from(3 * limit::RECENT_HALF_BYTES_MAX / of_one).unwrap();
    for object in 0..tried {
        let at = order.add(&mut state(object, &slot), None, &[], AT_MS);
        order.settle(at, 1);
    }
    let is_remembered = |object: &u64| order.state(id(*object), order.position()).is_some();
    let bytes = of_one * (0..tried).filter(is_remembered).count();
    let bounds = limit::RECENT_HALF_BYTES_MAX / 2..=2 * (limit::RECENT_HALF_BYTES_MAX + of_one);
    assert!(bounds.contains(&bytes), "{bytes} bytes");
    assert!(is_remembered(&(tried - 1)));
    assert!(order.state(id(0), order.position()).is_none());
}

#[test]
fn a_pending_request_is_known_with_its_outcome_and_watermark() {
    let mut order = Order::default();
    let first = order.add(&mut Layer::default(), Some(&key(5, 3)), b"five", AT_MS);
    let second = order.add(&mut Layer::default(), Some(&key(6, 4)), b"six", AT_MS);
    assert_eq!(order.decided(&key(5, 0)), Some((first, b"five".to_vec())));
    let known = order.session(key(5, 0).session).unwrap();
    assert_eq!((known.acked_through, known.count_above(4), known.count_above(5)), (4, 2, 1));
    order.settle(second, 2);
    assert_eq!(order.decided(&key(5, 0)), None, "the tables have it now");
    assert_eq!(order.session(key(5, 0).session), Some(&known_session(4, &[5, 6])), "and need not be asked");
}

#[test]
fn a_session_is_learnt_with_what_is_pending() {
    let (mut order, session) = (Order::default(), key(1, 0).session);
    order.learn_session(session, None);
    assert_eq!(order.session(session), None, "nobody knows it");
    let seventh = order.add(&mut Layer::default(), Some(&key(7, 4)), &[], AT_MS);
    order.forget_sessions();
    order.learn_session(session, Some(known_session(3, &[4, 5])));
    assert_eq!(order.session(session), Some(&known_session(4, &[5, 7])));
    order.forget_sessions();
    order.settle(seventh, 1);
    order.learn_session(session, None);
    assert_eq!(order.session(session), None, "it was swept");
}

#[test]
fn new_sessions_past_the_bound_displace_others_but_none_with_a_pending_request() {
    let mut order = Order::default();
    let new =
        |client| DedupeKey { session: SessionId { client, incarnation: 1 }, number: 1, acked_through: 0 };
    let most = limit::SESSIONS_KNOWN_MAX as u128;
    let mut positions = Vec::new();
    for client in 0..most {
        positions.push(order.add(&mut Layer::default(), Some(&new(client)), b"x", AT_MS));
    }
    assert_eq!(order.known_sessions(), limit::SESSIONS_KNOWN_MAX);
    // All but the last request are durable.
    order.settle(positions[positions.len() - 2], positions.len() - 1);
    let fresh = order.add(&mut Layer::default(), Some(&new(most)), b"y", AT_MS);
    assert_eq!(order.known_sessions(), 2);
    assert_eq!(order.session(new(most - 1).session), Some(&known_session(0, &[1])), "its request is pending");
    assert_eq!(order.session(new(0).session), None);
    assert_eq!(order.decided(&new(most)), Some((fresh, b"y".to_vec())));
    // Those that the tables tell of count too.
    for client in 0..most {
        order.learn_session(new(most + 1 + client).session, Some(known_session(0, &[1])));
        assert!(order.known_sessions() <= limit::SESSIONS_KNOWN_MAX);
    }
    assert!(order.session(new(most).session).is_some());
}

#[test]
fn a_pending_sweep_is_known_until_it_is_durable() {
    let mut order = Order::default();
    let mut sweep = Layer::default();
    sweep.records.push(RecordWrite::SweepSessions { now_ms: 9 });
    let position = order.add(&mut sweep, None, &[], AT_MS);
    assert_eq!(order.sweeping_ms(), 9);
    order.settle(position, 1);
    assert_eq!(order.sweeping_ms(), 0);
}

#[test]
fn a_failure_ends_the_era_and_everything_in_it() {
    let mut order = Order::default();
    order.add(&mut writes(1, true), Some(&key(1, 0)), &[], AT_MS);
    let era = order.era();
    order.end_era(Position::new(7));
    assert_eq!((order.era(), order.position().get(), order.waiting()), (era + 1, 7, 0));
    assert_eq!((order.name(&name(), Position::new(7)), order.decided(&key(1, 0))), (None, None));
    assert_eq!(order.session(key(1, 0).session), None);
}

#[test]
fn a_taken_post_is_touched_until_it_is_gone_for_good() {
    let mut order = Order::default();
    let post = PostId { position: Position::new(1), index: 0 };
    let mut layer = Layer::default();
    layer.taken.push(post);
    let position = order.add(&mut layer, None, &[], AT_MS);
    assert!(order.is_touched(post));
    assert_eq!(order.posts_after(10), 9);
    order.settle(position, 1);
    assert!(!order.is_touched(post));
    assert_eq!(order.posts_after(9), 9);
}
