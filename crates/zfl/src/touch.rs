//! Touching a run from its page: the token that was asked for, and the way from the page to the fleet.
//!
//! The page knows no fleet. What a hand asks for goes through a channel to a task of the run, which ends
//! with it: so no request that is under way keeps the fleet from being ended.

use crate::args::DashboardChoice;
use crate::stage::Stage;
use crate::terminal::Terminal;
use anyhow::Result;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::ffi::OsString;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use zfl_dashboard::{Action, Token, Touch};
use zfl_experiment::{Refusal, require};

/// The environment variable that a token may be in: arguments are for everybody to see in `ps`.
pub const VARIABLE: &str = "ZFL_DASHBOARD_TOKEN";

/// Wishes that may wait; more are refused.
const WAITING: usize = 16;

/// A token, and whether it may be shown.
#[derive(Debug)]
pub struct Asked {
    pub token: Token,
    /// Whoever put it into the environment keeps it from being read, and knows it.
    secret: bool,
}

impl Asked {
    /// What the run says of its page, which is at this address.
    pub fn describe(&self, address: &str) -> String {
        if self.secret {
            return format!(
                "dashboard: {address}\nto touch the run, open it with #token= and {VARIABLE} behind it"
            );
        }
        format!("dashboard: {address}{}", self.token.fragment())
    }
}

/// The token that a run was given by its flag, or in the environment; a random one if the flag has none.
///
/// # Errors
/// A [`Refusal`] if it is none, or there is no page for it.
pub fn asked(
    flag: Option<&Option<String>>,
    environment: Option<OsString>,
    dashboard: DashboardChoice,
) -> Result<Option<Asked>> {
    let off = dashboard == DashboardChoice::Off;
    require(!off || flag.is_none(), || {
        "--dashboard-token is for the dashboard, which is off: leave one of them out".to_owned()
    })?;
    // An empty variable is how a shell script leaves one out.
    let environment = environment.filter(|text| !text.is_empty());
    let (named, text) = match (flag, environment) {
        _ if off => return Ok(None),
        (Some(Some(text)), _) => ("--dashboard-token", Some(OsString::from(text))),
        (_, Some(text)) => (VARIABLE, Some(text)),
        (Some(None), None) => ("--dashboard-token", None),
        (None, None) => return Ok(None),
    };
    let token = match text {
        None => Token::random()?,
        Some(text) => Token::parse(&text.to_string_lossy())
            .map_err(|advice| Refusal(format!("{named}: {advice}")))?,
    };
    let secret = named == VARIABLE;
    Ok(Some(Asked { token, secret }))
}

/// An argument as it may be written down: without the token, a new one is made when it is repeated.
pub fn without_token(argument: String) -> String {
    match argument.split_once('=') {
        Some((flag @ "--dashboard-token", _)) => flag.to_owned(),
        _ => argument,
    }
}

/// Where what became of a wish goes, in words for a person.
pub type Answer = oneshot::Sender<Result<String, String>>;

/// What a hand wants.
pub enum Wish {
    /// The end of the run.
    Stop(Answer),
    /// Something done to a device.
    Device(u32, Action, Answer),
}

/// The page's end of the channel.
pub struct Hand {
    ask: mpsc::Sender<Wish>,
    cuts: bool,
}

/// A hand, and where its wishes arrive. `cuts`: whether the network can cut links.
pub fn hand(cuts: bool) -> (Arc<Hand>, mpsc::Receiver<Wish>) {
    let (ask, asked) = mpsc::channel(WAITING);
    (Arc::new(Hand { ask, cuts }), asked)
}

impl Hand {
    async fn ask(&self, wish: impl FnOnce(Answer) -> Wish) -> Result<String, String> {
        let over = || "the run is over".to_owned();
        let (answer, answered) = oneshot::channel();
        let sent = self.ask.try_send(wish(answer));
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => "too much at a time: try again".to_owned(),
            mpsc::error::TrySendError::Closed(_) => over(),
        })?;
        answered.await.unwrap_or_else(|_| Err(over()))
    }
}

impl Touch for Hand {
    fn actions(&self) -> Vec<Action> {
        let mut actions = vec![Action::Kill, Action::Reboot, Action::Freeze, Action::Thaw];
        if self.cuts {
            actions.extend([Action::Cut, Action::Heal]);
        }
        actions
    }

    fn stop(&self) -> BoxFuture<'_, Result<String, String>> {
        self.ask(Wish::Stop).boxed()
    }

    fn device(&self, client: u32, action: Action) -> BoxFuture<'_, Result<String, String>> {
        self.ask(move |answer| Wish::Device(client, action, answer))
            .boxed()
    }
}

/// Does what hands want, until it is dropped or nobody can want anything any more.
pub async fn obey(mut asked: mpsc::Receiver<Wish>, stage: Arc<Stage>, terminal: Arc<Terminal>) {
    // Whatever is under way ends with this.
    let mut acts = JoinSet::new();
    while let Some(wish) = asked.recv().await {
        while acts.try_join_next().is_some() {}
        match wish {
            Wish::Stop(answer) => {
                terminal.line("dashboard: stopping; Ctrl-C twice to stop at once");
                // Whoever asked may be gone.
                let _ = answer.send(Ok(stage.stop_by_hand()));
            }
            Wish::Device(client, action, answer) => {
                let (stage, terminal) = (Arc::clone(&stage), Arc::clone(&terminal));
                acts.spawn(async move { do_to(&stage, &terminal, client, action, answer).await });
            }
        }
    }
    // Nobody asks any more, yet a device may still be on its way back.
    while acts.join_next().await.is_some() {}
}

/// Does something to a device, says so, and brings the device back if that is asked for.
async fn do_to(stage: &Stage, terminal: &Terminal, client: u32, action: Action, answer: Answer) {
    let done = stage.touch(client, action).await;
    if let Ok(done) = &done {
        terminal.line(&format!("dashboard: {done}"));
    }
    let boots = done.is_ok() && action == Action::Reboot;
    // Whoever asked may be gone.
    let _ = answer.send(done);
    if boots {
        stage.bring_back(client).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    const GOOD: &str = "correct-horse-battery";

    fn at() -> DashboardChoice {
        DashboardChoice::At(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn asked_for(flag: Option<Option<&str>>, environment: Option<&str>) -> Result<Option<Asked>> {
        let flag = flag.map(|text| text.map(str::to_owned));
        asked(flag.as_ref(), environment.map(OsString::from), at())
    }

    #[test]
    fn without_a_flag_and_a_variable_there_is_no_token() {
        assert!(asked_for(None, None).unwrap().is_none());
        assert!(asked_for(None, Some("")).unwrap().is_none());
    }

    #[test]
    fn the_flag_goes_first_and_a_secret_is_not_shown() {
        let shows = |asked: Option<Asked>| asked.unwrap().describe("http://[::1]:1/");
        let by_flag = asked_for(Some(Some(GOOD)), Some("another-token-than-that")).unwrap();
        assert!(shows(by_flag).ends_with("/#token=correct-horse-battery"));
        for flag in [None, Some(None)] {
            let asked = asked_for(flag, Some(GOOD)).unwrap();
            assert!(asked.as_ref().unwrap().token.matches(GOOD.as_bytes()));
            let said = shows(asked);
            assert!(!said.contains("horse") && said.contains(VARIABLE), "{said}");
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
        assert!(asked(random.as_ref(), None, DashboardChoice::Off).is_err());
        let exported = asked(None, Some(GOOD.into()), DashboardChoice::Off);
        assert!(exported.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_hand_that_comes_too_late_is_told_so() {
        let (hand, asked) = hand(false);
        assert!(!hand.actions().contains(&Action::Cut));
        drop(asked);
        assert_eq!(hand.stop().await, Err("the run is over".to_owned()));
        let (hand, mut asked) = super::hand(true);
        assert!(hand.actions().contains(&Action::Cut));
        let (answer, ()) = tokio::join!(hand.device(3, Action::Kill), async {
            drop(asked.recv().await);
        });
        assert_eq!(answer, Err("the run is over".to_owned()));
    }
}
