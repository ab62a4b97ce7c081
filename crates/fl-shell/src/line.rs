//! Line editor: bytes of a serial line in, whole lines out.
//!
//! Invariant: a line never holds more than [`LINE_BYTES`]; one that was longer is refused as a
//! whole, since half a command is another command.

use heapless::Vec;

/// The longest line taken. The longest sensible `run` has 209 bytes.
pub const LINE_BYTES: usize = 224;

/// Effect of one byte on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing to show.
    Nothing,
    /// The byte joined the line: show it.
    Append(u8),
    /// The last byte of the line is gone: take it off the screen.
    Erase,
    /// The line is whole: [`LineEditor::take`] it.
    Complete,
}

/// A line that was longer than [`LINE_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

/// A line being typed.
#[derive(Debug, Default)]
pub struct LineEditor {
    bytes: Vec<u8, LINE_BYTES>,
    too_long: bool,
    after_return: bool,
}

impl LineEditor {
    /// An empty line.
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            too_long: false,
            after_return: false,
        }
    }

    /// Takes one byte from the serial line.
    pub fn push(&mut self, byte: u8) -> Edit {
        // A return, a newline or both end a line; both together end only one.
        let second_of_pair = byte == b'\n' && self.after_return;
        self.after_return = byte == b'\r';
        match byte {
            b'\n' if second_of_pair => Edit::Nothing,
            b'\r' | b'\n' => Edit::Complete,
            0x08 | 0x7f => self.erase(),
            b' '..=b'~' => self.append(byte),
            _ => Edit::Nothing,
        }
    }

    /// The line as it was typed, and a fresh one in its place.
    pub fn take<R>(&mut self, use_line: impl FnOnce(Result<&str, LineTooLong>) -> R) -> R {
        let line = core::mem::take(&mut self.bytes);
        let too_long = core::mem::take(&mut self.too_long);
        match core::str::from_utf8(&line) {
            Ok(text) if !too_long => use_line(Ok(text)),
            _ => use_line(Err(LineTooLong)),
        }
    }

    fn append(&mut self, byte: u8) -> Edit {
        if self.bytes.push(byte).is_err() {
            self.too_long = true;
            return Edit::Nothing;
        }
        Edit::Append(byte)
    }

    fn erase(&mut self) -> Edit {
        if self.too_long || self.bytes.pop().is_none() {
            Edit::Nothing
        } else {
            Edit::Erase
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> std::vec::Vec<Result<std::string::String, LineTooLong>> {
        let mut editor = LineEditor::new();
        let mut lines = std::vec::Vec::new();
        for &byte in input {
            if editor.push(byte) == Edit::Complete {
                editor.take(|line| lines.push(line.map(Into::into)));
            }
        }
        lines
    }

    #[test]
    fn any_line_end_ends_one_line() {
        let expected = [
            Ok("a".into()),
            Ok("b".into()),
            Ok("".into()),
            Ok("c".into()),
        ];
        assert_eq!(lines(b"a\r\nb\n\rc\r"), expected);
    }

    #[test]
    fn backspace_takes_back_one_byte_and_stops_at_the_start() {
        assert_eq!(lines(b"\x7fhelq\x08p\n"), [Ok("help".into())]);
        let mut editor = LineEditor::new();
        assert_eq!(editor.push(0x08), Edit::Nothing);
        assert_eq!(editor.push(b'x'), Edit::Append(b'x'));
        assert_eq!(editor.push(0x08), Edit::Erase);
    }

    #[test]
    fn control_and_foreign_bytes_are_ignored() {
        assert_eq!(lines(b"st\x1b\x00\xffat\n"), [Ok("stat".into())]);
    }

    #[test]
    fn a_line_too_long_is_refused_as_a_whole_and_the_next_one_is_fine() {
        let mut input = std::vec![b'x'; LINE_BYTES];
        input.extend_from_slice(b"\ny");
        assert_eq!(lines(&input), [Ok("x".repeat(LINE_BYTES))]);
        let mut input = std::vec![b'x'; LINE_BYTES + 1];
        input.extend_from_slice(b"\x08\nstat\n");
        assert_eq!(lines(&input), [Err(LineTooLong), Ok("stat".into())]);
    }
}
