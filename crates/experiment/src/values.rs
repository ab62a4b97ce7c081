//! Values of keys and flags as text: what one alone tells to be nonsense is refused, with what to give
//! instead.

/// A whole number above 0.
///
/// # Errors
/// Advice: the value to give instead.
pub fn positive(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(0) => Err("give at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("give a whole number from 1 to {}", u32::MAX)),
    }
}

/// A whole number.
///
/// # Errors
/// Advice: the value to give instead.
pub fn number(text: &str) -> Result<u32, String> {
    let number = text.trim().parse();
    number.map_err(|_| format!("give a whole number from 0 to {}", u32::MAX))
}

/// A number.
///
/// # Errors
/// Advice: the value to give instead.
pub fn real(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "give a number".to_owned())
}

/// Whole numbers above 0, separated by commas; or `none` of them.
///
/// # Errors
/// Advice: the value to give instead.
pub fn units(text: &str) -> Result<Vec<u32>, String> {
    if ["", "none"].contains(&text.trim()) {
        return Ok(Vec::new());
    }
    let each = text.split(',').map(positive);
    each.collect::<Result<_, _>>()
        .map_err(|advice| format!("{advice}, several with commas between them, or none"))
}

/// Any text.
///
/// # Errors
/// None.
pub fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// A seed.
///
/// # Errors
/// Advice: the value to give instead.
pub fn seed(text: &str) -> Result<u64, String> {
    // config.toml must hold it, and TOML's integers have a sign.
    match text.parse::<u64>() {
        Ok(seed) if i64::try_from(seed).is_ok() => Ok(seed),
        _ => Err(format!("give a whole number from 0 to {}", i64::MAX)),
    }
}

/// A step size.
///
/// # Errors
/// Advice: the value to give instead.
pub fn learning_rate(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("give a number above 0, such as 0.5".to_owned()),
    }
}

/// A time limit in seconds.
///
/// # Errors
/// Advice: the value to give instead.
pub fn seconds(text: &str) -> Result<f64, String> {
    // A day: beyond it, Duration and Instant would have to be checked for overflow.
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        _ => Err("give a number of seconds above 0 and up to 86400".to_owned()),
    }
}

/// A run's name.
///
/// # Errors
/// Advice: the value to give instead.
pub fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.starts_with('.') || !text.chars().all(plain) {
        return Err("take letters, digits, '-', '_' and '.', and no '.' in front".to_owned());
    }
    Ok(text.to_owned())
}

/// A patience of the watchdog in seconds.
///
/// # Errors
/// Advice: the value to give instead.
pub fn patience(text: &str) -> Result<f64, String> {
    match seconds(text) {
        Ok(seconds) if is_patience(seconds) => Ok(seconds),
        _ => Err(format!("give a number of seconds {PATIENCE}")),
    }
}

/// Tells whether the watchdog can have this patience: devices are asked every two seconds how far they
/// are, and one that hangs delays that by five.
pub fn is_patience(seconds: f64) -> bool {
    (10.0..=86_400.0).contains(&seconds)
}

/// The bounds of [`is_patience`], for people.
pub const PATIENCE: &str = "from 10 to 86400";

/// A share of 1, also as percents.
///
/// # Errors
/// Advice: the value to give instead.
pub fn probability(text: &str) -> Result<f64, String> {
    let (digits, whole) = match text.strip_suffix('%') {
        Some(percents) => (percents.trim_end(), 100.0),
        None => (text, 1.0),
    };
    match digits.parse::<f64>() {
        Ok(number) if (0.0..=whole).contains(&number) => Ok(number / whole),
        _ => Err("give a probability from 0 to 1, or a percentage: 0.05 or 5%".to_owned()),
    }
}

/// A time on a link.
///
/// # Errors
/// Advice: the value to give instead.
pub fn milliseconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ms) if (0.0..=60_000.0).contains(&ms) => Ok(ms),
        _ => Err("give a number of milliseconds from 0 to 60000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_runs_folder() {
        assert!(name("night-7_b.2").is_ok());
        for bad in ["", "..", "a/b", ".hidden", "a b"] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rates_are_positive_and_finite() {
        assert_eq!(learning_rate("0.25"), Ok(0.25));
        for bad in ["0", "-1", "nan", "inf", "1e-60", "x"] {
            assert!(learning_rate(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_probability_is_a_share_or_a_percentage() {
        assert_eq!(probability("0.3"), Ok(0.3));
        assert_eq!(probability("30%"), Ok(0.3));
        assert_eq!(probability("1"), Ok(1.0));
        for bad in ["30", "-0.1", "101%", "nan", "%", ""] {
            assert!(probability(bad).is_err(), "{bad:?}");
        }
    }
}
