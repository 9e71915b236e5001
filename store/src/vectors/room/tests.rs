use super::*;

fn owner(text: &str) -> ComponentId {
    ComponentId::new(text).unwrap()
}

fn growth(of: &[(&str, i64)]) -> Growth {
    of.iter().map(|(text, bytes)| (owner(text), *bytes)).collect()
}

fn room(of: &[(&str, i64)]) -> Room {
    let mut room = Room::default();
    room.grow(&growth(of));
    room
}

#[track_caller]
fn refused(room: &Room, of: &[(&str, i64)], owner_max: u64, max: u64) -> (Option<ComponentId>, u64, u64) {
    match room.check(&growth(of), owner_max, max).unwrap_err() {
        CommitError::VectorsFull { owner, found, allowed } => (owner, found, allowed),
        error => panic!("{error}"),
    }
}

#[test]
fn each_owner_has_its_bound_and_all_have_one_together() {
    let room = room(&[("a", 60), ("b", 30)]);
    assert!(room.check(&growth(&[("a", 40)]), 100, 130).is_ok());
    assert_eq!(refused(&room, &[("a", 41)], 100, 1_000), (Some(owner("a")), 101, 100));
    assert_eq!(refused(&room, &[("c", 41)], 100, 130), (None, 131, 130));
    assert_eq!(refused(&room, &[("a", 20), ("b", 21)], 100, 130), (None, 131, 130));
}

#[test]
fn what_gives_room_back_fits_however_full_it_is() {
    let room = room(&[("a", 60), ("b", 90)]);
    assert!(room.check(&growth(&[("a", -1)]), 10, 10).is_ok());
    assert!(room.check(&growth(&[("a", 0)]), 10, 10).is_ok());
    assert!(room.check(&growth(&[("a", 5), ("b", -5)]), 100, 10).is_ok());
    assert_eq!(refused(&room, &[("a", 5), ("b", -50)], 10, 10), (Some(owner("a")), 65, 10));
}
