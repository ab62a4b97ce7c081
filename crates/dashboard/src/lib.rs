//! The dashboard: a page about a run, live or finished, and the same facts as JSON and OpenMetrics.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! use zfl_dashboard::Dashboard;
//! use zfl_run_dir::Meta;
//! let run_dir = std::path::Path::new("runs/night");
//! let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! // A run of this process; `zfl view` has `Dashboard::from_run_dir(run_dir)?` instead.
//! let dashboard = Dashboard::new(Meta::default(), run_dir);
//! dashboard.follow()?;
//! tokio::spawn(dashboard.serve(listener)?);
//! # Ok(()) }) }
//! ```
//!
//! # Where it gets its knowledge
//! From the run directory alone: `events.jsonl`, read on as it grows, four times a second, by a thread
//! of its own. The file holds every event before any subscriber hears of it, so there is no backlog
//! that could overflow, a run can be watched from another process or namespace, and a finished run
//! goes the very same way. The serial logs are read from `serial/<client>.log` when asked for.
//!
//! Facts that the aggregator does not know arrive as `Event::Fleet`, a [`zfl_run_dir::FleetRecord`].
//!
//! # Invariants
//! - It looks: no file is written, and nothing in the run waits for it. It controls only what
//!   [`Dashboard::with_remote_control`] gave it, for whoever shows the [`Token`] that was given with it;
//!   without one only GET and HEAD are answered. What is done is none of its business ([`RemoteControl`]).
//! - Only who names this machine is answered ([`guard`]): `Host` must be loopback or the address that
//!   was bound, `Origin` likewise, so that no web page elsewhere can read the run by DNS rebinding.
//! - Whatever a device wrote stays data: JSON or plain text on the way, a text node in the page, and
//!   a content security policy that runs nothing but the page's own script.
//! - No file is read as a whole because it is there: lines, pieces of a log, faults and streams have
//!   bounds. So have connections, and idle ones keep nobody out ([`zfl_http_server`]).

#![forbid(unsafe_code)]

mod api;
mod assets;
mod control;
mod follow;
pub mod guard;
mod metrics;
mod serial;
mod serve;
mod token;

pub use api::ROUTES;
pub use control::{Action, CONTROL_ROUTES, MAX_BODY, RemoteControl};
pub use serve::places;
pub use token::Token;

use anyhow::{Context, Result};
use axum::Router;
use control::Gate;
use follow::Shared;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use zfl_run_dir::Meta;

/// A dashboard; clones are the same one.
#[derive(Clone, Debug)]
pub struct Dashboard {
    shared: Arc<Shared>,
    gate: Option<Arc<Gate>>,
}

impl Dashboard {
    /// Dashboard of the run that this process is about to make in `run_dir`, which need not exist yet.
    pub fn new(meta: Meta, run_dir: &Path) -> Self {
        Self {
            shared: Arc::new(Shared::new(meta, run_dir, true)),
            gate: None,
        }
    }

    /// Dashboard of a finished run, or of another process's.
    ///
    /// # Errors
    /// If there is no `events.jsonl`, or no file there can be read.
    pub fn from_run_dir(run_dir: &Path) -> Result<Self> {
        let shared = Shared::new(Meta::load(run_dir)?, run_dir, false);
        shared.catch_up().with_context(|| {
            format!(
                "{} is not the directory of a run: give the folder that holds events.jsonl",
                run_dir.display()
            )
        })?;
        Ok(Self {
            shared: Arc::new(shared),
            gate: None,
        })
    }

    /// Lets whoever shows this token control the run; before, it can only be looked at.
    #[must_use]
    pub fn with_remote_control(self, token: Token, control: Arc<dyn RemoteControl>) -> Self {
        Self {
            gate: Some(Arc::new(Gate::new(token, control))),
            ..self
        }
    }

    /// Keeps up with the run by a thread that ends when the last clone of this is dropped.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn follow(&self) -> Result<()> {
        follow::spawn(&self.shared)
    }

    /// The endpoints of [`ROUTES`] and [`CONTROL_ROUTES`]. `bound` is where they are served, if not only on loopback.
    pub fn router(&self, bound: Option<SocketAddr>) -> Router {
        api::router(self.shared.clone(), self.gate.clone(), bound)
    }

    /// Serves until it is dropped. The listener is bound by the caller, who may have to do so before
    /// it enters another network namespace. Needs Tokio's runtime.
    ///
    /// # Errors
    /// If the listener cannot be used.
    pub fn serve(&self, listener: TcpListener) -> Result<impl Future<Output = ()> + Send + use<>> {
        let bound = listener
            .local_addr()
            .context("the dashboard's listener has no address")?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let router = self.router(Some(bound));
        Ok(serve::serve(listener, router))
    }

    /// Reads on now instead of within a quarter of a second; returns how many events were new.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn catch_up(&self) -> Result<usize> {
        Ok(self.shared.catch_up()?)
    }
}
