//! Lengths of HTTP messages, as far as a gateway has to know them.

use alloc::format;
use alloc::vec::Vec;

const MAX_HEADERS: usize = 32;

/// Octets of the whole message at the start of `bytes`, once its head is there.
///
/// # Errors
/// If it is none, or of no known length.
pub(crate) fn whole_len(bytes: &[u8]) -> Result<Option<usize>, ()> {
    let Some(head) = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
    else {
        return if bytes.len() > fl_radio::MAX_MESSAGE_BYTES {
            Err(())
        } else {
            Ok(None)
        };
    };
    let length = match header(&bytes[..head], "content-length") {
        None => 0,
        Some(text) => text.trim().parse().map_err(|_| ())?,
    };
    head.checked_add(length).map(Some).ok_or(())
}

/// A header line of a request or of an answer, whatever its body is.
pub(crate) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let end = head.windows(4).position(|window| window == b"\r\n\r\n");
    let text = core::str::from_utf8(&head[..end.unwrap_or(head.len())]).ok()?;
    let lines = text.split("\r\n").skip(1).take(MAX_HEADERS);
    let fields = lines.filter_map(|line| line.split_once(':'));
    let mut found = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.trim())
}

/// Path and query of a request.
pub(crate) fn target(request: &[u8]) -> &str {
    let line = request
        .split(|octet| *octet == b'\r')
        .next()
        .unwrap_or_default();
    let line = core::str::from_utf8(line).unwrap_or("");
    line.split(' ').nth(1).unwrap_or("")
}

/// Value of a key of a query.
pub(crate) fn query<'a>(target: &'a str, key: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// Status of an answer; 0 if it is none.
pub(crate) fn status(answer: &[u8]) -> u16 {
    let digits = answer
        .get(9..12)
        .and_then(|digits| core::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Body of a whole message.
pub(crate) fn body(message: &[u8]) -> &[u8] {
    let head = message.windows(4).position(|window| window == b"\r\n\r\n");
    head.map_or(&[], |at| &message[at + 4..])
}

/// An answer with a body of JSON.
pub(crate) fn answer(status: u16, json: &str) -> Vec<u8> {
    let length = json.len();
    format!(
        "HTTP/1.1 {status} \r\nContent-Type: {}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{json}",
        fl_proto::JSON
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_message_is_that_of_head_and_body() {
        let request =
            b"POST /results?id=3 HTTP/1.1\r\ncontent-length: 5\r\nZfl-Word: w\r\n\r\nab\xff\0e";
        assert_eq!(header(request, "zfl-word"), Some("w"));
        assert_eq!(whole_len(&request[..20]), Ok(None));
        assert_eq!(whole_len(request), Ok(Some(request.len())));
        assert_eq!(whole_len(b"GET / HTTP/1.1\r\n\r\n"), Ok(Some(18)));
        assert_eq!(
            whole_len(b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
            Err(())
        );
        let huge = format!("GET / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", usize::MAX);
        assert_eq!(whole_len(huge.as_bytes()), Err(()));
        assert_eq!(query(target(request), "id"), Some("3"));
        let refusal = answer(503, "{}");
        assert_eq!((status(&refusal), body(&refusal)), (503, &b"{}"[..]));
    }
}
