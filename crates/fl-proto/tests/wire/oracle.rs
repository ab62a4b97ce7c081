//! Properties of any bytes at all: the device's readers against other ways to read the same.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fl_proto::codec::{self, Decoder, F32, Plan};
use fl_proto::message::{
    HEAD_LEN, Head, Kind, Message, MessageError, Receiver, SECTION_HEADER_LEN, SectionHeader, Sink,
};
use fl_proto::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Times that each reader took what it was given: shows that a run reached behind the first check.
#[derive(Debug, Default)]
pub struct Taken {
    pub heads: u64,
    pub headers: u64,
    pub octets: u64,
    pub messages: u64,
    pub json: u64,
}

/// Gives `bytes` to every reader.
pub fn check(bytes: &[u8], taken: &mut Taken) {
    taken.heads += u64::from(check_head(bytes));
    taken.headers += u64::from(check_section_header(bytes));
    taken.octets += u64::from(check_octets(bytes));
    taken.messages += u64::from(check_message::<Welcome>(bytes))
        + u64::from(check_message::<Start>(bytes))
        + u64::from(check_message::<Ready>(bytes))
        + u64::from(check_message::<Results>(bytes))
        + u64::from(check_message::<Evaluated>(bytes))
        + u64::from(check_message::<KeptState>(bytes))
        + u64::from(check_message::<ErrorReply>(bytes));
    taken.json += u64::from(check_json_form(bytes));
    check_chunks(bytes, 1 + bytes.len() % 13);
}

/// A head is taken only if it is within bounds and comes out again as it went in.
fn check_head(bytes: &[u8]) -> bool {
    let Some(head) = bytes.first_chunk::<HEAD_LEN>() else {
        return false;
    };
    let Ok(parsed) = Head::parse(head) else {
        return false;
    };
    assert_eq!(parsed.emit(), *head);
    assert!((1..=MAX_CONTROL_BYTES).contains(&parsed.control_len.into()));
    assert!(usize::from(parsed.sections) <= message::MAX_SECTIONS);
    true
}

/// A section's header is taken only if it is within bounds and comes out again as it went in. Where a
/// message has its first is where one is looked for.
fn check_section_header(bytes: &[u8]) -> bool {
    let at = bytes.get(8..10).map_or(0, |len| {
        HEAD_LEN + usize::from(u16::from_le_bytes([len[0], len[1]]))
    });
    let header = bytes.get(at..).and_then(|rest| rest.first_chunk());
    let Some(header) = header.or(bytes.first_chunk::<SECTION_HEADER_LEN>()) else {
        return false;
    };
    let Ok(parsed) = SectionHeader::parse(header) else {
        return false;
    };
    assert_eq!(parsed.emit(), *header);
    assert!(parsed.count <= MAX_PARAMS);
    let lengths = parsed.codec.lengths(parsed.count);
    assert!(lengths.contains(&parsed.octets.into()));
    true
}

/// A message is taken only if its checksums fit, and alike in one piece and in many.
fn check_octets(bytes: &[u8]) -> bool {
    let streamed = stream_message(bytes, 7);
    let Ok(message) = Message::parse(bytes) else {
        assert_eq!(streamed, None, "only the streaming reader took the message");
        return false;
    };
    let control_end = HEAD_LEN + message.control.len();
    let crc = crc32(&[&bytes[..12], &bytes[HEAD_LEN..control_end]].concat());
    assert_eq!(crc.to_le_bytes(), bytes[12..16]);
    let mut at = control_end;
    let mut sections = BTreeMap::new();
    for section in &message.sections {
        let end = at + SECTION_HEADER_LEN + section.header.octets as usize;
        let payload = &bytes[at + SECTION_HEADER_LEN..end];
        let crc = crc32(&[&bytes[at..at + 28], payload].concat());
        assert_eq!(crc.to_le_bytes(), bytes[at + 28..at + 32]);
        if section.header.count > MOST_NUMBERS {
            assert_eq!(streamed, None, "{}", section.header.count);
            return false;
        }
        let Ok(numbers) = section.numbers() else {
            assert_eq!(streamed, None, "only the streaming reader took a payload");
            return false;
        };
        sections.insert(section.header.name.to_string(), bits(&numbers));
        at = end;
    }
    assert_eq!(at, bytes.len());
    let streamed = streamed.expect("only the whole reader took the message");
    assert_eq!(streamed, (message.control.to_vec(), sections));
    true
}

pub fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// Most numbers of a section that a test makes room for: a few octets of `topk` may stand for millions.
const MOST_NUMBERS: u32 = 1 << 20;

/// The control message and the sections that came, as bits.
type Streamed = (Vec<u8>, BTreeMap<String, Vec<u32>>);

/// Takes every section in.
#[derive(Default)]
struct Keep {
    streamed: Streamed,
    at_hand: Vec<f32>,
}

impl Sink for Keep {
    type Refusal = MessageError;

    fn control(&mut self, control: &[u8], _sections: u8) -> Result<(), MessageError> {
        self.streamed.0 = control.to_vec();
        Ok(())
    }

    fn buffer(&mut self, header: &SectionHeader) -> Result<&mut [f32], MessageError> {
        if self.streamed.1.contains_key(header.name.as_str()) {
            return Err(MessageError::Twice(header.name.clone()));
        }
        if header.count > MOST_NUMBERS {
            return Err(MessageError::TooManyNumbers(header.count));
        }
        self.at_hand.resize(header.count as usize, 0.0);
        Ok(&mut self.at_hand)
    }

    fn complete(&mut self, header: &SectionHeader) -> Result<(), MessageError> {
        let name = header.name.to_string();
        self.streamed.1.insert(name, bits(&self.at_hand));
        self.at_hand.clear();
        Ok(())
    }
}

/// Reads a message as a device does: piece by piece, never all of it in memory.
pub fn stream_message(bytes: &[u8], piece: usize) -> Option<Streamed> {
    // Either kind is taken; the second byte behind the version says which it is.
    let kind = match bytes.get(5) {
        Some(1) => Kind::Results,
        _ => Kind::Start,
    };
    let mut receiver = Receiver::new(kind, bytes.len() as u64);
    let mut keep = Keep::default();
    for piece in bytes.chunks(piece) {
        receiver.push(piece, &mut keep).ok()?;
    }
    receiver.finish().ok()?;
    Some(keep.streamed)
}

/// Both JSON libraries read the same message, or differ for a documented reason.
///
/// The device's reader is looser: it does not look into fields that it skips, and takes some numbers
/// that are not JSON. It is stricter in three things, each harmless to refuse: escapes stay as they
/// are, skipped strings must be UTF-8, and brackets are bounded. The host also takes an array for an
/// object.
fn check_message<T>(bytes: &[u8]) -> bool
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let device = json::decode::<T>(bytes);
    let host = serde_json::from_slice::<T>(bytes).ok();
    if let Some(message) = &device {
        check_round_trip(message);
    }
    if !has_escapes(bytes) {
        match (&device, &host) {
            (Some(device), Some(host)) => assert_eq!(device, host, "read differently"),
            (None, Some(host)) => {
                assert!(is_beyond_the_device(bytes), "only the host took {host:?}")
            }
            _ => {}
        }
    }
    device.is_some()
}

fn has_escapes(bytes: &[u8]) -> bool {
    bytes.contains(&b'\\')
}

fn is_beyond_the_device(bytes: &[u8]) -> bool {
    let brackets = bytes.iter().filter(|byte| b"[{".contains(byte)).count();
    let object = bytes.trim_ascii_start().starts_with(b"{");
    // An enum's or an object's value given as an array is one more thing that only the host takes.
    let arrays = bytes.iter().filter(|byte| **byte == b'[').count();
    brackets > json::MAX_BRACKETS || !object || arrays > 0 || str::from_utf8(bytes).is_err()
}

/// Checks that both libraries read back the output of either. They write the same but for an exponent's
/// plus sign
/// and the case of digits in escapes.
pub fn check_round_trip<T>(message: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let mut buffer = [0; MAX_CONTROL_BYTES];
    let n = json::encode(message, &mut buffer).expect("a bounded message fits");
    let device = &buffer[..n];
    let host = serde_json::to_vec(message).unwrap();
    for written in [device, &host] {
        assert_eq!(&serde_json::from_slice::<T>(written).unwrap(), message);
        if !has_escapes(written) {
            assert_eq!(json::decode::<T>(written).as_ref(), Some(message));
        }
    }
}

/// Sections are what another reader of JSON and of base64 finds.
fn check_json_form(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Body {
        sections: BTreeMap<String, String>,
    }
    let taken = json_form::decode(bytes);
    let Ok(oracle) = serde_json::from_slice::<Body>(bytes) else {
        return taken.is_some();
    };
    let Some(taken) = taken else {
        return false;
    };
    if !has_escapes(bytes) {
        for (name, numbers) in &taken {
            let octets: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            assert_eq!(STANDARD.decode(&oracle.sections[name]), Ok(octets));
        }
        assert_eq!(taken.len(), oracle.sections.len());
    }
    true
}

/// Numbers come out alike whatever the pieces are, of every codec.
pub fn check_chunks(bytes: &[u8], piece: usize) {
    for codec in codec::ALL {
        if codec.encodes() != codec::Encodes::Parameters {
            check_packed_chunks(*codec, bytes, piece);
            continue;
        }
        let unit = codec.octets(&Plan::default(), 1) as usize;
        let count = bytes.len() / unit;
        let mut whole = vec![0.0; count];
        let mut decoder = Decoder::new(*codec);
        assert!(decoder.push(bytes, &mut whole));
        let mut numbers = vec![0.0; count];
        let mut decoder = Decoder::new(*codec);
        for piece in bytes.chunks(piece) {
            assert!(decoder.push(piece, &mut numbers));
        }
        assert_eq!(decoder.decoded(), count);
        assert_eq!(decoder.is_complete(count), bytes.len().is_multiple_of(unit));
        assert_eq!(bits(&numbers), bits(&whole));
        if let Some(less) = count.checked_sub(1) {
            let mut decoder = Decoder::new(*codec);
            let fits = bytes
                .chunks(piece)
                .all(|piece| decoder.push(piece, &mut numbers[..less]));
            assert!(!fits, "took {count} numbers into room for {less}");
        }
        if *codec == &F32 as &dyn codec::Codec {
            for (number, word) in whole.iter().zip(bytes.chunks(4)) {
                assert_eq!(number.to_le_bytes(), *word);
            }
        }
    }
}

/// The same of a codec whose numbers are no whole octets: any count may be meant.
fn check_packed_chunks(codec: &'static dyn codec::Codec, bytes: &[u8], piece: usize) {
    let words = bytes
        .first_chunk()
        .map_or(0, |word| u32::from_le_bytes(*word));
    for count in [
        1,
        7,
        256,
        words as usize & 0xff_ffff & bytes.len().next_power_of_two(),
    ] {
        let read = |piece: usize| {
            let (mut numbers, mut decoder) = (vec![0.0; count], Decoder::new(codec));
            let taken = bytes
                .chunks(piece)
                .all(|piece| decoder.push(piece, &mut numbers));
            let whole = taken && decoder.is_complete(count);
            assert!(decoder.decoded() <= count);
            (taken, whole, bits(&numbers))
        };
        assert_eq!(read(piece), read(bytes.len().max(1)), "{codec:?} {count}");
    }
}

/// CRC-32/ISO-HDLC a bit at a time, from its definition.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
