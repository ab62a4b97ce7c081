//! Remote control of a run from its page: the token, and the way from the page to the fleet.
//!
//! The page knows no fleet. A request goes through a channel to a task of the run, which ends with it: so
//! no request that is under way keeps the fleet from being ended.

use crate::faults::FaultRunner;
use crate::observer::Observer;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use zfl_dashboard::{Action, RemoteControl, Token};

/// The environment variable that a token may be in: arguments are for everybody to see in `ps`.
pub const TOKEN_VARIABLE: &str = "ZFL_DASHBOARD_TOKEN";

/// Requests that may wait; more are refused.
const WAITING: usize = 16;

/// A token for remote control.
#[derive(Debug)]
pub struct ControlToken {
    /// The token.
    pub token: Token,
    /// Keeps it from being shown: whoever put it into the environment knows it.
    pub secret: bool,
}

impl ControlToken {
    /// A line for people about the page, which is at this address.
    pub fn describe(&self, address: &str) -> String {
        if self.secret {
            return format!(
                "dashboard: {address}\nto control the run, open it with #token= and {TOKEN_VARIABLE} behind it"
            );
        }
        format!("dashboard: {address}{}", self.token.fragment())
    }
}

/// The way back for what became of a request, in words for a person.
pub(crate) type Answer = oneshot::Sender<Result<String, String>>;

/// A request from the page.
pub(crate) enum ControlRequest {
    /// The end of the run.
    Stop(Answer),
    /// Something done to a device.
    Device(u32, Action, Answer),
    /// An edge killed, or started again.
    Edge(u32, Action, Answer),
}

/// The page's end of the channel.
pub(crate) struct ControlChannel {
    ask: mpsc::Sender<ControlRequest>,
    cuts: bool,
    edges: u32,
}

/// A channel for requests. `cuts`: the network can cut links; `edges`: there are so many.
pub(crate) fn channel(
    cuts: bool,
    edges: u32,
) -> (Arc<ControlChannel>, mpsc::Receiver<ControlRequest>) {
    let (ask, asked) = mpsc::channel(WAITING);
    (Arc::new(ControlChannel { ask, cuts, edges }), asked)
}

impl ControlChannel {
    async fn ask(&self, request: impl FnOnce(Answer) -> ControlRequest) -> Result<String, String> {
        let over = || "the run is over".to_owned();
        let (answer, answered) = oneshot::channel();
        let sent = self.ask.try_send(request(answer));
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => "too much at a time: try again".to_owned(),
            mpsc::error::TrySendError::Closed(_) => over(),
        })?;
        answered.await.unwrap_or_else(|_| Err(over()))
    }
}

impl RemoteControl for ControlChannel {
    fn actions(&self) -> Vec<Action> {
        let mut actions = vec![Action::Kill, Action::Reboot, Action::Freeze, Action::Thaw];
        if self.cuts {
            actions.extend([Action::Cut, Action::Heal]);
        }
        actions
    }

    fn stop(&self) -> BoxFuture<'_, Result<String, String>> {
        self.ask(ControlRequest::Stop).boxed()
    }

    fn device(&self, client: u32, action: Action) -> BoxFuture<'_, Result<String, String>> {
        self.ask(move |answer| ControlRequest::Device(client, action, answer))
            .boxed()
    }

    fn edges(&self) -> u32 {
        self.edges
    }

    fn edge(&self, edge: u32, action: Action) -> BoxFuture<'_, Result<String, String>> {
        self.ask(move |answer| ControlRequest::Edge(edge, action, answer))
            .boxed()
    }
}

/// Serves requests until it is dropped or none can come any more.
pub(crate) async fn serve(
    mut requests: mpsc::Receiver<ControlRequest>,
    faults: Arc<FaultRunner>,
    observer: Arc<dyn Observer>,
) {
    // Whatever is under way ends with this.
    let mut acts = JoinSet::new();
    while let Some(request) = requests.recv().await {
        while acts.try_join_next().is_some() {}
        match request {
            ControlRequest::Stop(answer) => {
                observer.on_note("dashboard: stopping; Ctrl-C twice to stop at once");
                // Whoever asked may be gone.
                let _ = answer.send(Ok(faults.stop_remotely()));
            }
            ControlRequest::Device(client, action, answer) => {
                let (faults, observer) = (Arc::clone(&faults), Arc::clone(&observer));
                acts.spawn(
                    async move { control(&faults, &*observer, client, action, answer).await },
                );
            }
            ControlRequest::Edge(edge, action, answer) => {
                let (faults, observer) = (Arc::clone(&faults), Arc::clone(&observer));
                acts.spawn(async move {
                    let done = faults.control_edge(edge, action).await;
                    if let Ok(done) = &done {
                        observer.on_note(&format!("dashboard: {done}"));
                    }
                    let boots = done.is_ok() && action == Action::Reboot;
                    let _ = answer.send(done);
                    if boots {
                        faults.boot_cluster(edge).await;
                    }
                });
            }
        }
    }
    // Nobody asks any more, yet a device may still be on its way back.
    while acts.join_next().await.is_some() {}
}

/// Does something to a device, says so, and brings the device back if that is asked for.
async fn control(
    faults: &FaultRunner,
    observer: &dyn Observer,
    client: u32,
    action: Action,
    answer: Answer,
) {
    let done = faults.control(client, action).await;
    if let Ok(done) = &done {
        observer.on_note(&format!("dashboard: {done}"));
    }
    let boots = done.is_ok() && action == Action::Reboot;
    // Whoever asked may be gone.
    let _ = answer.send(done);
    if boots {
        faults.bring_back(client).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_comes_too_late_is_told_so() {
        let (page, requests) = channel(false, 0);
        assert!(!page.actions().contains(&Action::Cut));
        drop(requests);
        assert_eq!(page.stop().await, Err("the run is over".to_owned()));
        let (page, mut requests) = channel(true, 3);
        assert!(page.actions().contains(&Action::Cut));
        assert_eq!(page.edges(), 3);
        let (answer, ()) = tokio::join!(page.device(3, Action::Kill), async {
            drop(requests.recv().await);
        });
        assert_eq!(answer, Err("the run is over".to_owned()));
    }
}
