//! Compiled functions, kept in memory for a while: components that are made of one template differ in little else than
//! data, and their functions are compiled once.
//!
//! Two generations: what is used goes to the young one, and when that is full the old one is forgotten.

use std::borrow::Cow;
use std::collections::HashMap;

use parking_lot::Mutex;
use wasmtime::CacheStore;

/// Bytes of each generation, keys included.
const GENERATION_BYTES: usize = 2 << 20;

/// The functions of one engine. Its keys are hashes of what is compiled and how, which the compiler makes.
#[derive(Debug, Default)]
pub(crate) struct Functions(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Vec<u8>, Vec<u8>>,
    old: HashMap<Vec<u8>, Vec<u8>>,
    young_bytes: usize,
}

impl CacheStore for Functions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.0.lock().get(key).map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.0.lock().insert(key.to_vec(), value);
        true
    }
}

impl Generations {
    fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    fn insert(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.young_bytes += key.len() + value.len();
        if self.young_bytes > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = key.len() + value.len();
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let functions = Functions::default();
        let of = |number: usize| number.to_le_bytes().to_vec();
        functions.insert(b"used", vec![7; 100]);
        for number in 0..200 {
            functions.insert(&of(number), vec![0; 100_000]);
            assert_eq!(functions.get(b"used").as_deref(), Some(&[7; 100][..]), "{number}");
        }
        assert!(functions.get(&of(0)).is_none());
        let generations = functions.0.lock();
        let held: usize = generations.young.values().chain(generations.old.values()).map(Vec::len).sum();
        assert!(held <= 2 * GENERATION_BYTES, "{held}");
    }
}
