//! What a script does, in one commit, and what is told of it; a rehearsal tells the same.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use telos_migration::{Evolved, Limits, Subject};
use telos_store::{Digest, DraftRaise, Phase, Store};

use crate::fixture::{Home, component, name};

/// Splits a name over two slots, counts members in another object, raises the generation.
const SPLIT: &str = r#"
local team, members = store.find("team"), array {}
for person in store.objects("people") do
  local first, last = person:get("name"):match("^(%S+) (%S+)$")
  person:set("first", first)
  person:rename("name", "full")
  person:set("last", last)
  person.generation = 2
  table.insert(members, person.id)
end
team:set("members", members)
team:set("count", #members)
print("people:", #members, team:get("count"))
"#;

/// All but what a rehearsal has not.
fn told(evolved: &Evolved) -> Value {
    let mut told = serde_json::to_value(evolved).unwrap();
    told["dry_run"] = Value::Null;
    told["backup"] = Value::Null;
    told
}

#[test]
fn a_script_changes_many_objects_in_one_commit_and_says_what_changed() {
    let home = Home::with_people();
    let base = home.open().position();
    let rehearsed = home.rehearse(SPLIT).unwrap();
    assert!(rehearsed.dry_run && rehearsed.backup.is_none());
    assert!(home.beside().is_empty() && home.open().position() == base);

    let evolved = home.run(SPLIT).unwrap();
    assert_eq!(told(&evolved), told(&rehearsed));
    assert_eq!((evolved.position, evolved.objects), (Some(base.next()), 5));
    let people = evolved.components.iter().find(|changes| changes.component == "people").unwrap();
    assert_eq!((people.objects, people.slots_added, people.slots_removed, people.generations), (4, 12, 4, 4));
    assert_eq!(evolved.printed.lines, ["people: 4 4"]);
    let people = DraftRaise { component: component("people"), from: 1, to: 2, objects: 4 };
    assert_eq!(evolved.raised, [people]);
    assert_eq!((evolved.differences.len(), evolved.differences_left_off), (20, 2));
    assert_eq!(
        (home.slot("people/ada", "first"), home.slot("people/ada", "name")),
        (Some("\"ada\"".into()), None)
    );
    assert_eq!(home.slot("people/ada", "full").unwrap(), "\"ada x\"");

    let store = home.open();
    assert!(store.verify_open().unwrap().is_clean());
    let mut audit = store.audit_after(0, 100).unwrap();
    let fact = audit.pop().unwrap();
    assert_eq!((fact.kind.as_str(), &fact.detail["objects"]), ("store.evolved", &json!(5)));
    let raise = audit.pop().unwrap();
    let script = Digest::of(SPLIT.as_bytes());
    assert_eq!((raise.kind.as_str(), &raise.detail["evolver"]), ("generation.raised", &json!(script)));
    assert_eq!(fact.detail["script_sha256"], json!(evolved.script_sha256));
    let backup = evolved.backup.unwrap();
    assert_eq!(fact.detail["backup"], json!(backup));
    assert_eq!(Store::check_backup(&backup, &mut |_| ()).unwrap().position, base);
    drop(store);
    // Done again it finds nobody whose name could be split, which its own line says.
    assert!(home.run(SPLIT).is_err());
}

#[test]
fn where_nothing_differs_there_is_no_commit_and_no_backup() {
    let home = Home::with_people();
    let base = home.open().position();
    for text in ["", "local ada = store.find('people/ada'); ada:set('born', 1); ada:set('born', 1815)"] {
        let evolved = home.run(text).unwrap();
        assert_eq!((evolved.position, evolved.objects, evolved.backup), (None, 0, None), "{text}");
    }
    assert!(home.beside().is_empty() && home.open().position() == base);
}

#[test]
fn names_parents_and_new_objects_are_changed_across_objects() {
    let home = Home::with_people();
    let text = r#"
        local group = store.create("people")
        group:set("title", "pioneers")
        store.bind("groups/pioneers", group)
        for name, person in store.names("people/") do
          if person:get("born") < 1910 then
            person:set_parents { group }
            store.unbind(name)
            store.bind("pioneers/" .. name:sub(8), person)
          end
        end
        assert(group == store.get(group.id) and group ~= store.find("team"))
        print(group, store.find("people/ada"), store.find("pioneers/ada"):names()[1], group:slots())
        print(table.concat(store.owners(), " "), #store.find("pioneers/ada"):parents(), group.owner)
    "#;
    let rehearsed = home.rehearse(text).unwrap();
    let evolved = home.run(text).unwrap();
    assert_eq!(told(&evolved), told(&rehearsed));
    assert_eq!((evolved.names.bound, evolved.names.unbound), (3, 2));
    assert_eq!((evolved.components[0].created, evolved.components[0].parents), (1, 2));
    let store = home.open();
    let mut unit = store.begin();
    let group = unit.find(&name("groups/pioneers")).unwrap().unwrap();
    let grace = unit.find(&name("pioneers/grace")).unwrap().unwrap();
    assert_eq!(unit.object(grace).unwrap().unwrap().parents, [group]);
    assert_eq!(unit.find(&name("people/grace")).unwrap(), None);
    assert_eq!(
        evolved.printed.lines,
        [format!("{group} nil pioneers/ada [\"title\"]"), "operator people 1 people".to_owned()]
    );
    let name_shown =
        evolved.differences.iter().any(|difference| difference.of == Subject::Name(name("pioneers/ada")));
    assert!(name_shown, "{:#?}", evolved.differences);
}

#[test]
fn values_keep_their_kinds() {
    let home = Home::with_people();
    let text = r#"
        local ada = store.find("people/ada")
        ada:set("kinds", { array {}, {}, null, 1, 1.5, 2.0, true, "x" })
        ada:set("again", ada:get("kinds"))
        ada:set("tags", ada:get("tags"))
        ada:set("none", null)
        assert(ada:get("none") == null and ada:get("absent") == nil and ada:get("greet") == nil)
        assert(ada:remove("none") and not ada:remove("none"))
    "#;
    let evolved = home.run(text).unwrap();
    let expected = r#"[[],{},null,1,1.5,2.0,true,"x"]"#;
    assert_eq!(home.slot("people/ada", "kinds").unwrap(), expected);
    assert_eq!(home.slot("people/ada", "again").unwrap(), expected);
    assert_eq!(evolved.components[0].slots_added, 2);
}

#[test]
fn tables_are_walked_in_the_order_of_their_keys() {
    let home = Home::with_people();
    let text = r#"
        local t, seen = { z = 1, a = 2, m = 3, [2] = 4, [1] = 5 }, {}
        for key in pairs(t) do table.insert(seen, key) end
        print(table.concat(seen, " "))
        print(tostring(t.z) .. tostring({ 1 }) .. tostring(1.5) .. tostring(print) .. tostring(nil))
    "#;
    assert_eq!(home.run(text).unwrap().printed.lines, ["1 2 a m z", "1[1]1.5functionnil"]);
}

#[test]
fn sorting_keeps_the_order_of_equals_however_many_there_are() {
    let home = Home::with_people();
    let text = r#"
        for count = 0, 40 do
          local t = {}
          for i = 1, count do t[i] = (i * 7) % 5 end
          table.sort(t)
          for i = 2, count do assert(t[i - 1] <= t[i]) end
          assert(#t == count)
        end
        local t, seen = {}, {}
        for i = 1, 5000 do t[i] = { place = i, rank = i < 4000 and 1 or i % 3 } end
        table.sort(t, function(one, other) return one.rank < other.rank end)
        for i = 2, 5000 do
          local one, other = t[i - 1], t[i]
          assert(one.rank < other.rank or one.rank == other.rank and one.place < other.place, i)
        end
        -- An order that is none is no mistake of the sort's.
        table.sort(t, function() return true end)
        for i = 1, #t, 500 do table.insert(seen, t[i].place) end
        print(table.concat(seen, " "))
    "#;
    let told = home.rehearse(text).unwrap();
    assert_eq!(told.printed, home.run(text).unwrap().printed);
}

#[test]
fn no_text_of_a_value_tells_where_in_memory_it_is() {
    let home = Home::with_people();
    let text = r#"
        local f = string.format
        print(f("%s %s %s %s", { 1 }, {}, print, null), ("%5s|%d|%q"):format({ a = 1 }, 3, "x"))
        print(f("%s %s %s %s", nil, true, 1.5, store.find("team")) == f("nil true 1.5 %s", store.find("team").id))
        local t = { [true] = 1, [false] = 2, [2.5] = 3, [1] = 4, a = 5 }
        for key, value in pairs(t) do print(key, value) end
    "#;
    let lines = home.rehearse(text).unwrap().printed.lines;
    let expected =
        ["[1] {} function null {\"a\":1}|3|\"x\"", "true", "1 4", "2.5 3", "a 5", "false 2", "true 1"];
    assert_eq!(lines, expected);
}

/// What a script's own phase told: done and total.
fn objects_told(text: &str, limits: Limits) -> Vec<(u64, u64)> {
    let mut told = Vec::new();
    let _ = Home::with_people().run_telling(text, true, limits, &mut |progress| {
        told.extend(Some((progress.done, progress.total)).filter(|_| progress.phase == Phase::Objects));
    });
    told
}

#[test]
fn how_far_a_script_is_is_told_while_it_runs() {
    let walk = "for object in store.objects() do object:set('seen', true) end";
    assert_eq!(objects_told(walk, Limits::default()), [(0, 5), (5, 5)]);
    let again = format!("for i = 1, 3 do {walk} end");
    assert_eq!(objects_told(&again, Limits::default()), [(0, 5), (15, 15)]);
    // It runs longer than is between two tellings, and is never done.
    let time = Limits { time: Duration::from_millis(1_500), instructions: u64::MAX, ..Limits::default() };
    let told = objects_told(&format!("while true do {walk} end"), time);
    assert!(told.len() > 1 && told[1].0 > 0 && told[1].1 == 5, "{told:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("TELOS_LONG").is_some() { 100 } else { 8 }))]
    #[test]
    fn what_a_dry_run_tells_is_what_the_run_does(lines in prop::collection::vec(line(), 1..12)) {
        let home = Home::with_people();
        let text = lines.join("\n");
        let (rehearsed, evolved) = (home.rehearse(&text), home.run(&text));
        match (rehearsed, evolved) {
            (Ok(rehearsed), Ok(evolved)) => {
                prop_assert_eq!(told(&rehearsed), told(&evolved), "{}", text);
                let shown = told(&home.rehearse("").unwrap());
                prop_assert_eq!(&shown["objects"], &json!(0));
                for difference in &evolved.differences {
                    if let (Subject::Slot(slot), Some(name)) = (&difference.of, &difference.name) {
                        prop_assert_eq!(home.slot(name.as_str(), slot), difference.after.clone(), "{}", text);
                    }
                }
            }
            (Err(rehearsed), Err(evolved)) => prop_assert_eq!(rehearsed.to_string(), evolved.to_string()),
            (rehearsed, evolved) => prop_assert!(false, "{}: {:?}, {:?}", text, rehearsed, evolved),
        }
    }
}

/// One statement over one person; some fail, then so do both runs.
fn line() -> impl Strategy<Value = String> {
    let who = prop::sample::select(vec!["ada", "grace", "alan", "barbara"]);
    let slot = prop::sample::select(vec!["name", "born", "tags", "new"]);
    (who, slot, 0..8_u8, 0..3_i32).prop_map(|(who, slot, what, number)| {
        let person = format!("store.find('people/{who}')");
        match what {
            0 | 1 => format!("{person}:set('{slot}', {number})"),
            2 => format!("{person}:remove('{slot}')"),
            3 => format!("{person}:set('{slot}', {{ {number}, {{ deep = '{who}' }} }})"),
            4 => format!(
                "for person in store.objects('people') do person.generation = person.generation + {number} end"
            ),
            5 => format!("{person}:set_parents {{ store.find('people/ada') }}"),
            6 => format!("if not store.find('also/{who}') then store.bind('also/{who}', {person}) end"),
            _ => format!("if {person}:get('{slot}') and not {person}:get('was') then {person}:rename('{slot}', 'was') end"),
        }
    })
}
