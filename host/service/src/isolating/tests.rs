use super::*;

#[expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]
async fn by_script(script: &str) -> (Tryout, Option<Confinement>) {
    let child = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let order = TrialOrder {
        module: "engine".into(),
        text: String::new(),
        component: vec![7; 300_000],
        selector: "run".into(),
        messages: Vec::new(),
    };
    run(child, &order, &vec![7; 300_000]).await
}

/// Says so much as a child that is confined does, in a shell's words.
fn begun(then: &str) -> String {
    let confined = r#"{"rlimits":true,"no_new_privs":true,"landlock":7,"seccomp":true}"#;
    format!(r"printf '\{:03o}\0\0\0{confined}'; {then}", confined.len())
}

#[tokio::test]
async fn what_a_child_answers_is_taken_with_what_holds_it() {
    let answer = r#"{"not-starting":"no"}"#;
    let (tryout, confinement) =
        by_script(&begun(&format!(r"printf '\{:03o}\0\0\0{answer}'; sleep 600", answer.len()))).await;
    assert_eq!(tryout, Tryout::NotStarting("no".into()));
    assert_eq!(confinement.and_then(|confinement| confinement.landlock), Some(7));
}

#[tokio::test]
async fn who_ends_by_a_bound_is_at_fault_and_who_is_ended_is_not() {
    for script in ["kill -XCPU $$", "kill -SYS $$", "kill -ABRT $$", "exit 101", "echo 1234"] {
        let (tryout, confinement) = by_script(&begun(script)).await;
        assert!(matches!(&tryout, Tryout::Exceeded(why) if why.contains("60 s")), "{script}: {tryout:?}");
        assert!(confinement.is_some_and(Confinement::is_closed));
    }
    for script in ["kill -9 $$", "kill -TERM $$"] {
        let (tryout, _) = by_script(&begun(script)).await;
        assert!(matches!(&tryout, Tryout::Hindered(why) if why.contains("from outside")), "{tryout:?}");
    }
}

#[tokio::test]
async fn who_never_begins_says_nothing_of_the_candidate() {
    for script in ["echo no such engine >&2; exit 1", "kill -ABRT $$", "echo 12345678"] {
        let (tryout, confinement) = by_script(script).await;
        assert!(matches!(&tryout, Tryout::Hindered(_)), "{script}: {tryout:?}");
        assert_eq!(confinement, None);
    }
    let (tryout, _) = by_script("echo no such engine >&2; exit 1").await;
    assert!(matches!(&tryout, Tryout::Hindered(why) if why.contains("no such engine")), "{tryout:?}");
}
