//! Any text: no panic, and an endpoint that is read is printed as it was written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use telos_guard::Remote;

fuzz_target!(|text: &str| {
    if let Ok(remote) = text.parse::<Remote>() {
        assert_eq!(remote.to_string().to_lowercase(), text.to_lowercase());
        assert_eq!(remote.to_string().parse(), Ok(remote));
    }
});
