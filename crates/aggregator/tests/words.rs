//! Words of devices: whatever they say, it becomes one line of plain text where it comes in.

mod support;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get as on_get, post as on_post};
use axum::{Json, Router};
use fl_proto::Welcome;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Run, config, get};
use tokio::net::TcpListener;
use zfl_aggregator::Event;

/// Clears the screen, sets its title, and begins a line that seems to be another's.
const FORGED: &str = "\u{1b}[2J\u{1b}]0;pwned\u{7}\u{9b}31m\u{202e}\nwarning: fake line";
const PLAIN: &str = " [2J ]0;pwned  31m  warning: fake line";

/// Answers of a device to `/start`, and to `/ready` after that.
type Answers = (StatusCode, Value, Value);

/// Joins as `client` with a device of these answers.
async fn join(server: SocketAddr, client: u32, answers: Answers) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let started = Arc::new(AtomicBool::new(false));
    let is_started = started.clone();
    let (status, start, then) = answers;
    let ready = async move || -> Response {
        if is_started.load(Ordering::SeqCst) {
            return Json(then.clone()).into_response();
        }
        Json(state(client, "ready", 0, None)).into_response()
    };
    let start = async move || -> Response {
        started.store(true, Ordering::SeqCst);
        (status, Json(start.clone())).into_response()
    };
    let app = Router::new()
        .route("/ready", on_get(ready))
        .route("/start", on_post(start))
        .route("/stop", on_post(async || Json(json!({}))));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let welcome = get(server, &format!("/id?client={client}&address={address}")).await;
    assert_eq!(welcome.json::<Welcome>().id, client);
    for path in ["training-data", "training-labels"] {
        let data = get(server, &format!("/{path}?id={client}")).await;
        assert_eq!(data.status, 200);
    }
}

fn state(id: u32, state: &str, round: u32, error: Option<&str>) -> Value {
    json!({
        "id": id, "state": state, "round": round, "done_examples": 0, "total_examples": 0,
        "error": error,
    })
}

#[tokio::test]
async fn what_a_device_says_is_one_plain_line_in_events_and_tables() {
    let mut run_config = config(3, 1);
    run_config.progress_interval = Some(Duration::from_millis(20));
    let run = Run::start(run_config).await;
    let honest = support::Device::join(run.address, 0).await;
    let refusing = (
        StatusCode::BAD_REQUEST,
        json!({"error": FORGED}),
        state(1, "ready", 0, None),
    );
    join(run.address, 1, refusing).await;
    let giving_up = (
        StatusCode::ACCEPTED,
        state(2, "training", 1, None),
        state(2, "failed", 1, Some(FORGED)),
    );
    join(run.address, 2, giving_up).await;
    honest.obey_always();

    let finished = run.finish().await;
    let refused = format!("/start of round 1: 400 Bad Request: {PLAIN}");
    let gave_up = format!("the device gave up: {PLAIN}");
    let expected = [(1, 1, &*refused), (1, 2, &*gave_up)];
    assert_eq!(finished.failures(), expected);
    let told = finished.events.iter().filter_map(|event| match event {
        Event::ClientFailed { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    let mut told: Vec<_> = told.collect();
    told.sort_unstable();
    assert_eq!(told, [&*refused, &*gave_up]);
    let table = std::fs::read_to_string(finished.dir.path().join("clients.csv")).unwrap();
    assert_eq!(table.lines().count(), 4, "{table:?}");
    assert!(!table.replace('\n', "").contains(char::is_control));
}
