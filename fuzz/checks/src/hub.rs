//! Messages between a hub and a node: what is read is written back the same, and no length is trusted.

use crate::Verdict;
use zfl_runner::launch::{FromNode, FromRoot, WireError, receive, send};

/// Octets that a message and what is behind it may have.
const MOST: u64 = 1 << 20;

pub(crate) fn check(input: &[u8]) -> Verdict {
    let of_node = read::<FromNode>(input);
    match read::<FromRoot>(input) {
        Verdict::Accepted => Verdict::Accepted,
        Verdict::Refused => of_node,
    }
}

/// Reads messages one behind the other, as many as there are.
fn read<T: serde::Serialize + serde::de::DeserializeOwned>(input: &[u8]) -> Verdict {
    let mut line = input;
    let mut verdict = Verdict::Refused;
    loop {
        let before = line;
        let (message, octets) = match receive::<T>(&mut line, MOST, MOST) {
            Ok(read) => read,
            // Where the line ends between two messages, all were read.
            Err(WireError::Ended(_)) if before.is_empty() => return verdict,
            Err(_) => return Verdict::Refused,
        };
        assert!(octets.len() <= before.len() - line.len());
        let mut again = Vec::new();
        send(&mut again, &message, &octets).expect("a vector takes all");
        let mut again = &again[..];
        let (same, same_octets): (T, _) = receive(&mut again, MOST, MOST).expect("it was sent");
        let form = |message: &T| serde_json::to_value(message).expect("it is JSON");
        assert_eq!(form(&same), form(&message));
        assert_eq!((same_octets, again.len()), (octets, 0));
        verdict = Verdict::Accepted;
    }
}

/// Seeds: what a node and its root say, whole and damaged.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let line = |messages: &[(&str, &[u8])]| {
        let mut line = Vec::new();
        for (control, octets) in messages {
            line.extend((control.len() as u32).to_le_bytes());
            line.extend((octets.len() as u64).to_le_bytes());
            line.extend(control.bytes().chain(octets.iter().copied()));
        }
        line
    };
    let hello = r#"{"hello":{"token":"correct-horse-battery","rank":1,"world":3,"version":"0.1.0","host":"n1"}}"#;
    let ended = r#"{"ended":{"boot_s":1.5,"deaths":[{"client":4,"reason":"panic","last_lines":["E: x"]}],"error":null}}"#;
    let node = line(&[
        (hello, b""),
        (r#"{"ready":{"network":"switch","cores":2}}"#, b""),
        (r#"{"file":{"name":"serial/4.log"}}"#, b"zfl: joined\n"),
        (ended, b""),
    ]);
    let part = r#"{"part":{"files":{"config.toml":"clients = 2"},"inputs":{},"cluster":{"start":0,"end":2},"num_inputs":2,"num_classes":2,"num_train":9,"sizes":[1,1],"oversubscribe":false,"secret":"correct-horse-battery"}}"#;
    let root = line(&[
        (part, &[0, 1, 7, 8, 9, 10]),
        (
            r#"{"go":{"port":8080,"run_dir":"runs/a","mark":"launchx","gone":[]}}"#,
            b"",
        ),
        (
            r#"{"refused":{"reason":"node 1 is here already","again":true}}"#,
            b"",
        ),
    ]);
    let mut endless = node.clone();
    endless[4..12].fill(0xff);
    let mut odd = node.clone();
    odd[14] = b'?';
    vec![
        ("torn", node[..node.len() - 1].to_vec()),
        ("hostile-length", endless),
        ("hostile-name", odd),
        ("valid-node", node),
        ("valid-root", root),
    ]
}
