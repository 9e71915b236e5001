//! What a draft does is what a unit would.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Set(usize, u8, i64),
    Remove(usize, u8),
    Parents(usize, Vec<usize>),
    /// All objects go together.
    Generation(u32),
    Bind(u8, usize),
    Unbind(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let (object, slot) = (0..5_usize, 0..3_u8);
    prop_oneof![
        4 => (object.clone(), slot.clone(), 0..3_i64).prop_map(|(object, slot, value)| Act::Set(object, slot, value)),
        2 => (object.clone(), slot).prop_map(|(object, slot)| Act::Remove(object, slot)),
        1 => (object.clone(), prop::collection::vec(0..5_usize, 0..3)).prop_map(|(object, parents)| Act::Parents(object, parents)),
        1 => (1..4_u32).prop_map(Act::Generation),
        2 => (0..4_u8, object).prop_map(|(name, object)| Act::Bind(name, object)),
        1 => (0..4_u8).prop_map(Act::Unbind),
    ]
}

fn on_draft(draft: &mut Draft, ids: &[ObjectId], act: &Act) -> bool {
    match act {
        Act::Set(object, slot, value) => {
            draft.set_value(ids[*object], &format!("s{slot}"), json_of(&value.to_string())).is_ok()
        }
        Act::Remove(object, slot) => draft.remove_value(ids[*object], &format!("s{slot}")).is_ok(),
        Act::Parents(object, parents) => {
            draft.set_parents(ids[*object], parents.iter().map(|parent| ids[*parent]).collect()).is_ok()
        }
        Act::Generation(generation) => ids.iter().all(|id| draft.set_generation(*id, *generation).is_ok()),
        Act::Bind(which, object) => draft.bind(&name(&format!("n{which}")), ids[*object]).is_ok(),
        Act::Unbind(which) => draft.unbind(&name(&format!("n{which}"))).is_ok(),
    }
}

fn on_unit(unit: &mut Unit, ids: &[ObjectId], act: &Act) -> bool {
    match act {
        Act::Set(object, slot, value) => {
            unit.set_slot(ids[*object], &format!("s{slot}"), number(*value)).is_ok()
        }
        Act::Remove(object, slot) => unit.remove_slot(ids[*object], &format!("s{slot}")).is_ok(),
        Act::Parents(object, parents) => {
            unit.set_parents(ids[*object], parents.iter().map(|parent| ids[*parent]).collect()).is_ok()
        }
        Act::Generation(generation) => ids.iter().all(|id| {
            let now = unit.object(*id).unwrap().unwrap().generation;
            now <= *generation && unit.set_owner_generation(*id, operator(), *generation).is_ok()
        }),
        Act::Bind(which, object) => unit.bind(&name(&format!("n{which}")), ids[*object]).is_ok(),
        Act::Unbind(which) => unit.unbind(&name(&format!("n{which}"))).is_ok(),
    }
}

/// What every object holds and what every name stands for, without revisions.
fn held(store: &Store, ids: &[ObjectId]) -> Value {
    let mut unit = store.begin();
    let objects = ids.iter().map(|id| {
        let object = unit.object(*id).unwrap().unwrap();
        json!([object.generation, object.parents, format!("{:?}", object.slots)])
    });
    let objects: Vec<Value> = objects.collect();
    json!([objects, all_names(&mut unit)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if crate::random::is_long() { 300 } else { 12 }))]
    #[test]
    fn a_draft_does_what_a_unit_would_and_a_rehearsal_says_so(acts in prop::collection::vec(act(), 1..40)) {
        let home = tempfile::tempdir().unwrap();
        let (dir, other) = (home.path().join("store"), home.path().join("other"));
        let store = open(&dir);
        let ids: Vec<ObjectId> = (0..5).map(|value| object_with(&store, "s0", value)).collect();
        within(&store, |unit| unit.bind(&name("n0"), ids[0]).unwrap());
        drop(store);
        copy_tree(&dir, &other);

        let mut rehearsal = rehearse(&dir);
        let went: Vec<bool> = acts.iter().map(|act| on_draft(&mut rehearsal, &ids, act)).collect();
        let told = (rehearsal.changed(None, 100).unwrap(), rehearsal.renamed().unwrap());
        seal(rehearsal);

        let mut draft = begin(&dir);
        for (index, act) in acts.iter().enumerate() {
            prop_assert_eq!(on_draft(&mut draft, &ids, act), went[index]);
            if index % 7 == 3 {
                draft.changed(None, 1).unwrap();
            }
        }
        prop_assert_eq!(&(draft.changed(None, 100).unwrap(), draft.renamed().unwrap()), &told);
        seal(draft);

        let model = open(&other);
        let mut unit = model.begin();
        for (act, went) in acts.iter().zip(&went) {
            prop_assert_eq!(on_unit(&mut unit, &ids, act), *went, "{:?}", act);
        }
        commit(&model, unit).unwrap();
        let drafted = open(&dir);
        assert_clean(&drafted);
        prop_assert_eq!(held(&drafted, &ids), held(&model, &ids));
        let before: Vec<ObjectId> = told.0.iter().map(|changed| changed.after.id).collect();
        let at = drafted.position();
        let moved = ids.iter().filter(|id| drafted.object_at(**id, at).unwrap().unwrap().position == at);
        let mut moved: Vec<ObjectId> = moved.copied().collect();
        moved.sort();
        prop_assert_eq!(moved, before);
        within(&drafted, |unit| unit.set_slot(ids[0], "after", number(1)).unwrap());
    }
}
