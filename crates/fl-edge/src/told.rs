//! Word of a cluster to the aggregator above: the control message of its sums, and who is there.
//!
//! Written by hand: these are lists of any length, and a reader of the host takes them.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;

use fl_proto::{ErrorReply, MAX_CONTROL_BYTES, Results, Token, json};

/// Bytes from and to each client.
pub(crate) type Bytes = BTreeMap<u32, (u64, u64)>;

/// The parts of a control message.
pub(crate) struct Told<'a> {
    pub round: u32,
    pub token: &'a Token,
    pub weight: u128,
    /// Updates that count, as [`counted`] wrote each.
    pub counted: &'a BTreeMap<u32, Vec<u8>>,
    pub failed: &'a BTreeMap<u32, String>,
    /// Devices that are there, as [`cluster`] wrote it.
    pub cluster: &'a str,
    pub bytes: &'a Bytes,
}

/// An update that counts; `None` if it is longer than a control message may be.
pub(crate) fn counted(client: u32, round_ms: u64, results: &Results) -> Option<Vec<u8>> {
    let mut octets = [0; MAX_CONTROL_BYTES];
    // The token is the edge's affair.
    let token = Token::try_from("edge").ok()?;
    let results = Results {
        token,
        ..results.clone()
    };
    let length = json::encode(&results, &mut octets)?;
    let head = alloc::format!("{{\"client\":{client},\"round_ms\":{round_ms},\"results\":");
    Some([head.as_bytes(), &octets[..length], b"}"].concat())
}

impl Told<'_> {
    /// The control message.
    pub fn text(&self) -> Vec<u8> {
        let Self {
            round,
            token,
            weight,
            ..
        } = self;
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            "{{\"round\":{round},\"token\":\"{token}\",\"weight\":\"{weight}\",\"counted\":["
        );
        let mut octets = text.into_bytes();
        for (at, one) in self.counted.values().enumerate() {
            octets.extend_from_slice(if at == 0 { b"" } else { b"," });
            octets.extend_from_slice(one);
        }
        let mut rest = String::from("],\"failed\":");
        reasons(&mut rest, self.failed);
        let _ = write!(rest, ",\"cluster\":{},\"bytes\":{{", self.cluster);
        for (at, (client, (up, down))) in self.bytes.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(rest, "{comma}\"{client}\":[{up},{down}]");
        }
        rest.push_str("}}");
        octets.extend_from_slice(rest.as_bytes());
        octets
    }
}

/// Tells who is there of a cluster: a letter for each, and why some are lost.
pub(crate) fn cluster(states: &str, lost: &BTreeMap<u32, String>) -> String {
    let mut text = alloc::format!("{{\"states\":\"{states}\"");
    if !lost.is_empty() {
        text.push_str(",\"lost\":");
        reasons(&mut text, lost);
    }
    text.push('}');
    text
}

fn reasons(text: &mut String, reasons: &BTreeMap<u32, String>) {
    text.push('{');
    for (at, (client, why)) in reasons.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(text, "{comma}\"{client}\":\"{}\"", plain(why));
    }
    text.push('}');
}

/// A reason without what JSON would have to escape, of bounded length.
pub(crate) fn plain(why: &str) -> String {
    ErrorReply::new(why).error.as_str().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fl_proto::cluster::{ClusterReport, PartialResults};

    #[test]
    fn what_is_told_is_what_a_host_reads() {
        let results: Results = json::decode(
            br#"{"round":3,"token":"t","num_examples":60,"steps":6,"loss":0.25,"metrics":{"a":1.5},
                "cost":{"train_us":7,"instructions":9,"bytes_received":1,"bytes_sent":2}}"#,
        )
        .unwrap();
        let counted = |client| (client, counted(client, 250, &results).unwrap());
        let failed = [(6, "it said \"no\"\n\\".to_string())].into();
        let told = Told {
            round: 3,
            token: &Token::try_from("abc").unwrap(),
            weight: 1 << 70,
            counted: &[counted(4), counted(5)].into(),
            failed: &failed,
            cluster: &cluster("rrl", &failed),
            bytes: &[(4, (1, 2)), (5, (3, 4))].into(),
        };
        let read: PartialResults = serde_json::from_slice(&told.text()).unwrap();
        assert_eq!(read.counted.len(), 2);
        assert_eq!(read.counted[1].client, 5);
        assert_eq!(read.counted[1].results.metrics, results.metrics);
        assert_eq!(read.counted[1].results.cost, results.cost);
        assert_eq!(read.weight, (1_u128 << 70).to_string());
        assert_eq!(read.failed[&6], "it said 'no'''");
        assert_eq!(read.bytes[&5], (3, 4));
        let report: ClusterReport = serde_json::from_str(&cluster("ra", &BTreeMap::new())).unwrap();
        assert_eq!((report.states.as_str(), report.lost.len()), ("ra", 0));
    }
}
