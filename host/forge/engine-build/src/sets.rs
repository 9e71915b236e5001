//! Which interfaces a behaviour may use besides those that each has.

/// Interfaces that every behaviour imports.
pub(crate) const ALWAYS: [&str; 3] = ["logging", "storage", "moment"];
/// Interfaces that a behaviour imports when it says so.
pub(crate) const OPTIONAL: [&str; 3] = ["inference", "messaging", "vectors"];

/// Every set of optional interfaces, each sorted.
pub(crate) fn all() -> Vec<Vec<&'static str>> {
    let chosen = |bits: u32| {
        let is_in = |(place, _): &(usize, &&str)| bits >> *place & 1 == 1;
        OPTIONAL.iter().enumerate().filter(is_in).map(|(_, interface)| *interface).collect()
    };
    (0..1 << OPTIONAL.len()).map(chosen).collect()
}

/// A set's name in a file's.
pub(crate) fn name(set: &[&str]) -> String {
    if set.is_empty() { "none".into() } else { set.join("-") }
}
