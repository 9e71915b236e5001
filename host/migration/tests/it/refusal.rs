//! Goal: whatever is wrong with a script, it is told with its place, and nothing was changed.

use telos_migration::{EvolveError, Refused, ValueError};
use telos_store::{DraftError, OpenError, ReadError, WriteError};

use crate::fixture::Home;

/// Runs a script that changes something first; answers why it was refused.
#[track_caller]
fn refused(text: &str) -> EvolveError {
    let home = Home::with_people();
    let before = std::fs::read(home.store().join("objects.redb")).unwrap();
    let text = format!("local ada = store.find('people/ada'); ada:set('born', 1)\n{text}");
    let error = home.run(&text).unwrap_err();
    assert_eq!(std::fs::read(home.store().join("objects.redb")).unwrap(), before, "{text}");
    assert!(home.beside().is_empty(), "{text}: {:?}", home.beside());
    let rehearsed = home.rehearse(&text).unwrap_err();
    assert_eq!(rehearsed.to_string(), error.to_string());
    error
}

/// The refusal of the second line.
#[track_caller]
fn asked(text: &str) -> Refused {
    match refused(text) {
        EvolveError::Refused { line: Some(2), object: Some(_), refused, .. } => *refused,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn the_root_object_of_a_plugin_that_serves_keeps_its_name() {
    let home = Home::with_people();
    home.seat("people");
    for text in ["store.unbind('people')", "store.bind('people', store.find('people/ada'))"] {
        let error = home.run(text).unwrap_err();
        let EvolveError::Refused { refused, .. } = &error else { panic!("{error:?}") };
        assert!(matches!(&**refused, Refused::RootName(name) if name == "people"), "{error}");
    }
}

#[test]
fn what_the_store_refuses_ends_the_script_at_its_line() {
    let unknown = asked("store.get('00000000000000000000000000000001')");
    assert!(matches!(unknown, Refused::Store(WriteError::Read(ReadError::NoSuchObject(_)))), "{unknown:?}");
    let lowered = asked("ada.generation = 0");
    assert!(matches!(lowered, Refused::NoGeneration(_)), "{lowered:?}");
    let lowered = asked("ada.generation = 5; ada.generation = 4");
    assert!(
        matches!(lowered, Refused::Store(WriteError::Generation { found: 4, in_force: 5, .. })),
        "{lowered:?}"
    );
    let method = asked("ada:set('greet', 1)");
    assert!(matches!(method, Refused::Store(WriteError::Invalid(_))), "{method:?}");
    let method = asked("ada:remove('greet')");
    assert!(matches!(method, Refused::Store(WriteError::Invalid(_))), "{method:?}");
    let taken = asked("store.bind('people/grace', ada)");
    assert!(matches!(taken, Refused::Store(WriteError::NameTaken { .. })), "{taken:?}");
    let name = asked("store.find('not a name')");
    assert!(matches!(name, Refused::Store(WriteError::Invalid(_))), "{name:?}");
    let owner = asked("store.create('poeple')");
    assert!(matches!(owner, Refused::NoSuchOwner(_)), "{owner:?}");
    let slot = asked("ada:rename('absent', 'new')");
    assert!(matches!(slot, Refused::NoSuchSlot { .. }), "{slot:?}");
    let slot = asked("ada:rename('born', 'name')");
    assert!(matches!(slot, Refused::SlotTaken { .. }), "{slot:?}");
}

#[test]
fn values_that_are_no_data_are_refused_by_slot() {
    let value = |text: &str| match asked(text) {
        Refused::Value { slot, why } => (slot, why),
        other => panic!("{text}: {other:?}"),
    };
    let circular = value("local t = {}; t.t = t; ada:set('x', t)");
    assert_eq!(circular, ("x".into(), ValueError::Nested));
    assert_eq!(value("ada:set('x', ('y'):rep(300000))").1, ValueError::TooLarge(262_144));
    assert_eq!(value("ada:set('x', ('\\\"'):rep(200000))").1, ValueError::TooLarge(262_144));
    assert_eq!(value("ada:set('x', print)").1, ValueError::Kind("function"));
    assert_eq!(value("ada:set('x')").1, ValueError::Kind("nil"));
    let large = "for i = 1, 9 do ada:set('x' .. i, ('y'):rep(200000)) end";
    assert!(matches!(asked(large), Refused::Store(WriteError::TooLarge(_))));
}

#[test]
fn mistakes_of_the_script_are_told_in_luas_words_with_line_and_object() {
    for (text, expected) in [
        ("error('not like this')", "evolve.lua:2: not like this"),
        ("local x = nil + 1", "evolve.lua:2: attempt to perform arithmetic on a nil value"),
        ("ada:fly()", "evolve.lua:2: "),
        ("ada:set(nil, 1)", "evolve.lua:2: "),
        ("store.bind('x', 'ada')", "evolve.lua:2: "),
        ("os.exit()", "evolve.lua:2: attempt to index a nil value (global 'os')"),
        ("error({})", "evolve.lua:2: an error that is no text"),
        ("error(print)", "evolve.lua:2: an error that is no text"),
        ("error(null)", "evolve.lua:2: an error that is no text"),
        ("local s = ('%s%p'):format(1, {})", "evolve.lua:2: string.format has no %p"),
        ("string.format('%d', {})", "evolve.lua:2: bad argument #2 to 'format'"),
        ("for key in pairs { [{}] = 1 } do end", "evolve.lua:2: pairs goes in the order of keys"),
        ("for key in pairs(1) do end", "evolve.lua:2: pairs takes a table"),
        ("table.sort { 1, {} }", "evolve.lua:2: attempt to compare"),
        ("table.sort('x')", "evolve.lua:2: table.sort takes a table"),
    ] {
        match refused(text) {
            error @ EvolveError::Script { .. } => {
                let said = error.to_string();
                assert!(said.starts_with(expected) && said.contains("(at object "), "{text}: {said}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn a_script_reaches_nothing_but_the_store() {
    let absent = [
        "io",
        "os",
        "package",
        "require",
        "debug",
        "load",
        "loadstring",
        "loadfile",
        "dofile",
        "pcall",
        "xpcall",
        "coroutine",
        "setmetatable",
        "getmetatable",
        "collectgarbage",
        "next",
        "warn",
        "_G",
        "math.random",
        "math.randomseed",
        "string.dump",
    ];
    let home = Home::with_people();
    for name in absent {
        let text = format!("assert({name} == nil, '{name}')");
        let told = home.rehearse(&text);
        assert!(told.is_ok(), "{name}: {told:?}");
    }
}

#[test]
fn a_store_in_use_is_not_evolved() {
    let home = Home::with_people();
    let store = home.open();
    let error = home.run("").unwrap_err();
    assert!(matches!(error, EvolveError::Draft(DraftError::Open(OpenError::InUse { .. }))), "{error:?}");
    drop(store);
    home.run("").unwrap();
}
