//! What must hold for any bytes at all: the device's readers against other ways to read the same.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fl_proto::frame::{Frame, HEADER_LEN, Header, Kind};
use fl_proto::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// How often each reader took what it was given: shows that a run reached behind the first check.
#[derive(Debug, Default)]
pub struct Taken {
    pub headers: u64,
    pub frames: u64,
    pub messages: u64,
    pub weights: u64,
}

/// Gives `bytes` to every reader.
pub fn check(bytes: &[u8], taken: &mut Taken) {
    taken.headers += u64::from(check_header(bytes));
    taken.frames += u64::from(check_frame(bytes));
    taken.messages += u64::from(check_message::<Welcome>(bytes))
        + u64::from(check_message::<Start>(bytes))
        + u64::from(check_message::<Ready>(bytes))
        + u64::from(check_message::<Results>(bytes))
        + u64::from(check_message::<ErrorReply>(bytes));
    for count in [0, 1, 2, 3, 5, 257] {
        taken.weights += u64::from(check_weights(bytes, count));
    }
    check_chunks(bytes, 1 + bytes.len() % 13);
}

/// A header is taken only if it is within bounds and comes out again as it went in.
fn check_header(bytes: &[u8]) -> bool {
    let Some(head) = bytes.first_chunk::<HEADER_LEN>() else {
        return false;
    };
    let Ok(header) = Header::parse(head) else {
        return false;
    };
    assert_eq!(header.emit(), *head);
    assert!(usize::from(header.control_len) <= MAX_CONTROL_BYTES && header.count <= MAX_PARAMS);
    assert!(matches!(header.kind, Kind::Weights | Kind::Delta));
    true
}

/// A frame is taken only if length and checksum fit, and alike in one piece and in many.
fn check_frame(bytes: &[u8]) -> bool {
    let streamed = stream_frame(bytes, 7);
    let Ok(frame) = Frame::parse(bytes) else {
        assert_eq!(streamed, None, "only the streaming reader took the frame");
        return false;
    };
    let params: Vec<f32> = frame.params().collect();
    assert_eq!(
        bytes.len(),
        HEADER_LEN + frame.control.len() + 4 * params.len()
    );
    assert_eq!(
        crc32(&[&bytes[..20], &bytes[HEADER_LEN..]].concat()),
        frame.header.crc
    );
    let bits = |params: &[f32]| params.iter().map(|p| p.to_bits()).collect::<Vec<_>>();
    let (control, streamed) = streamed.expect("only the whole reader took the frame");
    assert_eq!(
        (&control[..], bits(&streamed)),
        (frame.control, bits(&params))
    );
    true
}

/// Reads a frame as a device does: piece by piece, never all of it in memory.
pub fn stream_frame(bytes: &[u8], piece: usize) -> Option<(Vec<u8>, Vec<f32>)> {
    let (head, rest) = bytes.split_first_chunk()?;
    let header = Header::parse(head).ok()?;
    if header.body_len() != bytes.len() as u64 {
        return None;
    }
    let (control, tail) = rest.split_at(header.control_len.into());
    let mut params = vec![0.0; header.count as usize];
    let (mut checksum, mut decoder) = (header.checksum(), ParamDecoder::new());
    checksum.update(control);
    for piece in tail.chunks(piece) {
        checksum.update(piece);
        assert!(decoder.push(piece, &mut params), "the length was checked");
    }
    let whole = decoder.is_complete(params.len()) && checksum.finish() == header.crc;
    whole.then(|| (control.to_vec(), params))
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

/// What either library writes, both read back. They write the same but for an exponent's plus sign
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

/// Weights are what another reader of JSON and of base64 finds.
fn check_weights(bytes: &[u8], count: usize) -> bool {
    #[derive(Deserialize)]
    struct Weights<'a> {
        weights: &'a str,
    }
    let mut params = vec![0.0; count];
    let taken = compat::decode_weights(bytes, &mut params);
    let Ok(oracle) = serde_json::from_slice::<Weights<'_>>(bytes) else {
        return taken;
    };
    let expected = STANDARD
        .decode(oracle.weights)
        .ok()
        .filter(|raw| raw.len() == 4 * count);
    match (taken, expected) {
        (true, expected) => {
            let found: Vec<u8> = params.iter().flat_map(|p| p.to_le_bytes()).collect();
            assert_eq!(Some(found), expected);
        }
        (false, Some(_)) => {
            assert!(
                is_beyond_the_device(bytes) || has_escapes(bytes),
                "weights refused"
            );
        }
        (false, None) => {}
    }
    taken
}

/// Parameters come out alike whatever the pieces are.
pub fn check_chunks(bytes: &[u8], piece: usize) {
    let count = bytes.len() / 4;
    let mut params = vec![0.0; count];
    let mut decoder = ParamDecoder::new();
    for piece in bytes.chunks(piece) {
        assert!(decoder.push(piece, &mut params));
    }
    assert_eq!(decoder.decoded(), count);
    assert_eq!(decoder.is_complete(count), bytes.len().is_multiple_of(4));
    for (param, word) in params.iter().zip(bytes.chunks(4)) {
        assert_eq!(param.to_le_bytes(), *word);
    }
    if let Some(less) = count.checked_sub(1) {
        let mut decoder = ParamDecoder::new();
        let fits = bytes
            .chunks(piece)
            .all(|piece| decoder.push(piece, &mut params[..less]));
        assert!(!fits, "took {count} parameters into room for {less}");
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
