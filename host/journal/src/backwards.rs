//! Reads a file's lines from its end towards its beginning.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

const BLOCK_BYTES: u32 = 64 * 1024;
/// What has no newline for this long is handed out in pieces: garbage, not a line.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// A line with its newline when it has one, and where it begins.
#[derive(Debug, PartialEq)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Backwards {
    file: File,
    /// File offset of `unread`'s first byte.
    offset: u64,
    unread: Vec<u8>,
}

impl Backwards {
    /// Lines that end at or before `end`.
    pub(crate) fn new(file: File, end: u64) -> Backwards {
        Backwards { file, offset: end, unread: Vec::new() }
    }

    fn read_block(&mut self) -> io::Result<()> {
        let count = self.offset.min(u64::from(BLOCK_BYTES));
        self.offset -= count;
        self.file.seek(SeekFrom::Start(self.offset))?;
        let mut block = Vec::with_capacity(self.unread.len() + BLOCK_BYTES as usize);
        (&mut self.file).take(count).read_to_end(&mut block)?;
        block.append(&mut self.unread);
        self.unread = block;
        Ok(())
    }

    /// Where the last line begins within `unread`, when that is known.
    fn last_start(&self) -> Option<usize> {
        let before_end = self.unread.len().checked_sub(1)?;
        let newline = self.unread[..before_end].iter().rposition(|byte| *byte == b'\n');
        let is_whole = self.offset == 0 || self.unread.len() >= PIECE_BYTES_MAX;
        newline.map(|at| at + 1).or(is_whole.then_some(0))
    }
}

impl Iterator for Backwards {
    type Item = io::Result<Piece>;

    fn next(&mut self) -> Option<io::Result<Piece>> {
        loop {
            if let Some(start) = self.last_start() {
                let bytes = self.unread.split_off(start);
                return Some(Ok(Piece { offset: self.offset + start as u64, bytes }));
            }
            if self.offset == 0 {
                return None;
            }
            if let Err(error) = self.read_block() {
                return Some(Err(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[track_caller]
    fn check(content: &[u8]) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let mut pieces: Vec<Piece> = Backwards::new(file, content.len() as u64).map(Result::unwrap).collect();
        pieces.reverse();
        let mut offset = 0;
        for piece in &pieces {
            assert_eq!(piece.offset, offset);
            offset += piece.bytes.len() as u64;
        }
        let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.clone()).collect();
        assert_eq!(joined, content);
        let expected = content.split_inclusive(|byte| *byte == b'\n').count();
        assert!(pieces.len() >= expected);
        assert!(pieces.len() == expected || content.len() > PIECE_BYTES_MAX);
    }

    #[test]
    fn pieces_join_to_the_file_whatever_it_holds() {
        check(b"");
        check(b"\n");
        check(b"\n\n\n");
        check(b"a\nbc\n\ndef");
        check(&b"0123456789abcdef\n".repeat(20_000));
        check(&[b"x".repeat(65_535), b"\n".repeat(3), b"y".repeat(65_536)].concat());
        check(&vec![0; 3 << 20]);
    }
}
