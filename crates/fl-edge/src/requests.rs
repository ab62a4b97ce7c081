//! Heads of the requests of an edge.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;
use core::fmt::Write as _;

use fl_proto::cluster::PARTIAL_SUMS;
use fl_proto::{JSON, LATER_FIELDS, OCTET_STREAM, Word, codec, path};

use crate::edge::Config;

/// A request without a body, or with one of that media type and length.
pub(crate) fn head(
    line: impl Display,
    host: impl Display,
    words: &[(&str, Option<&Word>)],
    body: Option<(&str, u64)>,
) -> Vec<u8> {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = write!(
        text,
        "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    );
    for (name, word) in words {
        if let Some(word) = word {
            let _ = write!(text, "{name}: {}\r\n", word.text());
        }
    }
    if let Some((media_type, length)) = body {
        let _ = write!(
            text,
            "Content-Type: {media_type}\r\nContent-Length: {length}\r\n"
        );
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// The line that joins, with what this edge has.
pub(crate) fn join_line(config: &Config, free_bytes: Option<u64>) -> String {
    let mut line = alloc::format!(
        "GET {}?client={}&port={}",
        path::ID,
        config.id,
        config.http_port
    );
    let list = |line: &mut String, key: &str, names: &mut dyn Iterator<Item = &'static str>| {
        for (at, name) in names.enumerate() {
            let before = if at == 0 {
                alloc::format!("&{key}=")
            } else {
                String::from(",")
            };
            line.push_str(&before);
            line.push_str(name);
        }
    };
    list(
        &mut line,
        "codecs",
        &mut codec::ALL.iter().map(|codec| codec.name()),
    );
    list(&mut line, "rules", &mut fl_algo::rule_names());
    list(&mut line, "can", &mut LATER_FIELDS.iter().copied());
    if let Some(bytes) = free_bytes {
        let _ = write!(line, "&memory={bytes}");
    }
    line
}

/// Media types of the bodies that an edge sends.
pub(crate) const REPORT: &str = JSON;
pub(crate) const SUMS: &str = PARTIAL_SUMS;
pub(crate) const START: &str = OCTET_STREAM;
