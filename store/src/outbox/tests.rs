use super::*;
use crate::id::Position;

fn id(position: u64) -> PostId {
    PostId { position: Position::new(position), index: 0 }
}

fn lane(source: u64, target: u64) -> Lane {
    (ObjectId::from_parts(0, source), ObjectId::from_parts(0, target))
}

fn add(outbox: &mut Outbox, position: u64, lane: Lane, not_before_ms: u64) {
    outbox.apply(&OutboxChange::Add { id: id(position), lane, not_before_ms, owner: owner_of(lane.0) });
}

fn owner_of(source: ObjectId) -> Option<ComponentId> {
    (source != ObjectId::from_parts(0, 4)).then(|| ComponentId::new("sender").unwrap())
}

#[test]
fn only_the_oldest_post_of_a_lane_is_due() {
    let mut outbox = Outbox::default();
    add(&mut outbox, 1, lane(1, 2), 0);
    add(&mut outbox, 2, lane(1, 2), 0);
    add(&mut outbox, 3, lane(1, 3), 0);
    assert_eq!(outbox.due(10, 10), [id(1), id(3)]);
    outbox.apply(&OutboxChange::Remove { id: id(1), lane: lane(1, 2) });
    assert_eq!(outbox.due(10, 10), [id(2), id(3)]);
    assert_eq!(outbox.pending(), 2);
}

#[test]
fn a_delayed_post_holds_back_its_lane_and_no_other() {
    let mut outbox = Outbox::default();
    add(&mut outbox, 1, lane(1, 2), 0);
    add(&mut outbox, 2, lane(1, 2), 0);
    add(&mut outbox, 3, lane(4, 2), 0);
    outbox.apply(&OutboxChange::Delay { id: id(1), lane: lane(1, 2), not_before_ms: 100 });
    assert_eq!(outbox.due(99, 10), [id(3)]);
    assert_eq!(outbox.due(100, 10), [id(3), id(1)]);
    assert_eq!(outbox.next_due_ms(), Some(0));
}

#[test]
fn an_empty_outbox_is_never_due() {
    let mut outbox = Outbox::default();
    add(&mut outbox, 1, lane(1, 2), 5);
    outbox.apply(&OutboxChange::Remove { id: id(1), lane: lane(1, 2) });
    assert_eq!((outbox.next_due_ms(), outbox.pending()), (None, 0));
    assert!(outbox.lanes.is_empty());
}
