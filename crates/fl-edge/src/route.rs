//! Requests to an edge: what is asked, and by whom.

use fl_client::guard::{check_page, named};
use fl_client::http::{self, Header, MAX_HEADERS, Refusal};
use fl_proto::{Query, Word, path};

/// Endpoint of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// A device joins.
    Join,
    /// A device fetches data.
    Inputs,
    Labels,
    /// A device sends its update.
    Results,
    /// The aggregator above asks.
    Ready,
    Start,
    Stop,
    Lost,
    Back,
}

impl Route {
    fn is_from_above(self) -> bool {
        use Route::{Back, Lost, Ready, Start, Stop};
        matches!(self, Ready | Start | Stop | Lost | Back)
    }

    fn of(path: &str) -> Option<(Self, &'static str)> {
        Some(match path {
            path::ID => (Self::Join, "GET"),
            path::TRAINING_DATA => (Self::Inputs, "GET"),
            path::TRAINING_LABELS => (Self::Labels, "GET"),
            path::RESULTS => (Self::Results, "POST"),
            path::READY => (Self::Ready, "GET"),
            path::START => (Self::Start, "POST"),
            path::STOP => (Self::Stop, "POST"),
            path::LOST => (Self::Lost, "POST"),
            path::BACK => (Self::Back, "POST"),
            _ => return None,
        })
    }
}

/// A request whose head was read.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub route: Route,
    pub length: u64,
    pub is_message: bool,
    pub query: Query,
    /// Word that was shown, or told at a join.
    pub word: Option<Word>,
}

/// Reads a head. Whoever asks as the aggregator above is held to `own`, the word of the edge.
pub(crate) fn parse(head: &[u8], own: Option<&Word>) -> Result<Request, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Refusal::new(400, "the head is cut off")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(431, "too many header lines"));
        }
        Err(error) => {
            return Err(Refusal::new(
                400,
                format_args!("malformed request: {error}"),
            ));
        }
    }
    // Devices call whom they join by its name; the aggregator above is held to more below.
    check_page(parsed.headers, Some(path::HOST))?;
    let target = parsed.path.unwrap_or("");
    let (endpoint, query) = target.split_once('?').unwrap_or((target, ""));
    let (route, method) =
        Route::of(endpoint).ok_or_else(|| Refusal::new(404, "no such endpoint"))?;
    if parsed.method != Some(method) {
        return Err(Refusal::new(
            405,
            format_args!("{endpoint} takes {method} only"),
        ));
    }
    let headers = &*parsed.headers;
    if route.is_from_above() {
        fl_client::guard::check(headers, own, true)?;
    }
    let length = http::content_length(headers)?;
    if length.is_none() && matches!(route, Route::Results | Route::Start) {
        return Err(Refusal::new(
            411,
            format_args!("{endpoint} needs a Content-Length"),
        ));
    }
    Ok(Request {
        route,
        length: length.unwrap_or(0),
        is_message: http::is_message(headers),
        query: read_query(query)?,
        word: word(headers)?,
    })
}

fn word(headers: &[Header<'_>]) -> Result<Option<Word>, Refusal> {
    let Some(value) = named(headers, Word::HEADER).next() else {
        return Ok(None);
    };
    let word = Word::parse(value).ok_or_else(|| Refusal::new(400, "this is no word"))?;
    Ok(Some(word))
}

/// Reads the fields of a query that an edge needs; devices write them plainly.
fn read_query(text: &str) -> Result<Query, Refusal> {
    let bad = || Refusal::new(400, "malformed query");
    let mut query = Query::default();
    for (key, value) in text.split('&').filter_map(|field| field.split_once('=')) {
        match key {
            "id" => query.id = Some(value.parse().map_err(|_| bad())?),
            "client" => query.client = Some(value.parse().map_err(|_| bad())?),
            "port" => query.port = Some(value.parse().map_err(|_| bad())?),
            "codecs" => query.codecs = Some(value.try_into().map_err(|_| bad())?),
            "rules" => query.rules = Some(value.try_into().map_err(|_| bad())?),
            "can" => query.can = Some(value.try_into().map_err(|_| bad())?),
            "form" => query.form = Some(value.try_into().map_err(|_| bad())?),
            "examples" => query.examples = Some(value.try_into().map_err(|_| bad())?),
            _ => {}
        }
    }
    if query.form.is_some() {
        let why = "a gateway takes messages of octets: leave form out, or join the root";
        return Err(Refusal::new(422, why));
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<Request, u16> {
        parse(head.as_bytes(), None).map_err(|refusal| refusal.status)
    }

    #[test]
    fn requests_of_devices_are_read_and_bad_ones_refused_with_their_status() {
        let head = "GET /id?client=3&port=80&codecs=f32,int8&rules=fedavg HTTP/1.1\r\nHost: aggregator\r\n\r\n";
        let join = read(head).unwrap();
        assert_eq!((join.route, join.query.client), (Route::Join, Some(3)));
        assert!(join.query.speaks("int8") && !join.query.speaks("f16"));
        for (head, status) in [
            ("GET /nothing HTTP/1.1\r\n\r\n", 404),
            ("GET /results?id=1 HTTP/1.1\r\n\r\n", 405),
            ("POST /results?id=1 HTTP/1.1\r\n\r\n", 411),
            ("GET /id?client=-3 HTTP/1.1\r\n\r\n", 400),
            ("GET /id?form=json HTTP/1.1\r\n\r\n", 422),
            (
                "GET /ready HTTP/1.1\r\nZfl-Word: 0123456789abcdef\r\n\r\n",
                403,
            ),
            ("POST /results HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
            ("\u{0}\r\n\r\n", 400),
            ("GET /id?client=3 HTTP/1.1\r\nOrigin: null\r\n\r\n", 403),
            (
                "GET /id?client=3 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
                403,
            ),
        ] {
            assert_eq!(read(head).unwrap_err(), status, "{head:?}");
        }
    }
}
