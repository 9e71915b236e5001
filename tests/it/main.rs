//! Integration tests of TelOS: one binary, one subject per file.

mod dispatch;
mod hostile;
mod messaging;
mod storage;
mod swap;
mod tidy;
