//! Values of flags that are no keys of an experiment.

use crate::args::DashboardChoice;
use zfl_runner::Capture;

/// The dashboard's address, or `off`.
///
/// # Errors
/// Advice: the value to give instead.
pub fn dashboard(text: &str) -> Result<DashboardChoice, String> {
    if text == "off" {
        return Ok(DashboardChoice::Off);
    }
    let at = text.parse().map(DashboardChoice::At);
    at.map_err(|_| "give an address and port, such as 127.0.0.1:8000, or off".to_owned())
}

/// `all`, or clients separated by commas.
///
/// # Errors
/// Advice: the value to give instead.
pub fn capture(text: &str) -> Result<Capture, String> {
    if text == "all" {
        return Ok(Capture::All);
    }
    let clients = text.split(',').map(|client| client.trim().parse());
    let clients = clients.collect::<Result<Vec<u32>, _>>().map(Capture::Of);
    clients.map_err(|_| "give `all`, or clients separated by commas: 0,3,7".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_of_all_or_of_some() {
        assert_eq!(capture("all"), Ok(Capture::All));
        assert_eq!(capture("3, 7"), Ok(Capture::Of(vec![3, 7])));
        for bad in ["", "some", "1,,2", "-1"] {
            assert!(capture(bad).is_err(), "{bad:?}");
        }
    }
}
