//! The child's side: makes a cell, has itself confined, and tries the one candidate that it is given.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

use telos_forge::Confinement;
use telos_kernel::{TrialCell, TrialOrder};

/// Largest part that is taken.
const PART_BYTES_MAX: u32 = 64 << 20;

/// Tries the candidate that comes in, and answers how that went. `confine` is called once everything is there that needs
/// files, threads or processes, and before anything of the candidate is read.
///
/// # Errors
/// In words, for the host: this process could not do its work.
pub fn try_one(confine: impl FnOnce() -> Confinement) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let (asked, parts) = parts_of_stdin()?;
    let next = |what: &str| {
        // Whoever reads has ended where this fails, and then there is no part.
        let _ = asked.send(());
        parts.recv().map_err(|_| format!("the host sent no {what}"))
    };
    let module = String::from_utf8(next("module")?).map_err(|error| error.to_string())?;
    let cell = TrialCell::new(&module, &next("code")?).map_err(|error| error.to_string())?;
    say(&confine())?;
    let mut order: TrialOrder = serde_json::from_slice(&next("order")?).map_err(|error| error.to_string())?;
    order.component = next("component")?;
    drop(asked);
    say(&runtime.block_on(cell.try_out(&order)))
}

/// Reads a part each time that one is asked for, so that the candidate stays in the pipe until then: on a thread of its
/// own, which ends the process when the host has gone.
fn parts_of_stdin() -> Result<(Sender<()>, Receiver<Vec<u8>>), String> {
    let ((asked, asks), (sender, parts)) = (channel(), channel());
    let reader = std::thread::Builder::new().name("stdin".into()).spawn(move || {
        read_parts(&asks, &sender);
        std::process::exit(1)
    });
    reader.map(|_| (asked, parts)).map_err(|error| error.to_string())
}

fn read_parts(asks: &Receiver<()>, to: &Sender<Vec<u8>>) {
    let mut stdin = std::io::stdin().lock();
    for () in asks {
        let Some(part) = part(&mut stdin) else { return };
        if to.send(part).is_err() {
            return;
        }
    }
    // The host says nothing more; its going is what is waited for.
    let _ = std::io::copy(&mut stdin, &mut std::io::sink());
}

fn part(from: &mut impl Read) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let length = u32::from_le_bytes(length);
    let mut part = Vec::new();
    let read = from.take(length.into()).read_to_end(&mut part).ok()?;
    (length <= PART_BYTES_MAX && read == length as usize).then_some(part)
}

fn say(what: &impl serde::Serialize) -> Result<(), String> {
    let part = serde_json::to_vec(what).map_err(|error| error.to_string())?;
    let length = u32::try_from(part.len()).map_err(|error| error.to_string())?;
    let mut stdout = std::io::stdout().lock();
    let said = stdout.write_all(&length.to_le_bytes()).and_then(|()| stdout.write_all(&part));
    said.and_then(|()| stdout.flush()).map_err(|error| error.to_string())
}
