//! The token for remote control, as a flag or the environment gives it.

use crate::args::DashboardChoice;
use anyhow::Result;
use std::ffi::OsString;
use zfl_dashboard::Token;
use zfl_experiment::{Refusal, require};
use zfl_runner::{ControlToken, TOKEN_VARIABLE};

/// The token that a run was given by its flag, or in the environment; a random one if the flag has none.
///
/// # Errors
/// A [`Refusal`] if it is none, or there is no page for it.
pub fn token(
    flag: Option<&Option<String>>,
    environment: Option<OsString>,
    dashboard: DashboardChoice,
) -> Result<Option<ControlToken>> {
    let off = dashboard == DashboardChoice::Off;
    require(!off || flag.is_none(), || {
        "--dashboard-token is for the dashboard, which is off: leave one of them out".to_owned()
    })?;
    // An empty variable is how a shell script leaves one out.
    let environment = environment.filter(|text| !text.is_empty());
    let (named, text) = match (flag, environment) {
        _ if off => return Ok(None),
        (Some(Some(text)), _) => ("--dashboard-token", Some(OsString::from(text))),
        (_, Some(text)) => (TOKEN_VARIABLE, Some(text)),
        (Some(None), None) => ("--dashboard-token", None),
        (None, None) => return Ok(None),
    };
    let token = match text {
        None => Token::random()?,
        Some(text) => Token::parse(&text.to_string_lossy())
            .map_err(|advice| Refusal(format!("{named}: {advice}")))?,
    };
    let secret = named == TOKEN_VARIABLE;
    Ok(Some(ControlToken { token, secret }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    const GOOD: &str = "correct-horse-battery";

    fn at() -> DashboardChoice {
        DashboardChoice::At(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn asked_for(
        flag: Option<Option<&str>>,
        environment: Option<&str>,
    ) -> Result<Option<ControlToken>> {
        let flag = flag.map(|text| text.map(str::to_owned));
        token(flag.as_ref(), environment.map(OsString::from), at())
    }

    #[test]
    fn without_a_flag_and_a_variable_there_is_no_token() {
        assert!(asked_for(None, None).unwrap().is_none());
        assert!(asked_for(None, Some("")).unwrap().is_none());
    }

    #[test]
    fn the_flag_goes_first_and_a_secret_is_not_shown() {
        let shows = |token: Option<ControlToken>| token.unwrap().describe("http://[::1]:1/");
        let by_flag = asked_for(Some(Some(GOOD)), Some("another-token-than-that")).unwrap();
        assert!(shows(by_flag).ends_with("/#token=correct-horse-battery"));
        for flag in [None, Some(None)] {
            let asked = asked_for(flag, Some(GOOD)).unwrap();
            assert!(asked.as_ref().unwrap().token.matches(GOOD.as_bytes()));
            let said = shows(asked);
            assert!(
                !said.contains("horse") && said.contains(TOKEN_VARIABLE),
                "{said}"
            );
        }
        let random = || shows(asked_for(Some(None), None).unwrap());
        assert!(random().contains("/#token=") && random() != random());
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        for (flag, environment, named) in [
            (Some(Some("hunter2")), None, "--dashboard-token: take 16"),
            (Some(Some("")), None, "--dashboard-token: take 16"),
            (None, Some("hunter2"), "ZFL_DASHBOARD_TOKEN: take 16"),
        ] {
            let refused = asked_for(flag, environment).unwrap_err();
            assert!(refused.is::<Refusal>());
            let refused = refused.to_string();
            assert!(
                refused.starts_with(named) && !refused.contains("hunter2"),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_dashboard_that_is_off_takes_none() {
        let random = Some(None);
        assert!(token(random.as_ref(), None, DashboardChoice::Off).is_err());
        let exported = token(None, Some(GOOD.into()), DashboardChoice::Off);
        assert!(exported.unwrap().is_none());
    }
}
