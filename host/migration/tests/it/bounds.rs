//! Goal: a script that runs wild ends by its bounds, with an error of its own, never with the process.

use std::time::Duration;

use telos_migration::{EvolveError, Limit, Limits};

use crate::fixture::Home;

fn small() -> Limits {
    Limits { instructions: 20_000_000, memory_bytes: 16 * 1024 * 1024, ..Limits::default() }
}

#[track_caller]
fn limit(text: &str, limits: Limits) -> Limit {
    let home = Home::with_people();
    let error = home.run_within(&format!("store.find('team')\n{text}"), false, limits).unwrap_err();
    assert!(home.beside().is_empty());
    home.open();
    match error {
        EvolveError::Limit { object: Some(_), limit, .. } => limit,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn loops_without_an_end_end() {
    for text in [
        "while true do end",
        "repeat until false",
        "::again:: goto again",
        "table.sort({1, 2, 3}, function() while true do end end)",
        "local t = {}; for i = 1, 200000 do t[i] = -i end; table.sort(t)",
    ] {
        assert_eq!(limit(text, small()), Limit::Instructions(20_000_000), "{text}");
    }
    let brief = Limits { time: Duration::from_millis(20), instructions: u64::MAX, ..Limits::default() };
    assert_eq!(limit("while true do end", brief), Limit::Seconds(0));
    assert_eq!(limit("while true do store.find('team') end", brief), Limit::Seconds(0));
}

#[test]
fn a_built_in_function_without_an_end_is_left_behind() {
    let brief = Duration::from_millis(10);
    let limits = Limits { time: brief, grace: brief, ..Limits::default() };
    // Twenty lazy repetitions over forty letters: more ways than anybody could try.
    let text = "print((('a'):rep(40)):find(('a-'):rep(20) .. 'b'))";
    assert_eq!(limit(text, limits), Limit::Seconds(0));
}

#[test]
fn values_without_an_end_end() {
    let bytes = small().memory_bytes;
    for text in [
        "local t = {}; while true do t[#t + 1] = {} end",
        "local s = 'x'; while true do s = s .. s end",
        "local s = ('x'):rep(1e9)",
        "local t = {}; while true do t = { t } end",
        "local t = {}; while true do table.insert(t, store.find('team')) end",
    ] {
        assert_eq!(limit(text, small()), Limit::Memory(bytes), "{text}");
    }
}

#[test]
fn calls_without_an_end_end() {
    for text in [
        "local function f() return 1 + f() end f()",
        "local t = {}; for i = 1, 1000 do t = { t } end print(t)\nerror('deep')",
    ] {
        let error = Home::with_people().run_within(text, false, Limits::default()).unwrap_err();
        assert!(matches!(error, EvolveError::Script { .. }), "{error:?}");
    }
}

#[test]
fn what_is_printed_is_bounded_and_the_rest_is_counted() {
    let home = Home::with_people();
    let limits = Limits { printed_lines: 3, ..Limits::default() };
    let told = home.run_within("for i = 1, 10 do print(('ä'):rep(i * 300), i) end", true, limits).unwrap();
    assert_eq!((told.printed.lines.len(), told.printed.left_off), (3, 7));
    assert!(told.printed.lines[2].len() <= 1_024 + '…'.len_utf8(), "{}", told.printed.lines[2].len());
    let shown = Limits { differences: 1, ..Limits::default() };
    let told =
        home.run_within("for p in store.objects() do p:set('x', ('y'):rep(1000)) end", true, shown).unwrap();
    assert_eq!((told.differences.len(), told.differences_left_off), (1, 4));
    assert_eq!(told.differences[0].after.as_deref(), Some("(1002 bytes)"));
}

/// Every word by itself would fit; all of them are more than any machine's memory.
#[test]
fn a_line_is_cut_while_it_is_made() {
    let home = Home::with_people();
    let text = "
        local s, t = ('ä'):rep(5000000), {}
        for i = 1, 100000 do t[i] = s end
        print(table.unpack(t))
        print('a', s)
        assert(tostring(s) == s and tostring('\\255') == '\\255')
        print(('x'):rep(1023), 'ä')
    ";
    let lines = home.rehearse(text).unwrap().printed.lines;
    assert!(lines.iter().all(|line| line.len() <= 1_024 + '…'.len_utf8()), "{lines:?}");
    assert_eq!(lines, ["ä".repeat(512) + "…", format!("a {}…", "ä".repeat(511)), "x".repeat(1_023) + " …"]);
}

#[test]
fn what_a_script_says_when_it_fails_is_bounded() {
    for text in [
        "error(('x'):rep(5000000))",
        "error(('x'):rep(5000000), 0)",
        "assert(false, ('x'):rep(5000000))",
        "store.find('team'):set(('x'):rep(5000000), print)",
        "store.find('team'):rename(('x'):rep(5000000), 'y')",
        "store.find(('x'):rep(5000000))",
        "store.create(('x'):rep(5000000))",
    ] {
        let error = Home::with_people().run_within(text, false, Limits::default()).unwrap_err();
        let told = error.to_string();
        assert!(told.starts_with("evolve.lua:1: ") && told.len() < 1_200, "{text}: {} bytes", told.len());
    }
}
