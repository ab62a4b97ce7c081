//! Text that is safe to show, and numbers for people.

/// A text of whatever origin, for the terminal: without escape sequences and control characters, on
/// one line. Nothing in it moves the cursor, changes the colour or turns the direction of writing.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\t' => clean.push_str("    "),
            '\x1b' => skip_sequence(&mut rest),
            '\r' => {}
            c if zfl_text::steers(c) => clean.push('\u{fffd}'),
            c => clean.push(c),
        }
    }
    clean
}

/// Skips what follows an ESC: up to the final byte of a control sequence, else one character.
fn skip_sequence(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    if rest.next_if_eq(&'[').is_none() {
        rest.next_if(|c| ('\x20'..='\x7e').contains(c));
        return;
    }
    while rest.next_if(|c| ('\x20'..='\x3f').contains(c)).is_some() {}
    rest.next_if(|c| ('\x40'..='\x7e').contains(c));
}

/// `7`, `1.2 k`, `3.4 M`, `5.6 G`.
pub fn quantity(number: u64) -> String {
    const UNITS: [&str; 5] = ["k", "M", "G", "T", "P"];
    let mut value = number as f64;
    let mut unit = None;
    for next in UNITS {
        // What would be rounded to 1000 belongs to the next unit.
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = Some(next);
    }
    match unit {
        None => number.to_string(),
        Some(unit) if value < 9.95 => format!("{value:.1} {unit}"),
        Some(unit) => format!("{value:.0} {unit}"),
    }
}

/// `7 B`, `1.2 kB`, `3.4 MB`.
pub fn bytes(number: u64) -> String {
    let text = quantity(number);
    if text.contains(' ') {
        text + "B"
    } else {
        text + " B"
    }
}

/// `0:07`, `12:34`, `1:02:03`.
pub fn clock(seconds: f64) -> String {
    // Casts of floats saturate: nothing from outside makes this panic.
    let seconds = seconds as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_text_is_left() {
        for (text, expected) in [
            ("\x1b[1;32muart:~$\x1b[0m run\r", "uart:~$ run"),
            ("\x1b]0;title\x07x", "0;title\u{fffd}x"),
            ("a\tb\x08\x7f\u{9b}31m", "a    b\u{fffd}\u{fffd}\u{fffd}31m"),
            ("\x1b[2J\x1b[", ""),
            ("\x1b\x1b[31mred", "red"),
            ("grün \u{202e}txt", "grün \u{fffd}txt"),
        ] {
            assert_eq!(clean(text), expected, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0, 999, 1000, 9949, 9950, 999_499, 999_500, 12_345_678_901];
        let text: Vec<_> = numbers.into_iter().map(quantity).collect();
        assert_eq!(
            text,
            [
                "0", "999", "1.0 k", "9.9 k", "10 k", "999 k", "1.0 M", "12 G"
            ]
        );
        assert_eq!((bytes(7), bytes(1200)), ("7 B".into(), "1.2 kB".into()));
        assert_eq!(
            (clock(7.9), clock(754.0), clock(3723.0)),
            ("0:07".into(), "12:34".into(), "1:02:03".into())
        );
        assert_eq!(clock(f64::NAN), "0:00");
    }
}
