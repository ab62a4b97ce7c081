//! Lines on the console.

use core::ffi::CStr;
use core::fmt::{self, Write};
use zephyr::raw;

/// Longest line that is written in one go; what is beyond is cut off.
const LINE_BYTES: usize = 240;

/// Text of bounded length, always ended by a zero for C.
struct Line {
    text: [u8; LINE_BYTES],
    len: usize,
}

impl Line {
    fn new(args: fmt::Arguments<'_>) -> Self {
        let mut line = Self {
            text: [0; LINE_BYTES],
            len: 0,
        };
        // It never fails: what does not fit is dropped.
        let _ = line.write_fmt(args);
        line
    }

    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.text).unwrap_or(c"")
    }
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = LINE_BYTES - 1 - self.len;
        let mut cut = room.min(s.len());
        while !s.is_char_boundary(cut) {
            cut -= 1;
        }
        self.text[self.len..self.len + cut].copy_from_slice(&s.as_bytes()[..cut]);
        self.len += cut;
        Ok(())
    }
}

/// Writes one line of the device's log: `zfl: ` and the text.
///
/// The whole line goes out under printk's lock, so that lines of two threads do not mix.
pub fn log(args: fmt::Arguments<'_>) {
    let mut line = Line::new(format_args!("zfl: {args}\n"));
    if line.len == LINE_BYTES - 1 {
        line.text[line.len - 1] = b'\n';
    }
    // SAFETY: the buffer holds `len` bytes; printk only reads them.
    unsafe { raw::k_str_out(line.text.as_mut_ptr().cast(), line.len) };
}

/// Calls `write` with the text as a C string.
pub fn with_c_str(args: fmt::Arguments<'_>, write: impl FnOnce(&CStr)) {
    write(Line::new(args).as_c_str());
}
