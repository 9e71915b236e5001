//! A persona that remembers.
