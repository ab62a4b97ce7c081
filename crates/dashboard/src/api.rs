//! The endpoints; `docs/openapi.json` documents them.

use crate::control::{self, Gate};
use crate::follow::{Message, News, Shared};
use crate::{assets, guard, metrics, serial, serve};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::Stream;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use zfl_http_server::Place;
use zfl_run_dir::fold::RunView;
use zfl_run_dir::metric::{Folds, Id, Metric, Unit};
use zfl_run_dir::{Confusion, RoundEvaluation};

/// The paths that look; `docs/openapi.json` has the same, and those of [`crate::CONTROL_ROUTES`].
pub const ROUTES: [&str; 12] = [
    "/",
    "/assets/{name}",
    "/api/run",
    "/api/rounds",
    "/api/devices",
    "/api/devices/{client}/history",
    "/api/devices/{client}/log",
    "/api/faults",
    "/api/evaluation",
    "/api/events",
    "/api/openapi.json",
    "/metrics",
];

/// Delay before a page that lost its stream tries again.
const RETRY: Duration = Duration::from_secs(1);

type Run = State<Arc<Shared>>;

pub fn router(shared: Arc<Shared>, gate: Option<Arc<Gate>>, bound: Option<SocketAddr>) -> Router {
    let handlers = [
        get(assets::index),
        get(assets::asset),
        get(run),
        get(rounds),
        get(devices),
        get(history),
        get(log),
        get(faults),
        get(evaluation),
        get(events),
        get(openapi),
        get(open_metrics),
    ];
    let paths = ROUTES.into_iter().zip(handlers);
    let router = paths.fold(Router::new(), |router, (path, handler)| {
        router.route(path, handler)
    });
    router
        .with_state(shared.clone())
        .merge(control::router(gate, shared))
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "there is nothing here") })
        .layer(axum::middleware::from_fn_with_state(bound, guard::guard))
}

/// An answer that says what is wrong.
pub fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(BTreeMap::from([("error", error)]))).into_response()
}

/// `/api/run`: the run, and what does not change in it.
#[derive(Serialize)]
struct FullRun<'a> {
    #[serde(flatten)]
    run: RunView,
    config: &'a serde_json::Value,
    split: &'a [Vec<u32>],
    versions: &'a BTreeMap<String, String>,
    metrics: Vec<MetricView>,
}

/// A metric as the page needs to know it.
#[derive(Serialize)]
struct MetricView {
    name: &'static str,
    label: &'static str,
    unit: Unit,
    per_round: bool,
}

/// The metrics that the page shows.
fn shown() -> Vec<MetricView> {
    let view = |metric: &Metric| MetricView {
        name: metric.name,
        label: metric.label,
        unit: metric.unit,
        per_round: metric.shows_last && metric.folds != Folds::Last,
    };
    Id::on_screen().map(Id::metric).map(view).collect()
}

async fn run(State(shared): Run) -> Response {
    shared.look(|fold, now_ms| {
        let meta = fold.meta();
        let (config, split, versions) = (&meta.config, &meta.split, &meta.versions);
        Json(FullRun {
            run: fold.run(now_ms),
            config,
            split,
            versions,
            metrics: shown(),
        })
        .into_response()
    })
}

async fn rounds(State(shared): Run) -> Response {
    shared.look(|fold, _| Json(fold.rounds().collect::<Vec<_>>()).into_response())
}

async fn devices(State(shared): Run) -> Response {
    shared.look(|fold, _| Json(fold.devices().collect::<Vec<_>>()).into_response())
}

async fn faults(State(shared): Run) -> Response {
    shared.look(|fold, _| Json(fold.faults().collect::<Vec<_>>()).into_response())
}

/// `/api/evaluation`: what devices found about the last model that they evaluated, and the last model on the
/// test set.
#[derive(Serialize)]
struct EvaluationView<'a> {
    devices: Option<&'a RoundEvaluation>,
    test: Option<&'a Confusion>,
}

async fn evaluation(State(shared): Run) -> Response {
    shared.look(|fold, _| {
        let (devices, test) = (fold.evaluation(), fold.tested());
        Json(EvaluationView { devices, test }).into_response()
    })
}

async fn history(State(shared): Run, Path(client): Path<u32>) -> Response {
    shared.look(|fold, _| match fold.device(client) {
        Some(device) => Json(&device.history).into_response(),
        None => refusal(StatusCode::NOT_FOUND, "there is no such device"),
    })
}

#[derive(Deserialize)]
struct From {
    from: Option<u64>,
}

async fn log(
    State(shared): Run,
    Path(client): Path<u32>,
    Query(From { from }): Query<From>,
) -> Response {
    match serial::read(shared.run_dir(), client, from).await {
        Ok(piece) => {
            let headers = [
                (
                    header::CONTENT_TYPE.as_str(),
                    "text/plain; charset=utf-8".to_owned(),
                ),
                ("x-next-offset", piece.next.to_string()),
            ];
            (headers, piece.text).into_response()
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            refusal(StatusCode::NOT_FOUND, "there is no log of this device")
        }
        Err(error) => refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("the log: {error}"),
        ),
    }
}

async fn openapi() -> Response {
    let text = include_str!("../../../docs/openapi.json");
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn open_metrics(State(shared): Run) -> Response {
    match shared.look(metrics::text) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// `/api/events`. A page that cannot keep up is cut off, and so is every page when the run goes on from an
/// earlier round: it loads everything when it comes back.
async fn events(State(shared): Run, place: Option<Extension<Place>>) -> Response {
    let Ok(permit) = shared.streams.clone().try_acquire_owned() else {
        return refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many pages are open: close some",
        );
    };
    serve::keep(place);
    let news = shared.subscribe();
    let first = Event::default().retry(RETRY).comment("the run's events");
    let stream = futures::stream::unfold(
        (Some(first), news, permit),
        |(first, mut news, permit)| async move {
            let event = match first {
                Some(first) => first,
                None => match news.recv().await.ok()? {
                    News::Message(message) => sent(message),
                    News::Anew => return None,
                },
            };
            Some((Ok::<_, Infallible>(event), (None, news, permit)))
        },
    );
    keep_alive(stream).into_response()
}

fn sent(message: Message) -> Event {
    Event::default().event(message.event).data(&*message.data)
}

fn keep_alive<S>(stream: S) -> impl IntoResponse
where
    S: Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    Sse::new(stream).keep_alive(KeepAlive::default())
}
