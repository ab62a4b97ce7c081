//! Every endpoint over the real router: what it answers, whom it refuses, and what its document says.

mod support;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use std::time::Duration;
use support::Script;
use tower::ServiceExt;
use zfl_dashboard::{CONTROL_ROUTES, Dashboard, ROUTES};

fn run(clients: u32) -> (tempfile::TempDir, Script, Dashboard) {
    let dir = tempfile::tempdir().unwrap();
    let mut script = Script::new(dir.path(), clients, 20);
    script.up_to_the_middle_of(7);
    let dashboard = Dashboard::from_run_dir(dir.path()).unwrap();
    (dir, script, dashboard)
}

async fn ask(dashboard: &Dashboard, request: Request<Body>) -> Response<Body> {
    dashboard.router(None).oneshot(request).await.unwrap()
}

fn get(path: &str) -> Request<Body> {
    Request::get(path)
        .header(header::HOST, "127.0.0.1:4242")
        .body(Body::empty())
        .unwrap()
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn json(dashboard: &Dashboard, path: &str) -> Value {
    let response = ask(dashboard, get(path)).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    serde_json::from_str(&text(response).await).unwrap()
}

#[tokio::test]
async fn the_run_is_told_as_it_is() {
    let (_dir, mut script, dashboard) = run(8);
    let run = json(&dashboard, "/api/run").await;
    assert_eq!(
        (run["state"].as_str(), run["phase"].as_str()),
        (Some("running"), Some("training"))
    );
    assert_eq!(
        (run["round"].as_u64(), run["rounds_completed"].as_u64()),
        (Some(7), Some(6))
    );
    assert_eq!(run["config"]["layers"][0], 784);
    assert_eq!(run["split"].as_array().unwrap().len(), 8);
    let told: u64 = run["states"]
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(told, 8);
    let rounds = json(&dashboard, "/api/rounds").await;
    assert_eq!(rounds.as_array().unwrap().len(), 7);
    let total = |round: usize| rounds[round]["total_bytes"].as_u64().unwrap();
    assert!(
        total(6) > total(5)
            && rounds[6]["device_elapsed_s"].as_f64() > rounds[5]["device_elapsed_s"].as_f64()
    );
    let evaluation = json(&dashboard, "/api/evaluation").await;
    assert_eq!(
        (
            &evaluation["devices"]["round"],
            &evaluation["devices"]["devices"]
        ),
        (&6.into(), &8.into())
    );
    assert!(evaluation["test"].is_null(), "not yet");
    script.finish();
    assert_eq!(dashboard.catch_up().unwrap(), 3);
    assert_eq!(json(&dashboard, "/api/run").await["state"], "finished");
    let tested = json(&dashboard, "/api/evaluation").await;
    assert_eq!(tested["test"]["taken_for"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn devices_have_a_history_and_a_log() {
    let (_dir, script, dashboard) = run(8);
    let devices = json(&dashboard, "/api/devices").await;
    assert_eq!(devices.as_array().unwrap().len(), 8);
    assert_eq!(devices[6]["state"], "dead");
    assert!(
        devices[6]["last_lines"][0]
            .as_str()
            .unwrap()
            .contains("page fault")
    );
    let history = json(&dashboard, "/api/devices/0/history").await;
    assert_eq!(history.as_array().unwrap().len(), 7);
    script.prints(0, "<script>alert(1)</script>\n");
    let response = ask(&dashboard, get("/api/devices/0/log?from=0")).await;
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "text/plain; charset=utf-8"
    );
    assert_eq!(
        response.headers()[header::X_CONTENT_TYPE_OPTIONS],
        "nosniff"
    );
    let next = response.headers()["x-next-offset"]
        .to_str()
        .unwrap()
        .to_owned();
    let log = text(response).await;
    assert!(log.contains("<script>") && log.len().to_string() == next);
    script.prints(0, "more\n");
    let rest = ask(&dashboard, get(&format!("/api/devices/0/log?from={next}"))).await;
    assert_eq!(text(rest).await, "more\n");
}

#[tokio::test]
async fn what_is_not_there_is_refused() {
    let (_dir, _script, dashboard) = run(2);
    for path in [
        "/api",
        "/api/devices/9/history",
        "/api/devices/9/log",
        "/assets/nothing.js",
        "/assets/../Cargo.toml",
        "/assets/..%2f..%2fCargo.toml",
        "/api/devices/..%2f..%2fevents/log",
        "/api/devices/0/log?from=-1",
        "/api/devices/99999999999/log",
    ] {
        let status = ask(&dashboard, get(path)).await.status();
        assert!(
            status == StatusCode::NOT_FOUND || status == StatusCode::BAD_REQUEST,
            "{path}: {status}"
        );
    }
}

#[tokio::test]
async fn it_looks_and_changes_nothing() {
    let (_dir, _script, dashboard) = run(2);
    for path in ROUTES {
        let path = path.replace("{name}", "app.js").replace("{client}", "0");
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let request = Request::builder().method(method).uri(&path);
            let request = request
                .header(header::HOST, "localhost")
                .body(Body::empty())
                .unwrap();
            let status = ask(&dashboard, request).await.status();
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn only_who_names_this_machine_is_answered() {
    let (_dir, _script, dashboard) = run(2);
    let status = async |headers: &[(&str, &str)]| {
        let mut statuses = Vec::new();
        for path in ROUTES {
            let path = path.replace("{name}", "app.js").replace("{client}", "0");
            let mut request = Request::get(path);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            statuses.push(
                ask(&dashboard, request.body(Body::empty()).unwrap())
                    .await
                    .status(),
            );
        }
        statuses.dedup();
        assert_eq!(statuses.len(), 1, "{headers:?}: {statuses:?}");
        statuses[0]
    };
    let (own, other) = (("host", "127.0.0.1:1"), ("host", "evil.example"));
    assert_eq!(status(&[own]).await, StatusCode::OK);
    assert_eq!(
        status(&[own, ("origin", "http://localhost:1")]).await,
        StatusCode::OK
    );
    for headers in [
        &[other][..],
        &[],
        &[own, other],
        &[own, ("origin", "http://evil.example")],
        &[own, ("origin", "null")],
        &[own, ("origin", "https://127.0.0.1:1")],
    ] {
        assert_eq!(status(headers).await, StatusCode::FORBIDDEN, "{headers:?}");
    }
}

#[tokio::test]
async fn every_answer_says_what_a_browser_may_do() {
    let (_dir, _script, dashboard) = run(2);
    let refused = Request::get("/").body(Body::empty()).unwrap();
    for (request, cache) in [
        (get("/"), "no-store"),
        (get("/api/run"), "no-store"),
        (get("/nothing"), "no-store"),
        (get("/assets/app.js"), "no-cache"),
        (refused, "no-store"),
    ] {
        let response = ask(&dashboard, request).await;
        let headers = response.headers();
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::CACHE_CONTROL], cache);
    }
}

#[tokio::test]
async fn the_page_has_nothing_that_its_policy_forbids_and_asks_for_nothing_that_is_not_there() {
    let (_dir, _script, dashboard) = run(2);
    let page = text(ask(&dashboard, get("/")).await).await;
    assert!(
        !page.contains(" style=") && !page.contains(" onclick="),
        "inline style or script"
    );
    let named = page
        .split(['"', '\''])
        .filter(|part| part.starts_with("/assets/"));
    let mut named: Vec<String> = named.map(str::to_owned).collect();
    let script = text(ask(&dashboard, get("/assets/app.js")).await).await;
    let modules = script.split('"').filter_map(|part| part.strip_prefix("./"));
    named.extend(modules.map(|name| format!("/assets/{name}")));
    assert!(named.len() >= 8, "{named:?}");
    for path in named {
        assert_eq!(
            ask(&dashboard, get(&path)).await.status(),
            StatusCode::OK,
            "{path}"
        );
    }
    assert!(!script.contains("innerHTML"), "text only");
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let (_dir, _script, dashboard) = run(8);
    let response = ask(&dashboard, get("/metrics")).await;
    let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
    assert_eq!(
        kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let text = text(response).await;
    assert!(
        text.contains("zfl_device_training_seconds{client=\"0\"}"),
        "{text}"
    );
    assert!(text.contains("zfl_faults_total{kind=\"died\"} 1"), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

/// The exposition format, as OpenMetrics 1.0 has it in
/// <https://prometheus.io/docs/specs/om/open_metrics_spec/>: families one after another, their
/// metadata first, names and units as the types ask, and an end.
#[tokio::test]
async fn metrics_can_be_parsed() {
    let (_dir, _script, dashboard) = run(8);
    let text = text(ask(&dashboard, get("/metrics")).await).await;
    let body = text.strip_suffix("# EOF\n").expect("an end");
    let mut kinds = std::collections::BTreeMap::new();
    let mut samples = std::collections::BTreeSet::new();
    let (mut family, mut unit) = (String::new(), None);
    for line in body.lines() {
        if let Some(metadata) = line.strip_prefix("# ") {
            let words: Vec<&str> = metadata.splitn(3, ' ').collect();
            let [what, name, value] = words[..] else {
                panic!("{line}")
            };
            if name != family {
                (family, unit) = (name.to_owned(), None);
                let known = kinds.contains_key(name);
                assert!(!known, "{line}: a family in two places");
            }
            match what {
                "TYPE" => drop(kinds.insert(family.clone(), value.to_owned())),
                "UNIT" => unit = Some(value.to_owned()),
                "HELP" => assert!(!value.is_empty(), "{line}"),
                other => panic!("{line}: {other}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect(line);
        value.parse::<f64>().expect(line);
        assert!(samples.insert(series.to_owned()), "{line}: twice");
        let (name, labels) = series
            .split_once('{')
            .map_or((series, None), |(n, l)| (n, Some(l)));
        let suffix = name.strip_prefix(family.as_str()).expect(line);
        let expected = match kinds[&family].as_str() {
            "counter" => "_total",
            "info" => "_info",
            "gauge" => "",
            other => panic!("{line}: {other}"),
        };
        assert_eq!(suffix, expected, "{line}");
        if let Some(unit) = &unit {
            assert!(family.ends_with(&format!("_{unit}")), "{line}: {unit}");
        }
        for label in labels.map(|l| l.strip_suffix('}').expect(line)).into_iter() {
            for pair in label.split("\",").filter(|pair| !pair.is_empty()) {
                let (key, value) = pair.split_once("=\"").expect(line);
                assert!(!key.is_empty() && !value.contains('\n'), "{line}");
            }
        }
    }
    assert!(kinds.len() > 15 && samples.len() > 60, "{text}");
    for family in [
        "zfl_device_energy_joules",
        "zfl_simulated_seconds",
        "zfl_algorithm",
    ] {
        assert!(kinds.contains_key(family), "{family}: {kinds:?}");
    }
}

/// One server-sent event.
async fn next(body: &mut Body) -> (String, Value) {
    loop {
        let frame = tokio::time::timeout(Duration::from_secs(20), body.frame()).await;
        let frame = frame
            .expect("an event in time")
            .expect("the stream goes on")
            .unwrap();
        let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
        let mut event = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("event: ") {
                event = name.to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return (event, serde_json::from_str(data).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn events_tell_what_changed_and_nothing_else() {
    let (_dir, mut script, dashboard) = run(8);
    let response = ask(&dashboard, get("/api/events")).await;
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "text/event-stream"
    );
    let mut body = response.into_body();
    dashboard.follow().unwrap();
    // What was read before the stream was opened comes at once, in whatever order.
    let mut seen = std::collections::BTreeMap::new();
    while seen.len() < 4 {
        let (event, data) = next(&mut body).await;
        seen.insert(event, data);
    }
    let names: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!(names, ["devices", "faults", "rounds", "run"]);
    script.dies(3, "<img src=x onerror=alert(1)>");
    let (mut devices, mut faults) = (Value::Null, Value::Null);
    while devices.is_null() || faults.is_null() {
        match next(&mut body).await {
            (event, data) if event == "devices" => devices = data,
            (event, data) if event == "faults" => faults = data,
            _ => {}
        }
    }
    assert_eq!(
        (devices.as_array().unwrap().len(), &devices[0]["client"]),
        (1, &3.into())
    );
    assert_eq!(devices[0]["state"], "dead");
    assert_eq!(
        (faults.as_array().unwrap().len(), &faults[0]["kind"]),
        (1, &"died".into())
    );
}

#[tokio::test]
async fn a_page_that_is_open_when_the_run_goes_on_from_an_earlier_round_loads_everything_anew() {
    let (dir, _script, dashboard) = run(4);
    let before = json(&dashboard, "/api/faults").await;
    let mut body = ask(&dashboard, get("/api/events")).await.into_body();
    dashboard.follow().unwrap();
    next(&mut body).await;
    // As a run that is resumed does it.
    let events = dir.path().join("events.jsonl");
    let text = std::fs::read_to_string(&events).unwrap();
    let end = text.find(r#""event":"phase_entered","round":3,"#).unwrap();
    let kept = &text[..=text[..end].rfind('\n').unwrap()];
    let new = dir.path().join("new");
    std::fs::write(&new, kept).unwrap();
    std::fs::rename(new, events).unwrap();
    let end = tokio::time::timeout(Duration::from_secs(20), async {
        while body.frame().await.is_some() {}
    });
    end.await.expect("the stream ends");
    dashboard.catch_up().unwrap();
    let run = json(&dashboard, "/api/run").await;
    assert_eq!(run["rounds_completed"], 2, "{run}");
    let rounds = json(&dashboard, "/api/rounds").await;
    assert_eq!(rounds.as_array().unwrap().len(), 3, "{rounds}");
    let faults = json(&dashboard, "/api/faults").await;
    let count = |faults: &Value| faults.as_array().unwrap().len();
    assert!(count(&faults) < count(&before), "{faults}");
}

#[tokio::test]
async fn streams_are_bounded() {
    let (_dir, _script, dashboard) = run(2);
    let mut open = Vec::new();
    let refused = loop {
        let response = ask(&dashboard, get("/api/events")).await;
        if response.status() != StatusCode::OK || open.len() > 1000 {
            break response.status();
        }
        open.push(response);
    };
    assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
    drop(open);
    assert_eq!(
        ask(&dashboard, get("/api/events")).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_listener_that_was_bound_elsewhere_is_served() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (_dir, _script, dashboard) = run(2);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(dashboard.serve(listener).unwrap());
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET /api/run HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn idle_connections_take_neither_a_streams_place_nor_all_others() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    let (_dir, mut script, dashboard) = run(2);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(dashboard.serve(listener).unwrap());
    let ask = async |path: &str| {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        connection
    };
    let mut stream = ask("/api/events").await;
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..3 * zfl_dashboard::places() {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let mut answer = String::new();
    let mut page = ask("/api/run").await;
    page.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // The oldest went, and the stream goes on.
    assert_eq!(idle[0].read(&mut [0]).await.unwrap_or(0), 0);
    script.round(1);
    dashboard.catch_up().unwrap();
    let mut next = [0; 1];
    assert_eq!(stream.read(&mut next).await.unwrap(), 1);
}

#[test]
fn a_folder_that_is_no_run_is_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let error = format!("{:#}", Dashboard::from_run_dir(dir.path()).unwrap_err());
    assert!(error.contains("events.jsonl"), "{error}");
}

mod openapi {
    //! `docs/openapi.json` against the routes and against real answers.
    use zfl_run_dir::metric::METRICS;

    use super::*;

    fn document() -> Value {
        serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap()
    }

    #[test]
    fn it_has_every_route_and_no_other() {
        let document = document();
        let mut documented: Vec<&str> = document["paths"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut routes = [&ROUTES[..], &CONTROL_ROUTES].concat();
        documented.sort_unstable();
        routes.sort_unstable();
        assert_eq!(documented, routes);
        for path in ROUTES {
            assert_eq!(
                document["paths"][path]
                    .as_object()
                    .unwrap()
                    .keys()
                    .collect::<Vec<_>>(),
                ["get"],
                "{path}"
            );
        }
    }

    #[tokio::test]
    async fn answers_are_as_it_says() {
        let (_dir, _script, dashboard) = run(8);
        let document = document();
        for path in ROUTES {
            let schema = schema(&document, path, "200");
            let concrete = path.replace("{name}", "app.js").replace("{client}", "0");
            let response = ask(&dashboard, get(&concrete)).await;
            let kind = response.headers()[header::CONTENT_TYPE]
                .to_str()
                .unwrap()
                .to_owned();
            let documented =
                document["paths"][path]["get"]["responses"]["200"]["content"].as_object();
            let documented: Vec<&String> = documented.unwrap().keys().collect();
            let plain = kind.split(';').next().unwrap();
            assert!(
                documented
                    .iter()
                    .any(|known| known.split(';').next() == Some(plain)),
                "{path}: {kind}"
            );
            if plain == "application/json" && path != "/api/openapi.json" {
                let answer: Value = serde_json::from_str(&text(response).await).unwrap();
                check(&document, schema, &answer, path);
            }
        }
        let missing = ask(&dashboard, get("/api/devices/99/history")).await;
        let answer = serde_json::from_str(&text(missing).await).unwrap();
        let schema = schema(&document, "/api/devices/{client}/history", "404");
        check(&document, schema, &answer, "404");
    }

    #[tokio::test]
    async fn events_are_as_it_says() {
        let (_dir, _script, dashboard) = run(8);
        let document = document();
        let mut body = ask(&dashboard, get("/api/events")).await.into_body();
        dashboard.follow().unwrap();
        for _ in 0..4 {
            let (event, data) = next(&mut body).await;
            let name = match event.as_str() {
                "run" => "RunView",
                "rounds" => "Rounds",
                "devices" => "Devices",
                "faults" => "Faults",
                other => panic!("an event {other} that is not documented"),
            };
            check(
                &document,
                &document["components"]["schemas"][name],
                &data,
                &event,
            );
        }
    }

    fn schema<'a>(document: &'a Value, path: &str, status: &str) -> &'a Value {
        let content = &document["paths"][path]["get"]["responses"][status]["content"];
        let content = content
            .as_object()
            .unwrap_or_else(|| panic!("{path} {status}: no content"));
        &content.values().next().unwrap()["schema"]
    }

    /// The part of JSON Schema that the document uses. No property may be there that is not documented,
    /// so that neither side can drift.
    fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.strip_prefix("#/components/schemas/").unwrap();
            let schema = &document["components"]["schemas"][name];
            assert!(!schema.is_null(), "{at}: {reference} is not there");
            return check(document, schema, value, at);
        }
        if let Some(parts) = schema["allOf"].as_array() {
            return merged(document, parts, value, at);
        }
        if let Some(choice) = schema["enum"].as_array() {
            assert!(
                choice.contains(value),
                "{at}: {value} is none of {choice:?}"
            );
        }
        let types = match &schema["type"] {
            Value::String(name) => vec![name.as_str()],
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            _ => return,
        };
        let is = |name: &&str| match *name {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{at}: type {other}"),
        };
        assert!(types.iter().any(is), "{at}: {value} is not {types:?}");
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            check(document, &schema["items"], item, &format!("{at}[{index}]"));
        }
        if let (Some(properties), Some(object)) =
            (schema["properties"].as_object(), value.as_object())
        {
            let additional = &schema["additionalProperties"];
            members(
                document,
                properties,
                &required(schema),
                additional,
                object,
                at,
            );
        }
    }

    fn required(schema: &Value) -> Vec<&str> {
        let names = schema["required"].as_array();
        names
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    fn merged(document: &Value, parts: &[Value], value: &Value, at: &str) {
        let (mut properties, mut names) = (serde_json::Map::new(), Vec::new());
        for part in parts {
            let name = part["$ref"]
                .as_str()
                .and_then(|name| name.strip_prefix("#/components/schemas/"));
            let part = name.map_or(part, |name| &document["components"]["schemas"][name]);
            properties.extend(part["properties"].as_object().unwrap().clone());
            names.extend(required(part));
        }
        members(
            document,
            &properties,
            &names,
            &Value::Null,
            value.as_object().unwrap(),
            at,
        );
    }

    fn members(
        document: &Value,
        properties: &serde_json::Map<String, Value>,
        required: &[&str],
        additional: &Value,
        object: &serde_json::Map<String, Value>,
        at: &str,
    ) {
        for name in required {
            assert!(object.contains_key(*name), "{at}: {name} is required");
        }
        for (name, value) in object {
            let is_metric = METRICS.iter().any(|metric| metric.name == name);
            let schema = match properties.get(name) {
                None if is_metric && !additional.is_null() => additional,
                schema => schema.unwrap_or_else(|| panic!("{at}: {name} is not documented")),
            };
            check(document, schema, value, &format!("{at}.{name}"));
        }
    }
}
