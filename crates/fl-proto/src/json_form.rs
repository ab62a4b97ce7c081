//! The JSON form: the control message with the sections inside, as base64.
//!
//! `{"round":1, … ,"sections":{"model":"AACAPwAAAEA="}}`: the control message's fields, and for each
//! section base64 (RFC 4648, padded) of its numbers as little-endian f32. For hosts: a body has to be in
//! memory at once.

use crate::codec::{Decoder, Encoder, F32, Plan};
use crate::message::{MAX_SECTIONS, section_name};
use alloc::string::String;
use alloc::vec::Vec;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use core::fmt;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    sections: Texts<'a>,
}

/// Names of sections and their base64.
struct Texts<'a>(heapless::Vec<(&'a str, &'a str), MAX_SECTIONS>);

impl<'de: 'a, 'a> Deserialize<'de> for Texts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Texts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of up to {MAX_SECTIONS} sections")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts<'de>, A::Error> {
        let mut texts = heapless::Vec::new();
        while let Some((name, text)) = map.next_entry::<&str, &str>()? {
            let twice = texts.iter().any(|(other, _)| *other == name);
            if twice || section_name(name).is_none() || texts.push((name, text)).is_err() {
                return Err(A::Error::custom("sections of distinct names"));
            }
        }
        Ok(Texts(texts))
    }
}

/// Takes the sections out of a body; `None` if there are none or one is malformed.
pub fn decode(body: &[u8]) -> Option<Vec<(String, Vec<f32>)>> {
    let body = crate::json::decode::<Body<'_>>(body)?;
    let sections = body.sections.0.iter();
    sections
        .map(|(name, text)| Some(((*name).into(), numbers(text)?)))
        .collect()
}

/// Decodes the base64 of whole f32.
fn numbers(text: &str) -> Option<Vec<f32>> {
    let octets = STANDARD.decode(text).ok()?;
    let mut numbers = alloc::vec![0.0; octets.len() / 4];
    let mut decoder = Decoder::new(&F32);
    let whole = decoder.push(&octets, &mut numbers) && decoder.is_complete(numbers.len());
    whole.then_some(numbers)
}

/// Writes the field `sections`: what a cohort shares.
///
/// # Errors
/// `None` if a name is none.
pub fn encode_sections(sections: &[(&str, &[f32])]) -> Option<String> {
    let mut text = String::from("\"sections\":{");
    for (i, (name, numbers)) in sections.iter().enumerate() {
        section_name(name)?;
        text += if i == 0 { "\"" } else { ",\"" };
        text += name;
        text += "\":\"";
        let mut encoder = Encoder::new(&F32);
        // Whole numbers, and a multiple of three: pieces of base64 then follow each other.
        let mut octets = [0; 768];
        loop {
            match encoder.fill(&Plan::default(), numbers, &mut octets) {
                0 => break,
                n => STANDARD.encode_string(&octets[..n], &mut text),
            }
        }
        text += "\"";
    }
    text += "}";
    Some(text)
}

/// Writes a whole body from a control message and a field `sections`.
///
/// # Errors
/// `None` if `control` is no JSON object with a field.
pub fn encode(control: &[u8], sections: &str) -> Option<Vec<u8>> {
    let fields = control.strip_suffix(b"}")?;
    if fields.len() < 2 {
        return None;
    }
    Some([fields, b",", sections.as_bytes(), b"}"].concat())
}
