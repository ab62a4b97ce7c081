//! The way of an update from a body to a checked set of vectors.

use axum::http::{HeaderMap, StatusCode, header};
use fl_algo::{SectionSpec, Sections, Way};
use fl_proto::codec::{Encodes, Encoding};
use fl_proto::message::{HEAD_LEN, Head, Kind, MODEL, Message, SectionHeader};
use fl_proto::{Diverged, JSON, OCTET_STREAM, Results, json, json_form};

use crate::config::Config;
use crate::shared::{Refusal, Shared};

/// Refusal of sections of the JSON form.
const NOT_BASE64: &str = "sections: not an object of base64 of f32";

/// Takes an update in: reads, checks and places it, or damages it first if that is planned. It takes a
/// while.
pub(crate) fn take_update(
    shared: &Shared,
    id: u32,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), Refusal> {
    let update = parse_update(headers, body, shared);
    let sent_for = match &update {
        Ok((results, _)) => Some((results.round, &results.token)),
        Err(Unusable::Diverged(control)) => Some((control.round, &control.token)),
        Err(Unusable::Malformed(_)) => None,
    };
    match sent_for {
        Some((round, token)) if shared.is_corrupted(id, round, token) => {
            take_damaged(shared, id, round, headers, body)
        }
        _ => take_parsed(shared, id, update),
    }
}

fn take_parsed(
    shared: &Shared,
    id: u32,
    update: Result<(Results, Sections), Unusable>,
) -> Result<(), Refusal> {
    let (results, sections) = match update {
        Err(Unusable::Diverged(control)) => {
            let why = "the loss is not finite: the training diverged, lower the learning rate";
            shared.give_up(id, control.round, &control.token, why);
            return Err(Refusal(StatusCode::UNPROCESSABLE_ENTITY, why.into()));
        }
        Err(Unusable::Malformed(refusal)) => return Err(refusal),
        Ok(update) => update,
    };
    if let Err(why) = shared.check(id, &sections) {
        // The device has nothing better to send: its round need not be waited for.
        shared.give_up(id, results.round, &results.token, &why);
        return Err(Refusal(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    shared.take_update(id, results, sections)
}

/// Takes an update in as if one bit of it had been turned on the way: a fault made on purpose.
fn take_damaged(
    shared: &Shared,
    id: u32,
    round: u32,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), Refusal> {
    let mut damaged = body.to_vec();
    if let Some(byte) = damaged.last_mut() {
        *byte ^= 1;
    }
    let taken = take_parsed(shared, id, parse_update(headers, &damaged, shared));
    if let Err(Refusal(_, why)) = &taken {
        let why = format!("its update was damaged on the way, as planned: {why}");
        shared.failed_there(id, round, &why);
    }
    taken
}

/// Reads an update of either form: its control message and its sections, which are those of the rule.
fn parse_update(
    headers: &HeaderMap,
    body: &[u8],
    shared: &Shared,
) -> Result<(Results, Sections), Unusable> {
    match media_type(headers) {
        Some(OCTET_STREAM) => of_octets(body, shared),
        Some(JSON) => of_json(body, &shared.config),
        _ => Err(Unusable::Malformed(Refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("send {OCTET_STREAM} or {JSON}"),
        ))),
    }
}

/// Checks that these are the sections of an update, by their lengths; nothing of them has been decoded.
fn check_sections<'a>(
    config: &Config,
    mut sections: impl Iterator<Item = (&'a str, usize)> + Clone,
) -> Result<(), Unusable> {
    for SectionSpec {
        name, count: want, ..
    } in config.sections(Way::Up)
    {
        let found = sections.clone().find(|(own, _)| *own == name);
        let (_, got) = found.ok_or_else(|| bad(format!("section {name} is missing")))?;
        if got != want && name == MODEL {
            return Err(bad(format!("{got} parameters, the model has {want}")));
        }
        if got != want {
            return Err(bad(format!(
                "section {name}: {got} numbers, {want} are expected"
            )));
        }
    }
    let wanted = |name: &str| config.sections(Way::Up).any(|own| own.name == name);
    match sections.find(|(name, _)| !wanted(name)) {
        Some((name, _)) => Err(bad(format!("section {name} is not wanted"))),
        None => Ok(()),
    }
}

/// Checks that a section which is no plain vector is in the encoding that the experiment has.
fn check_encoding(
    config: &Config,
    header: &SectionHeader,
    (want, octets): (Encoding, u64),
) -> Result<(), Unusable> {
    if header.codec.encodes() == Encodes::Parameters
        || (header.codec == want.codec() && u64::from(header.octets) == octets)
    {
        return Ok(());
    }
    let (name, got) = (&header.name, header.octets);
    Err(bad(format!(
        "section {name}: {got} octets of {}, {octets} of {:?} are expected",
        header.codec.name(),
        config.encoding_up
    )))
}

/// Adds a model to its changes.
fn add_base(shared: &Shared, round: u32, changes: &mut [f32]) -> Result<(), Unusable> {
    let base = shared.bases.get(round).ok_or_else(|| {
        let why = format!("the model of round {round}, which it changes, is not kept");
        Unusable::Malformed(Refusal(StatusCode::GONE, why))
    })?;
    fl_algo::add_base(&base, changes);
    Ok(())
}

/// The sections of a body of either form.
pub(crate) struct Body {
    pub sections: Sections,
}

impl Body {
    /// Reads a body with [`control`].
    pub fn of(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        let malformed = |why: &str| Refusal(StatusCode::BAD_REQUEST, why.to_owned());
        if is_json(headers) {
            let sections = json_form::decode(body).ok_or_else(|| malformed(NOT_BASE64))?;
            let sections = sections.into_iter().collect();
            return Ok(Self { sections });
        }
        let message = Message::parse(body).map_err(|error| malformed(&error.to_string()))?;
        let numbers = |section: &fl_proto::message::Section<'_>| {
            if section.header.codec.encodes() != Encodes::Parameters {
                return Err(malformed("a section of changes, numbers are expected"));
            }
            let numbers = section.numbers();
            let numbers = numbers.map_err(|error| malformed(&error.to_string()));
            numbers.map(|numbers| (section.header.name.to_string(), numbers))
        };
        let sections = message
            .sections
            .iter()
            .map(numbers)
            .collect::<Result<_, _>>()?;
        Ok(Self { sections })
    }
}

/// The control message of a body, if it is one of this kind; its checksum may be wrong.
pub(crate) fn control<T: serde::de::DeserializeOwned>(
    headers: &HeaderMap,
    body: &[u8],
) -> Option<T> {
    if is_json(headers) {
        return json::decode(body);
    }
    let (head, rest) = body.split_first_chunk::<HEAD_LEN>()?;
    let head = Head::parse(head)
        .ok()
        .filter(|head| head.kind == Kind::Results)?;
    json::decode(rest.get(..head.control_len.into())?)
}

fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers) == Some(JSON)
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    let media_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    media_type.split(';').next().map(str::trim)
}

fn of_octets(body: &[u8], shared: &Shared) -> Result<(Results, Sections), Unusable> {
    let config = &shared.config;
    let message = Message::parse(body).map_err(|error| bad(error.to_string()))?;
    if message.kind != Kind::Results {
        return Err(bad("the body of a /start, results are expected".into()));
    }
    let results = results_of(message.control)?;
    let headers = message.sections.iter().map(|section| &section.header);
    let counts = headers.map(|header| (header.name.as_str(), header.count as usize));
    check_sections(config, counts)?;
    let encodings = config.encoded(Way::Up).zip(config.payloads(Way::Up));
    for ((spec, encoding), octets) in encodings {
        if let Some(section) = message.section(spec.name) {
            check_encoding(config, &section.header, (encoding, octets))?;
        }
    }
    let decode = |section: &fl_proto::message::Section<'_>| {
        let mut numbers = section.numbers().map_err(|error| bad(error.to_string()))?;
        if section.header.codec.encodes() != Encodes::Parameters {
            add_base(shared, results.round, &mut numbers)?;
        }
        Ok((section.header.name.to_string(), numbers))
    };
    let sections: Result<_, Unusable> = message.sections.iter().map(decode).collect();
    Ok((results, sections?))
}

fn of_json(body: &[u8], config: &Config) -> Result<(Results, Sections), Unusable> {
    let results = results_of(body)?;
    let sections = json_form::decode(body).ok_or_else(|| bad(NOT_BASE64.into()))?;
    let counts = sections
        .iter()
        .map(|(name, numbers)| (name.as_str(), numbers.len()));
    check_sections(config, counts)?;
    Ok((results, sections.into_iter().collect()))
}

fn bad(why: String) -> Unusable {
    Unusable::Malformed(Refusal(StatusCode::BAD_REQUEST, why))
}

/// Reason why a body is no update.
enum Unusable {
    /// It is not as the wire has it.
    Malformed(Refusal),
    /// Its loss is no number any more.
    Diverged(Diverged),
}

fn results_of(control: &[u8]) -> Result<Results, Unusable> {
    if let Some(results) = json::decode(control) {
        return Ok(results);
    }
    match json::decode::<Diverged>(control) {
        Some(found) if found.is_so() => Err(Unusable::Diverged(found)),
        _ => Err(bad("malformed control message".into())),
    }
}
