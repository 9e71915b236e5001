//! Guests that have the host work for them: calls without end, lists without end, messages without end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use telos_kernel::seams::StreamSink;
use telos_kernel::{Breakage, Effect, Failure, Granting, InstallRequest, Limits};
use telos_tests::{Sending, TestKernel, guest};

use super::{assert_unharmed, breakage, minute, resident_mib};

/// CPU of a message that would not end: short, so that its end is near.
const BRIEF_MS: u32 = 100;
/// CPU of a message that ends by itself, however slow this host is.
const AMPLE_MS: u32 = 60_000;

/// A kernel with a counter, and the spammer with this much CPU.
async fn spammed(cpu_ms: u32) -> TestKernel {
    let kernel = TestKernel::with_guests(&["counter"]).await;
    let request = InstallRequest {
        source: "spammer.wasm".into(),
        grants: Granting::All,
        limits: Limits { cpu_ms, ..Limits::default() },
        ..InstallRequest::default()
    };
    kernel.kernel.install(guest("spammer"), request).await.unwrap();
    kernel
}

/// It is ended by one of the two accounts of CPU: which of them depends on how fast this host answers.
fn is_ended_by_cpu(breakage: &Breakage) -> bool {
    matches!(breakage, Breakage::Cpu { .. } | Breakage::HostCpu { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_end_are_ended_by_what_they_take_of_the_processor() {
    let kernel = spammed(BRIEF_MS).await;
    for selector in ["read_on", "list_on", "emit_on", "log_on"] {
        let ended = breakage(&kernel, "spammer", selector).await;
        assert!(is_ended_by_cpu(&ended), "{selector}: {ended}");
    }
    assert_unharmed(&kernel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instructions_that_take_long_count_as_well() {
    let kernel = spammed(BRIEF_MS).await;
    assert_eq!(breakage(&kernel, "spammer", "fill_on").await, Breakage::Cpu { allowed_ms: BRIEF_MS });
    assert_unharmed(&kernel).await;
}

/// Takes every piece at once and keeps none.
struct Nowhere;

impl StreamSink for Nowhere {
    fn chunk(&self, _attempt: u32, _value: Value) {}

    fn reset(&self, _attempt: u32) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_without_end_leave_nothing_in_memory() {
    let kernel = spammed(1_000).await;
    let before = resident_mib();
    let sending = Sending { sink: Some(Arc::new(Nowhere)), ..minute() };
    let ended = kernel.send_as("spammer", "emit_on", Value::Null, sending).await.unwrap_err();
    assert!(matches!(&ended, Failure::Broken { breakage, .. } if is_ended_by_cpu(breakage)), "{ended}");
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < 200, "{grown} MiB");
    assert_unharmed(&kernel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spammers_on_every_thread_do_not_stop_the_others() {
    let kernel = spammed(BRIEF_MS).await;
    let spamming: Vec<_> = (0..8).map(|_| kernel.line_up("spammer", "read_on", Value::Null)).collect();
    let spamming: Vec<_> = spamming.into_iter().map(|spam| tokio::spawn(spam.answer())).collect();
    for count in 1..=20 {
        assert_eq!(kernel.send("counter", "increment", Value::Null).await.unwrap(), count);
    }
    for spam in spamming {
        assert!(matches!(spam.await.unwrap(), Err(Failure::Broken { .. })));
    }
    assert_unharmed(&kernel).await;
}

#[tokio::test]
async fn a_text_that_claims_a_gibibyte_traps_and_costs_the_host_nothing() {
    let kernel = spammed(AMPLE_MS).await;
    let before = resident_mib();
    let Breakage::Trap(words) = breakage(&kernel, "spammer", "claim_gibibyte").await else {
        panic!("no trap")
    };
    assert!(words.contains("out of bounds"), "{words}");
    assert!(resident_mib().saturating_sub(before) < 200);
    assert_unharmed(&kernel).await;
}

#[tokio::test]
async fn what_is_really_large_is_not_copied_into_the_host() {
    let kernel = spammed(AMPLE_MS).await;
    let before = resident_mib();
    for selector in ["log_much", "answer_much"] {
        for _ in 0..10 {
            let Breakage::Trap(words) = breakage(&kernel, "spammer", selector).await else {
                panic!("no trap")
            };
            assert!(words.contains("fuel allocated for hostcalls has been exhausted"), "{selector}: {words}");
        }
    }
    assert!(kernel.journal.lines("plugin.log").is_empty());
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < 200, "{grown} MiB");
    assert_unharmed(&kernel).await;
}

#[tokio::test]
async fn every_line_of_a_flood_counts_against_its_own_plugin() {
    let kernel = spammed(AMPLE_MS).await;
    kernel.send("spammer", "log", json!({"times": 2_000})).await.unwrap();
    let lines = kernel.journal.lines("plugin.log");
    assert_eq!(lines.len(), 2_000);
    assert!(lines.iter().all(|line| line.plugin.as_deref() == Some("spammer")));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_break_give_back_their_slots_and_count_against_their_own_plugin() {
    // More than the pool has slots: one that kept its slot would leave the last ones none.
    const TIMES: usize = 1_500;
    let kernel = spammed(AMPLE_MS).await;
    let answer = kernel.send_as("spammer", "break_often", json!({"times": TIMES}), minute()).await.unwrap();
    assert_eq!(answer.value, TIMES);
    let told = kernel.journal.lines("message.broken");
    assert_eq!(told.len(), TIMES);
    assert!(told.iter().all(|line| line.plugin.as_deref() == Some("spammer")));
    assert!(kernel.journal.lines("message.host-failed").is_empty());
    assert_unharmed(&kernel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_fan_out_without_end_end_all_the_same() {
    let kernel = spammed(BRIEF_MS).await;
    let sending = Sending { within: Some(Duration::from_secs(3)), ..Sending::default() };
    let spread = kernel.send_as("spammer", "fan_out", Value::Null, sending);
    let (ended, count) = tokio::join!(spread, kernel.send("counter", "increment", Value::Null));
    let failure = ended.unwrap_err();
    // Past the sends of one tree each is refused at once, and then it is host calls without end.
    assert!(matches!(failure, Failure::Deadline | Failure::Broken { .. }), "{failure}");
    assert_eq!((failure.effect(), count.unwrap()), (Effect::None, json!(1)));
    assert_unharmed(&kernel).await;
}
