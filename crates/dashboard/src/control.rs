//! Remote control of a run: the endpoints that change something, and who may use them.
//!
//! Decides who may ask; the maker of the run does what is asked ([`RemoteControl`]). docs/adr/0007 has the
//! threats. In this order, each with an answer that says why:
//!
//! 1. `Host`, and `Origin` if there is one, name this machine ([`crate::guard`]).
//! 2. The run takes remote control at all: it has a token.
//! 3. A request that changes something comes from this very page: `Origin` is there and is `Host`.
//! 4. `Authorization: Bearer` shows the token. Who shows a wrong one waits, and few can wait at a time.
//! 5. The body is short, JSON, and says something that is known.

use crate::api::refusal;
use crate::follow::Shared;
use crate::guard::is_same_origin;
use crate::token::Token;
use axum::body::to_bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The paths of remote control; `docs/openapi.json` has the same.
pub const CONTROL_ROUTES: [&str; 4] = [
    "/api/touch",
    "/api/touch/stop",
    "/api/touch/devices/{client}",
    "/api/touch/edges/{edge}",
];

/// Longest body, in bytes: the longest that means something has 20.
pub const MAX_BODY: usize = 1024;

/// Delay of the answer to a wrong token.
const WRONG: Duration = Duration::from_secs(1);

/// Number of wrong tokens that wait for their answer at a time; with [`WRONG`] the guesses a second.
const GUESSES: usize = 4;

/// Actions of remote control on a device; of an edge `Kill` and `Reboot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Ends it as a crash would.
    Kill,
    /// Ends it likewise if it runs, and boots it again.
    Reboot,
    /// Makes it stand still.
    Freeze,
    /// Lets it go on.
    Thaw,
    /// Cuts its link.
    Cut,
    /// Heals its link.
    Heal,
}

impl Action {
    /// Name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Reboot => "reboot",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Cut => "cut",
            Self::Heal => "heal",
        }
    }
}

/// The maker of a run, who does to it what its page asks for.
///
/// Each answer is in words for a person: what was done, or the reason why it was not. Who may ask is
/// decided before. A future that is dropped may or may not have done it.
pub trait RemoteControl: Send + Sync {
    /// Actions that this run supports; a device may still refuse one.
    fn actions(&self) -> Vec<Action>;

    /// Ends the run cleanly.
    fn stop(&self) -> BoxFuture<'_, Result<String, String>>;

    /// Number of edges that can be killed and started again.
    fn edges(&self) -> u32 {
        0
    }

    /// Kills an edge, or starts it again.
    fn edge(&self, edge: u32, _action: Action) -> BoxFuture<'_, Result<String, String>> {
        ready(Err(format!("there is no edge {edge}"))).boxed()
    }

    /// Does something to a device.
    fn device(&self, client: u32, action: Action) -> BoxFuture<'_, Result<String, String>>;
}

/// A way to the run, and the token that opens it.
pub(crate) struct Gate {
    token: Token,
    control: Arc<dyn RemoteControl>,
    guesses: Semaphore,
}

impl Gate {
    pub fn new(token: Token, control: Arc<dyn RemoteControl>) -> Self {
        Self {
            token,
            control,
            guesses: Semaphore::new(GUESSES),
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

type Controlled = State<(Arc<Gate>, Arc<Shared>)>;

/// [`CONTROL_ROUTES`], which all refuse if there is no gate.
pub(crate) fn router(gate: Option<Arc<Gate>>, shared: Arc<Shared>) -> Router {
    let Some(gate) = gate else {
        let closed = |router: Router<_>, path| router.route(path, any(closed));
        return CONTROL_ROUTES
            .into_iter()
            .fold(Router::new(), closed)
            .with_state(shared);
    };
    let handlers = [get(possible), post(stop), post(device), post(edge)];
    let open = |router: Router<_>, (path, handler)| router.route(path, handler);
    CONTROL_ROUTES
        .into_iter()
        .zip(handlers)
        .fold(Router::new(), open)
        .layer(from_fn_with_state(Arc::clone(&gate), admit))
        .with_state((gate, shared))
}

/// A run without a token, or none at all.
async fn closed(State(shared): State<Arc<Shared>>) -> Response {
    let advice = if shared.is_live() {
        "this run can only be looked at: start one with zfl run --dashboard-token, and open the \
         address that it prints"
    } else {
        "there is no run here to control, only what one wrote down: open the address that zfl run \
         printed"
    };
    refusal(StatusCode::NOT_FOUND, advice)
}

/// Lets through who may control the run.
async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    if !looks && !is_same_origin(headers) {
        let reason = "only the page of this run may control it: Origin must be there, and be http:// \
                      and Host";
        return refusal(StatusCode::FORBIDDEN, reason);
    }
    match shown(headers) {
        Some(token) if gate.token.matches(token) => next.run(request).await,
        Some(_) => wrong(&gate).await,
        None => unauthorized(
            "Bearer",
            "show the token in a header Authorization: Bearer; the page does so if it was opened by \
             the address that zfl printed",
        ),
    }
}

/// Slows down who guesses. Whoever shows the right token never waits for one who does not.
async fn wrong(gate: &Gate) -> Response {
    let Ok(_guess) = gate.guesses.try_acquire() else {
        let mut response = refusal(
            StatusCode::TOO_MANY_REQUESTS,
            "too many wrong tokens at a time: wait a second",
        );
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    };
    tokio::time::sleep(WRONG).await;
    unauthorized(
        "Bearer error=\"invalid_token\"",
        "this is not the token of this run: open the address that zfl printed",
    )
}

fn unauthorized(challenge: &'static str, reason: &str) -> Response {
    let mut response = refusal(StatusCode::UNAUTHORIZED, reason);
    let headers = response.headers_mut();
    headers.insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static(challenge),
    );
    response
}

/// The token that a request shows, if it is one and only one.
fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else {
        return None;
    };
    let (scheme, token) = only.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// `/api/touch`: the actions that can be asked for.
#[derive(Serialize)]
struct Possible {
    stop: bool,
    actions: Vec<Action>,
    edges: u32,
}

async fn possible(State((gate, _)): Controlled) -> Response {
    Json(Possible {
        stop: true,
        actions: gate.control.actions(),
        edges: gate.control.edges(),
    })
    .into_response()
}

/// `{}`: nothing has to be said, and nothing else may be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stop {}

async fn stop(State((gate, shared)): Controlled, request: Request) -> Response {
    match asked::<Stop>(request, &shared).await {
        Ok(Stop {}) => answer(gate.control.stop().await),
        Err(refused) => refused,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ControlRequest {
    action: Action,
}

async fn device(
    State((gate, shared)): Controlled,
    Path(client): Path<u32>,
    request: Request,
) -> Response {
    let action = match asked(request, &shared).await {
        Ok(ControlRequest { action }) => action,
        Err(refused) => return refused,
    };
    if shared.look(|model, _| model.device(client).is_none()) {
        return refusal(StatusCode::NOT_FOUND, "there is no such device");
    }
    answer(gate.control.device(client, action).await)
}

async fn edge(
    State((gate, shared)): Controlled,
    Path(edge): Path<u32>,
    request: Request,
) -> Response {
    let action = match asked(request, &shared).await {
        Ok(ControlRequest { action }) => action,
        Err(refused) => return refused,
    };
    if edge >= gate.control.edges() {
        return refusal(StatusCode::NOT_FOUND, "there is no such edge");
    }
    if !matches!(action, Action::Kill | Action::Reboot) {
        let reason = "an edge can be killed (kill) and started again (reboot), and nothing else";
        return refusal(StatusCode::CONFLICT, reason);
    }
    answer(gate.control.edge(edge, action).await)
}

/// Reads a request of remote control, which is refused when the run is over.
async fn asked<T: DeserializeOwned>(request: Request, shared: &Shared) -> Result<T, Response> {
    let asked = message(request).await?;
    match shared.look(|model, _| model.is_over()) {
        true => Err(refusal(StatusCode::CONFLICT, "the run is over")),
        false => Ok(asked),
    }
}

/// Answer of remote control: the action done, or the reason for refusing it.
fn answer(done: Result<String, String>) -> Response {
    match done {
        Ok(done) => Json(BTreeMap::from([("done", done)])).into_response(),
        Err(reason) => refusal(StatusCode::CONFLICT, &reason),
    }
}

/// The message in a body. A page of another site cannot send JSON without asking first, and is refused
/// then, whatever it shows.
async fn message<T: DeserializeOwned>(request: Request) -> Result<T, Response> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let reason = "send the body as application/json";
        return Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
    }
    let body = to_bytes(request.into_body(), MAX_BODY).await;
    let body = body.map_err(|_| {
        let reason = format!("send a whole body of at most {MAX_BODY} bytes");
        refusal(StatusCode::PAYLOAD_TOO_LARGE, &reason)
    })?;
    serde_json::from_slice(&body)
        .map_err(|error| refusal(StatusCode::BAD_REQUEST, &format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_once_and_as_a_bearer() {
        let shown_by = |values: &[&str]| {
            let values = values
                .iter()
                .map(|value| (header::AUTHORIZATION, value.parse().unwrap()));
            let mut headers = HeaderMap::new();
            values.for_each(|(name, value)| _ = headers.append(name, value));
            shown(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(shown_by(&["Bearer abc"]), Some(b"abc".to_vec()));
        assert_eq!(shown_by(&["bearer abc"]), Some(b"abc".to_vec()));
        for none in [
            &[][..],
            &["abc"],
            &["Basic abc"],
            &["Bearer"],
            &["Bearer abc", "Bearer abc"],
        ] {
            assert_eq!(shown_by(none), None, "{none:?}");
        }
    }

    #[test]
    fn an_action_is_called_as_in_json() {
        use Action::{Cut, Freeze, Heal, Kill, Reboot, Thaw};
        for action in [Kill, Reboot, Freeze, Thaw, Cut, Heal] {
            assert_eq!(serde_json::to_value(action).unwrap(), action.name());
        }
    }
}
