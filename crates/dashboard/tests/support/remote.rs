//! A run that only remembers what was done to it.

#![allow(dead_code, reason = "each test target uses its own part")]

use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex};
use zfl_dashboard::{Action, Dashboard, RemoteControl, Token};

pub const TOKEN: &str = "correct-horse-battery";

/// It takes remote control, and refuses to cut links.
#[derive(Default)]
pub struct Fake {
    done: Mutex<Vec<String>>,
}

impl Fake {
    /// Lets whoever shows [`TOKEN`] control this in the place of a run.
    pub fn behind(dashboard: Dashboard) -> (Dashboard, Arc<Self>) {
        let fake = Arc::new(Self::default());
        let token = Token::parse(TOKEN).unwrap();
        (dashboard.with_remote_control(token, fake.clone()), fake)
    }

    /// Actions done so far.
    pub fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    fn note(&self, what: String, said: String) -> BoxFuture<'_, Result<String, String>> {
        self.done.lock().unwrap().push(what);
        async move { Ok(said) }.boxed()
    }
}

impl RemoteControl for Fake {
    fn actions(&self) -> Vec<Action> {
        use Action::{Cut, Freeze, Heal, Kill, Reboot, Thaw};
        vec![Kill, Reboot, Freeze, Thaw, Cut, Heal]
    }

    fn stop(&self) -> BoxFuture<'_, Result<String, String>> {
        self.note("stop".to_owned(), "the run is stopping".to_owned())
    }

    fn edges(&self) -> u32 {
        6
    }

    fn edge(&self, edge: u32, action: Action) -> BoxFuture<'_, Result<String, String>> {
        let said = match action {
            Action::Reboot => "starts again",
            _ => "is killed",
        };
        let what = format!("{} edge {edge}", action.name());
        self.note(what, format!("edge {edge} {said}"))
    }

    fn device(&self, client: u32, action: Action) -> BoxFuture<'_, Result<String, String>> {
        let said = match action {
            Action::Cut => {
                let refused = Err(format!("device {client} has no link"));
                return std::future::ready(refused).boxed();
            }
            Action::Kill => "is killed",
            Action::Reboot => "boots again",
            Action::Freeze => "is frozen",
            Action::Thaw => "goes on",
            Action::Heal => "has its link healed",
        };
        let what = format!("{} {client}", action.name());
        self.note(what, format!("device {client} {said}"))
    }
}
