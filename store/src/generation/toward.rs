//! To which generation a component's state goes, and which of its objects that leaves behind.

/// A generation that is to be put in force, and from which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// A later one, from below.
    Up(u32),
    /// An earlier one, from above.
    Down(u32),
}

impl Toward {
    /// From one generation to another; none when they are the same.
    pub fn between(from: u32, to: u32) -> Option<Toward> {
        match from.cmp(&to) {
            std::cmp::Ordering::Less => Some(Toward::Up(to)),
            std::cmp::Ordering::Greater => Some(Toward::Down(to)),
            std::cmp::Ordering::Equal => None,
        }
    }

    /// The generation.
    pub fn generation(self) -> u32 {
        let (Toward::Up(to) | Toward::Down(to)) = self;
        to
    }

    /// Whether an object's state in this generation is still to be carried over.
    pub fn leaves_behind(self, generation: u32) -> bool {
        match self {
            Toward::Up(to) => generation < to,
            Toward::Down(to) => generation > to,
        }
    }
}
