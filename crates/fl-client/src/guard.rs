//! Guard of the device: it obeys its aggregator, and nobody else.
//!
//! The aggregator is whoever knows the word that the device gave it at `/id`. A page of a web site does not;
//! it is refused before that by what a browser says of itself, so that no page can try words out.

use crate::http::{Header, Refusal};
use fl_proto::Word;
use zfl_text::{Authority, Host, is_of_a_page};

/// Refuses whoever is not the aggregator. An aggregator that shows the word from before a reboot learns from the
/// 403 that this is another device by now.
///
/// # Errors
/// [`Refusal`] to be answered with.
pub fn check(headers: &[Header<'_>], word: Option<&Word>, has_joined: bool) -> Result<(), Refusal> {
    check_page(headers, None)?;
    let mut shown = named(headers, Word::HEADER);
    match (word, shown.next()) {
        (Some(word), Some(shown)) if word.matches(shown) => Ok(()),
        (_, None) if !has_joined => Err(Refusal::new(503, "still joining and fetching data")),
        _ => Err(Refusal::new(
            403,
            "a device obeys the aggregator that it joined, by the word that it gave it",
        )),
    }
}

/// Refuses a page of a web site, by what a browser says of itself. `own` is the name by which whoever is asked is
/// known, besides its address.
///
/// # Errors
/// [`Refusal`] to be answered with.
pub fn check_page(headers: &[Header<'_>], own: Option<&str>) -> Result<(), Refusal> {
    let of_a_page = |header: &Header<'_>| is_of_a_page(header.name, header.value);
    if headers.iter().any(of_a_page) || !named(headers, "host").all(|host| is_own(host, own)) {
        return Err(Refusal::new(
            403,
            "a device answers no page: ask it by its IP address",
        ));
    }
    Ok(())
}

/// Values of the header lines of a name.
pub fn named<'a>(headers: &[Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

/// True for an IP address, `localhost` or the name of its own. A page has another name, whatever that is made to point
/// to.
fn is_own(host: &[u8], own: Option<&str>) -> bool {
    core::str::from_utf8(host).is_ok_and(|host| {
        let authority = Authority::parse(host);
        match authority.host {
            Host::Ip(_) => true,
            Host::Name(name) => authority.is_localhost() || Some(name) == own,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word() -> Word {
        Word::random([7; 16])
    }

    fn status(lines: &[(&str, &str)], has_joined: bool) -> u16 {
        let headers: std::vec::Vec<Header<'_>> = lines
            .iter()
            .map(|(name, value)| Header {
                name,
                value: value.as_bytes(),
            })
            .collect();
        check(&headers, Some(&word()), has_joined).map_or_else(|refusal| refusal.status, |()| 200)
    }

    #[test]
    fn only_the_word_opens() {
        let word = word();
        assert_eq!(status(&[("zfl-word", word.text())], true), 200);
        assert_eq!(status(&[("Zfl-Word", word.text())], false), 200);
        let short = &word.text()[..31];
        let other = Word::random([8; 16]);
        for shown in [other.text(), short, "", "Bearer"] {
            assert_eq!(status(&[("Zfl-Word", shown)], true), 403, "{shown}");
            assert_eq!(status(&[("Zfl-Word", shown)], false), 403, "{shown}");
        }
        assert_eq!(status(&[], false), 503, "it is about to join");
        assert_eq!(status(&[], true), 403);
        let none = check(&[], None, true).unwrap_err();
        assert_eq!(none.status, 403, "a device without a word obeys nobody");
    }

    #[test]
    fn a_page_is_refused_even_with_the_word() {
        let word = word();
        for (name, value, expected) in [
            ("Host", "192.0.2.2", 200),
            ("Host", "127.0.0.1:10003", 200),
            ("Host", "[::1]:80", 200),
            ("Host", "localhost:80", 200),
            ("Host", "evil.example", 403),
            ("Host", "aggregator", 403),
            ("Host", "127.0.0.1.evil.example:80", 403),
            ("Host", "\u{80}", 403),
            ("Origin", "http://evil.example", 403),
            ("Origin", "null", 403),
            ("Sec-Fetch-Site", "cross-site", 403),
            ("Sec-Fetch-Site", "none", 200),
        ] {
            let lines = [(name, value), ("Zfl-Word", word.text())];
            assert_eq!(status(&lines, true), expected, "{name}: {value}");
        }
    }
}
