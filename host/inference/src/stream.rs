//! Bytes of tokens to whole pieces of text, with stop texts taken out.
//!
//! A token may end inside a character, and a stop text may be split over tokens. So bytes wait until their character
//! is whole, and text waits while it could be the beginning of a stop text. Concatenated, the pieces are the whole
//! text before the first stop text: nothing is lost, and no part of a stop text gets out. Pure.

/// Assembles one generation's text.
pub(crate) struct Stream {
    stops: Vec<String>,
    /// The beginning of a character whose rest has not come.
    bytes: Vec<u8>,
    /// Text that may yet turn out to begin a stop text.
    held: String,
    is_stopped: bool,
}

impl Stream {
    /// `stops`: none empty.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops, bytes: Vec::new(), held: String::new(), is_stopped: false }
    }

    /// Whether a stop text came; what is pushed later is ignored.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Takes a token's bytes; answers the text that is certain now. Bytes that are not UTF-8 become U+FFFD.
    pub(crate) fn push(&mut self, token: &[u8]) -> Option<String> {
        if self.is_stopped {
            return None;
        }
        self.bytes.extend_from_slice(token);
        self.decode();
        self.release(false)
    }

    /// Takes the end; answers the text that was held back.
    pub(crate) fn finish(&mut self) -> Option<String> {
        if self.is_stopped {
            return None;
        }
        let rest = std::mem::take(&mut self.bytes);
        self.held.push_str(&String::from_utf8_lossy(&rest));
        self.release(true)
    }

    fn decode(&mut self) {
        while let Some(unfinished) = decode_some(&self.bytes, &mut self.held) {
            let is_done = unfinished == 0 || unfinished == self.bytes.len();
            self.bytes.drain(..self.bytes.len() - unfinished);
            if is_done {
                return;
            }
        }
    }

    fn release(&mut self, is_end: bool) -> Option<String> {
        if let Some(at) = self.first_stop() {
            self.held.truncate(at);
            self.is_stopped = true;
        }
        let keep = if is_end || self.is_stopped { 0 } else { self.possible_stop_bytes() };
        let rest = self.held.split_off(self.held.len() - keep);
        let piece = std::mem::replace(&mut self.held, rest);
        (!piece.is_empty()).then_some(piece)
    }

    fn first_stop(&self) -> Option<usize> {
        self.stops.iter().filter_map(|stop| self.held.find(stop)).min()
    }

    /// Length of the longest end of `held` that begins a stop text.
    fn possible_stop_bytes(&self) -> usize {
        self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0)
    }
}

/// Moves what is certain of `bytes` to `text`; answers how many bytes wait for more, none when there was nothing.
fn decode_some(bytes: &[u8], text: &mut String) -> Option<usize> {
    let chunk = bytes.utf8_chunks().next()?;
    text.push_str(chunk.valid());
    let rest = bytes.len() - chunk.valid().len();
    let invalid = chunk.invalid().len();
    if invalid == 0 || is_unfinished(chunk.invalid(), rest) {
        return Some(rest);
    }
    text.push(char::REPLACEMENT_CHARACTER);
    Some(rest - invalid)
}

/// Whether these last bytes are the beginning of a character rather than a mistake.
fn is_unfinished(invalid: &[u8], rest: usize) -> bool {
    invalid.len() == rest && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none())
}

/// Length of the longest end of `text` that is a proper beginning of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    let fits = |length: &usize| text.as_bytes().ends_with(&stop.as_bytes()[..*length]);
    (1..=longest).rev().filter(|length| stop.is_char_boundary(*length)).find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests;
