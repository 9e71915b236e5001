//! Takes memory until it is refused: once with the allocator that gives up by trapping, once politely.

use telos_sdk::prelude::*;

struct Hoarder;

const MIB: usize = 1 << 20;

/// Hoards.
#[plugin]
impl Hoarder {
    /// Allocates until the allocator is refused, which traps. Never answers.
    #[selector]
    fn hoard(_this: &Receiver) -> Result<u64, Failure> {
        let mut hoard: Vec<Vec<u8>> = Vec::new();
        loop {
            hoard.push(std::hint::black_box(vec![1; MIB]));
        }
    }

    /// Allocates until it is refused, gives everything back and answers how many MiB there were.
    #[selector]
    fn measure(_this: &Receiver) -> Result<usize, Failure> {
        let mut hoard: Vec<Vec<u8>> = Vec::new();
        while let Some(piece) = mebibyte() {
            hoard.push(std::hint::black_box(piece));
        }
        Ok(hoard.len())
    }

    /// Answers at once: the component is still served.
    #[selector(read_only)]
    #[example(name = "answers", returns = "pong")]
    fn ping(_this: &Receiver) -> Result<&'static str, Failure> {
        Ok("pong")
    }
}

/// One MiB, touched; none when it is refused.
fn mebibyte() -> Option<Vec<u8>> {
    let mut piece = Vec::new();
    piece.try_reserve_exact(MIB).ok()?;
    piece.resize(MIB, 1);
    Some(piece)
}
