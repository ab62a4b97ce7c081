//! Remote control over the real router: who may, what it does, and how everybody else is refused.

#[path = "support/remote.rs"]
mod remote;
mod support;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use remote::{Fake, TOKEN};
use serde_json::{Value, json};
use std::sync::Arc;
use support::Script;
use tower::ServiceExt;
use zfl_dashboard::{Action, CONTROL_ROUTES, Dashboard, MAX_BODY};

const HOST: &str = "127.0.0.1:4242";
const ORIGIN: &str = "http://127.0.0.1:4242";
const DEVICE: &str = "/api/touch/devices/3";
const EDGE: &str = "/api/touch/edges/2";
const KILL: &str = r#"{"action":"kill"}"#;

struct Stage {
    _dir: tempfile::TempDir,
    script: Script,
    fake: Arc<Fake>,
    dashboard: Dashboard,
}

impl Stage {
    /// A run of this process that goes on; it takes remote control.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut script = Script::new(dir.path(), 8, 20);
        script.up_to_the_middle_of(3);
        let dashboard = Dashboard::new(support::meta(8, 20), dir.path());
        let (dashboard, fake) = Fake::behind(dashboard);
        dashboard.catch_up().unwrap();
        Self {
            _dir: dir,
            script,
            fake,
            dashboard,
        }
    }

    async fn ask(&self, asked: &TestRequest) -> (StatusCode, Value) {
        ask(&self.dashboard, asked).await
    }
}

/// A request that is right, unless it is changed.
#[derive(Clone)]
struct TestRequest {
    method: Method,
    path: &'static str,
    headers: Vec<(header::HeaderName, String)>,
    body: String,
}

impl TestRequest {
    fn post(path: &'static str, body: &str) -> Self {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [
            (header::HOST, HOST),
            (header::ORIGIN, ORIGIN),
            (header::AUTHORIZATION, &bearer),
            (header::CONTENT_TYPE, "application/json"),
        ];
        Self {
            method: Method::POST,
            path,
            headers: headers.map(|(name, value)| (name, value.to_owned())).into(),
            body: body.to_owned(),
        }
    }

    fn get(path: &'static str) -> Self {
        Self {
            method: Method::GET,
            ..Self::post(path, "")
        }
        .without(header::ORIGIN)
    }

    fn without(mut self, name: header::HeaderName) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    fn with(self, name: header::HeaderName, value: &str) -> Self {
        self.without(name.clone()).and(name, value)
    }

    fn and(mut self, name: header::HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn request(&self) -> Request<Body> {
        let request = Request::builder()
            .method(self.method.clone())
            .uri(self.path);
        let headers = self.headers.iter();
        let request = headers.fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        request.body(Body::from(self.body.clone())).unwrap()
    }
}

async fn ask(dashboard: &Dashboard, asked: &TestRequest) -> (StatusCode, Value) {
    let response = answer(dashboard, asked).await;
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

async fn answer(dashboard: &Dashboard, asked: &TestRequest) -> Response<Body> {
    let router = dashboard.router(None);
    router.oneshot(asked.request()).await.unwrap()
}

#[tokio::test]
async fn whoever_shows_the_token_controls_the_run() {
    let stage = Stage::new();
    let possible = json!({
        "stop": true, "actions": ["kill", "reboot", "freeze", "thaw", "cut", "heal"], "edges": 6,
    });
    let asked = stage.ask(&TestRequest::get("/api/touch")).await;
    assert_eq!(asked, (StatusCode::OK, possible));
    let heal = r#"{"action":"heal"}"#;
    for (path, body, done) in [
        (DEVICE, KILL, "device 3 is killed"),
        ("/api/touch/devices/0", heal, "device 0 has its link healed"),
        (EDGE, KILL, "edge 2 is killed"),
        ("/api/touch/stop", "{}", "the run is stopping"),
    ] {
        let asked = stage.ask(&TestRequest::post(path, body)).await;
        assert_eq!(asked, (StatusCode::OK, json!({ "done": done })), "{path}");
    }
    assert_eq!(
        stage.fake.done(),
        ["kill 3", "heal 0", "kill edge 2", "stop"]
    );
    // As behind a tunnel, and as a library may write it.
    let tunnel = TestRequest::post(DEVICE, KILL)
        .with(header::HOST, "localhost:9000")
        .with(header::ORIGIN, "http://localhost:9000")
        .with(header::CONTENT_TYPE, "Application/JSON; charset=utf-8");
    assert_eq!(stage.ask(&tunnel).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_edge_is_killed_and_started_again_and_nothing_else() {
    let stage = Stage::new();
    for (path, body, status) in [
        (EDGE, r#"{"action":"reboot"}"#, StatusCode::OK),
        (EDGE, r#"{"action":"freeze"}"#, StatusCode::CONFLICT),
        ("/api/touch/edges/6", KILL, StatusCode::NOT_FOUND),
        ("/api/touch/edges/-1", KILL, StatusCode::BAD_REQUEST),
    ] {
        let asked = stage.ask(&TestRequest::post(path, body)).await;
        assert_eq!(asked.0, status, "{path} {body}: {}", asked.1);
    }
    assert_eq!(stage.fake.done(), ["reboot edge 2"]);
}

#[tokio::test]
async fn without_a_token_there_is_nothing_to_control() {
    let dir = tempfile::tempdir().unwrap();
    Script::new(dir.path(), 8, 20).up_to_the_middle_of(3);
    let live = Dashboard::new(support::meta(8, 20), dir.path());
    let view = Dashboard::from_run_dir(dir.path()).unwrap();
    for (dashboard, advice) in [(&live, "--dashboard-token"), (&view, "what one wrote down")] {
        for path in CONTROL_ROUTES {
            let path: &'static str = if path.contains('{') { DEVICE } else { path };
            for asked in [TestRequest::get(path), TestRequest::post(path, KILL)] {
                let (status, told) = ask(dashboard, &asked).await;
                assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
                let error = told["error"].as_str().unwrap();
                assert!(error.contains(advice), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn everybody_else_is_refused_with_the_reason() {
    let stage = Stage::new();
    let kill = || TestRequest::post(DEVICE, KILL);
    let bearer = |token: &str| format!("Bearer {token}");
    let another_port = kill().with(header::ORIGIN, "http://127.0.0.1:4243");
    let get = TestRequest {
        method: Method::GET,
        ..kill()
    };
    let put = TestRequest {
        method: Method::PUT,
        ..kill()
    };
    let long = format!(r#"{{"action":"{}"}}"#, "k".repeat(MAX_BODY));
    for (asked, status, reason) in [
        (kill().with(header::HOST, "evil.example"), 403, ""),
        (kill().with(header::ORIGIN, "http://evil.example"), 403, ""),
        (kill().with(header::ORIGIN, "null"), 403, ""),
        (kill().without(header::ORIGIN), 403, "Origin must be there"),
        (another_port, 403, "only the page of this run"),
        (kill().and(header::ORIGIN, ORIGIN), 403, "only the page"),
        (kill().without(header::AUTHORIZATION), 401, "show the token"),
        (
            kill().with(header::AUTHORIZATION, TOKEN),
            401,
            "show the token",
        ),
        (
            kill().and(header::AUTHORIZATION, &bearer(TOKEN)),
            401,
            "show the token",
        ),
        (
            kill().with(header::AUTHORIZATION, &bearer("correct-horse-batterx")),
            401,
            "not the token",
        ),
        (
            kill().with(header::AUTHORIZATION, &bearer("")),
            401,
            "not the token",
        ),
        (
            kill().without(header::CONTENT_TYPE),
            415,
            "application/json",
        ),
        (
            kill().with(header::CONTENT_TYPE, "text/plain"),
            415,
            "application/json",
        ),
        (
            kill().with(header::CONTENT_TYPE, "application/x-www-form-urlencoded"),
            415,
            "application/json",
        ),
        (TestRequest::post(DEVICE, &long), 413, "at most 1024 bytes"),
        (TestRequest::post(DEVICE, r#"{"action":"fly"}"#), 400, "fly"),
        (TestRequest::post(DEVICE, "{}"), 400, "action"),
        (TestRequest::post(DEVICE, "kill"), 400, "the body"),
        (
            TestRequest::post(DEVICE, r#"{"action":"kill","all":true}"#),
            400,
            "all",
        ),
        (TestRequest::post("/api/touch/stop", KILL), 400, "action"),
        (
            TestRequest::post("/api/touch/devices/99", KILL),
            404,
            "no such device",
        ),
        (TestRequest::post("/api/touch/devices/-1", KILL), 400, ""),
        (
            TestRequest::post("/api/touch/devices", KILL),
            404,
            "nothing here",
        ),
        (
            TestRequest::post(DEVICE, r#"{"action":"cut"}"#),
            409,
            "has no link",
        ),
        (get, 405, ""),
        (put, 405, ""),
    ] {
        let (told, answer) = stage.ask(&asked).await;
        assert_eq!(told, status, "{:?} {}", asked.headers, asked.body);
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.contains(reason), "{reason}: {answer}");
        assert!(!answer.to_string().contains(TOKEN), "{answer}");
    }
    // A query is in logs and histories: a token there is none.
    let query = TestRequest {
        path: "/api/touch?token=correct-horse-battery",
        ..TestRequest::get("/api/touch").without(header::AUTHORIZATION)
    };
    assert_eq!(stage.ask(&query).await.0, StatusCode::UNAUTHORIZED);
    assert!(stage.fake.done().is_empty());
}

#[tokio::test]
async fn a_browser_is_not_told_to_ask_for_a_password_nor_that_others_may() {
    let stage = Stage::new();
    let asked = TestRequest::get("/api/touch").without(header::AUTHORIZATION);
    let response = answer(&stage.dashboard, &asked).await;
    assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    let preflight = TestRequest {
        method: Method::OPTIONS,
        ..TestRequest::post(DEVICE, "").with(header::ORIGIN, "http://localhost:1")
    };
    let response = answer(&stage.dashboard, &preflight).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let headers = response.headers();
    assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
}

#[tokio::test]
async fn who_guesses_waits_and_keeps_nobody_else_waiting() {
    let stage = Stage::new();
    let wrong = TestRequest::get("/api/touch").with(header::AUTHORIZATION, "Bearer guess");
    let guesses: Vec<_> = (0..8)
        .map(|_| {
            let (dashboard, wrong) = (stage.dashboard.clone(), wrong.clone());
            tokio::spawn(async move { ask(&dashboard, &wrong).await.0 })
        })
        .collect();
    // While some guesses wait for their answer, others are not even weighed, and the token opens.
    while !guesses.iter().any(|guess| guess.is_finished()) {
        tokio::task::yield_now().await;
    }
    let right = stage.ask(&TestRequest::get("/api/touch")).await;
    assert_eq!(right.0, StatusCode::OK);
    let mut answers = Vec::new();
    for guess in guesses {
        answers.push(guess.await.unwrap().as_u16());
    }
    answers.sort_unstable();
    assert_eq!(answers, [401, 401, 401, 401, 429, 429, 429, 429]);
    let again = stage.ask(&wrong).await;
    assert_eq!(again.0, StatusCode::UNAUTHORIZED, "it is weighed again");
}

#[tokio::test]
async fn what_is_over_is_not_controlled() {
    let mut stage = Stage::new();
    stage.script.finish();
    stage.dashboard.catch_up().unwrap();
    for (path, body) in [(DEVICE, KILL), ("/api/touch/stop", "{}")] {
        let (status, told) = stage.ask(&TestRequest::post(path, body)).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert_eq!(told["error"], "the run is over");
    }
    assert!(stage.fake.done().is_empty());
}

#[tokio::test]
async fn the_token_is_in_no_answer() {
    let stage = Stage::new();
    for path in ["/", "/api/run", "/api/devices", "/metrics", "/api/touch"] {
        let response = answer(&stage.dashboard, &TestRequest::get(path)).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert!(!format!("{:?}", response.headers()).contains("horse"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(!text.contains("horse"), "{path}");
    }
}

/// Without a token the page shows no button: all are hidden until the page's script finds that the
/// run takes remote control.
#[tokio::test]
async fn the_page_as_it_is_sent_has_no_button_to_control() {
    let stage = Stage::new();
    let response = answer(&stage.dashboard, &TestRequest::get("/")).await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let page = String::from_utf8(body.to_vec()).unwrap();
    for id in ["stop", "device-control"] {
        let (_, tag) = page.split_once(&format!("id=\"{id}\"")).unwrap();
        let (tag, _) = tag.split_once('>').unwrap();
        assert!(tag.ends_with(" hidden"), "{tag}");
    }
}

#[test]
fn the_document_has_every_answer() {
    let document: Value = serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
    let [ask, stop, device, edge] = CONTROL_ROUTES.map(|path| &document["paths"][path]);
    let codes = |operation: &Value| {
        assert_eq!(operation["security"][0]["token"], json!([]));
        let answers = operation["responses"].as_object().unwrap();
        for answer in answers.values() {
            let name = answer["$ref"].as_str().unwrap_or_default();
            let known = name.strip_prefix("#/components/responses/");
            let known = known.map(|name| &document["components"]["responses"][name]);
            assert!(known.is_none_or(|known| !known.is_null()), "{name}");
        }
        answers.keys().cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(codes(&ask["get"]), "200 401 403 404 429");
    for post in [&stop, &device, &edge].map(|path| &path["post"]) {
        assert_eq!(codes(post), "200 400 401 403 404 409 413 415 429");
    }
    let actions = &document["components"]["schemas"]["Action"]["enum"];
    for action in actions.as_array().unwrap() {
        serde_json::from_value::<Action>(action.clone()).unwrap();
    }
    assert_eq!(actions.as_array().unwrap().len(), 6);
}
