//! Goal: what the bridge promises holds when real processes are killed, stopped and lied to.
//! Method: hosts, workers and clients that are this test binary in children, and raw peers. Every scenario asserts what
//! must show, and tells how long things took, which depends on the machine and is not judged.
//!
//! A run samples each scenario. `TELOS_LONG=1` instead runs all of them one after the other as often and as large as
//! they are meant to be, and prints their figures as a table. Clocks that jump and networks that cut, delay and lose
//! are the simulator's (`src/simulation.rs`), where time is a number; length bombs and noise are in `below` and
//! `hostile`.

mod child;
mod figures;
mod ghosts;
mod hosts;
mod identity;
mod leaving;
mod loss;
mod parts;
mod slow;

use crate::wires::{Wires, on_every_wire};
use figures::Table;

/// How much of a scenario is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Sample,
    Long,
}

impl Scale {
    fn asked() -> Self {
        if std::env::var_os("TELOS_LONG").is_some() { Self::Long } else { Self::Sample }
    }

    fn pick<T>(self, sample: T, long: T) -> T {
        if self == Self::Sample { sample } else { long }
    }
}

/// Makes of each scenario a test of its sample, and of all together the long run.
macro_rules! scenarios {
    ($($test:ident: $run:path),+ $(,)?) => {
        $(
            async fn $test(wires: Wires) {
                if Scale::asked() == Scale::Sample {
                    let row = $run(wires, Scale::Sample).await;
                    drop(Table { title: String::new(), rows: vec![row] });
                }
            }
        )+

        async fn table_of_faults(wires: Wires) {
            if Scale::asked() == Scale::Long {
                let title = format!("Faults of real processes, wire `{}`", wires.host);
                let mut table = Table { title, rows: Vec::new() };
                $(table.rows.push(Box::pin($run(wires, Scale::Long)).await);)+
            }
        }

        on_every_wire! { "multi_thread": $($test),+, table_of_faults; }
    };
}

scenarios! {
    workers_killed_in_the_middle_of_a_job: loss::killed,
    a_worker_busy_far_beyond_its_liveness: loss::busy,
    a_wedged_worker_is_found_within_its_lease: loss::wedged,
    a_zombie_answers_late: loss::zombie,
    hosts_killed_under_load: hosts::killed,
    ghosts_that_connect_and_leave: ghosts::come_and_go,
    peers_that_say_they_are_another: identity::claimed,
    readers_of_large_messages_that_do_not_read: slow::never_read,
    poison_and_its_history: loss::poison,
    leaving_under_load: leaving::drained,
}
