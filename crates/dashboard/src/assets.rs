//! The page's files, in the program.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

macro_rules! files {
    ($($name:literal $from:literal $type:literal)*) => {
        &[$(($name, $type, include_bytes!(concat!("../assets/", $from)))),*]
    };
}

type File = (&'static str, &'static str, &'static [u8]);

const FILES: &[File] = files! {
    "app.js" "app.js" "text/javascript; charset=utf-8"
    "charts.js" "charts.js" "text/javascript; charset=utf-8"
    "evaluation.js" "evaluation.js" "text/javascript; charset=utf-8"
    "faults.js" "faults.js" "text/javascript; charset=utf-8"
    "fleet.js" "fleet.js" "text/javascript; charset=utf-8"
    "format.js" "format.js" "text/javascript; charset=utf-8"
    "mesh.js" "mesh.js" "text/javascript; charset=utf-8"
    "tree.js" "tree.js" "text/javascript; charset=utf-8"
    "control.js" "control.js" "text/javascript; charset=utf-8"
    "style.css" "style.css" "text/css; charset=utf-8"
    "icon.svg" "icon.svg" "image/svg+xml"
    "uplot.min.js" "vendor/uplot.min.js" "text/javascript; charset=utf-8"
    "uplot.min.css" "vendor/uplot.min.css" "text/css; charset=utf-8"
    "uplot.LICENSE" "vendor/uplot.LICENSE" "text/plain; charset=utf-8"
};

pub async fn index() -> Html<&'static str> {
    Html(include_str!("../assets/index.html"))
}

pub async fn asset(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, bytes)) => ([(header::CONTENT_TYPE, *kind)], *bytes).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
