//! Printing that outlives its reader: a chore goes on when its output is closed (`| head`) or full.

use std::fmt::Arguments;
use std::io::Write;

/// Writes a line, if it can be written.
pub fn line(to: &mut dyn Write, text: Arguments<'_>) {
    let _ = writeln!(to, "{text}");
}

/// As that of the standard library, but for its panic.
macro_rules! println {
    ($($text:tt)*) => {
        $crate::print::line(&mut std::io::stdout(), format_args!($($text)*))
    };
}

/// As that of the standard library, but for its panic.
macro_rules! eprintln {
    ($($text:tt)*) => {
        $crate::print::line(&mut std::io::stderr(), format_args!($($text)*))
    };
}
