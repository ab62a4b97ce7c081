//! Messages between the root's hub and a node, over one connection: [docs/wire-format.md](../../../../docs/wire-format.md).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::PathBuf;
use zfl_run_dir::Death;

/// Octets before a message: the lengths of its two parts.
const LENGTHS: usize = 12;

/// Octets that are read into memory before more of a part is trusted to come.
const PIECE: u64 = 64 << 10;

/// Message of a node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromNode {
    /// The first one.
    Hello {
        /// Secret of the launch.
        token: String,
        /// Number of the node, from 0.
        rank: u32,
        /// Number of nodes.
        world: u32,
        /// Version of zfl.
        version: String,
        /// Name of the machine, for people.
        host: String,
    },
    /// The machine can carry its part of the fleet.
    Ready {
        /// Network of the devices, for people.
        network: String,
        /// Processors.
        cores: u32,
    },
    /// It cannot.
    Refused {
        /// The reason, for people.
        reason: String,
    },
    /// The octets that follow are the next of this file of the run directory.
    File {
        /// Folder and name.
        name: String,
    },
    /// The last one.
    Ended {
        /// Time to boot all devices, in seconds.
        boot_s: Option<f64>,
        /// Devices that died.
        deaths: Vec<Death>,
        /// Reason for an end before that of the run.
        error: Option<String>,
    },
}

/// Message of the root.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromRoot {
    /// The node is not wanted.
    Refused {
        /// The reason, for people.
        reason: String,
        /// True if another try may have another answer.
        again: bool,
    },
    /// The experiment; the examples of the cluster follow as `part` has them.
    Part {
        /// Files of the experiment by name, `config.toml` among them.
        files: BTreeMap<String, String>,
        /// SHA-256 of firmware, boards and links by name.
        inputs: BTreeMap<String, String>,
        /// Clients of the node.
        cluster: Range<u32>,
        /// Octets of an example.
        num_inputs: u32,
        /// Classes.
        num_classes: u32,
        /// Training examples of the whole data set.
        num_train: u32,
        /// Examples of each client of the cluster.
        sizes: Vec<u32>,
        /// Starts more devices than there is room for.
        oversubscribe: bool,
        /// Secret of the edge towards the root.
        secret: String,
    },
    /// All nodes are ready.
    Go {
        /// Port of the aggregator.
        port: u16,
        /// The run directory as the root sees it.
        run_dir: PathBuf,
        /// Name of a file in it by which a node knows that it sees the same one.
        mark: String,
        /// Clients that are lost.
        gone: Vec<u32>,
    },
}

/// Failure to read a message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection has ended, or did in the middle of a message.
    #[error("the connection ended: {0}")]
    Ended(#[from] io::Error),
    /// A part is longer than it may be.
    #[error("a message of {length} octets, at most {most} are taken")]
    Long {
        /// Octets that it was to have.
        length: u64,
        /// Octets that it may have.
        most: u64,
    },
    /// The control part is no message.
    #[error("malformed message: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Sends a message and the octets that belong to it.
///
/// # Errors
/// If the connection has ended.
pub fn send(to: &mut impl Write, message: &impl Serialize, octets: &[u8]) -> Result<(), WireError> {
    let control = serde_json::to_vec(message)?;
    let length = u32::try_from(control.len()).map_err(io::Error::other)?;
    let mut head = Vec::with_capacity(LENGTHS + control.len());
    head.extend(length.to_le_bytes());
    head.extend((octets.len() as u64).to_le_bytes());
    head.extend(control);
    to.write_all(&head)?;
    to.write_all(octets)?;
    Ok(to.flush()?)
}

/// Receives a message and its octets, of no more than so many octets each.
///
/// # Errors
/// [`WireError`] of what is no message or longer; nothing can be read after that.
pub fn receive<T: DeserializeOwned>(
    from: &mut impl Read,
    most_control: u64,
    most_octets: u64,
) -> Result<(T, Vec<u8>), WireError> {
    let mut control = [0; 4];
    let mut octets = [0; 8];
    from.read_exact(&mut control)?;
    from.read_exact(&mut octets)?;
    let control = u64::from(u32::from_le_bytes(control));
    let octets = u64::from_le_bytes(octets);
    let control = part(from, control, most_control)?;
    let octets = part(from, octets, most_octets)?;
    Ok((serde_json::from_slice(&control)?, octets))
}

/// Reads so many octets; memory is taken as they come.
fn part(from: &mut impl Read, length: u64, most: u64) -> Result<Vec<u8>, WireError> {
    if length > most {
        return Err(WireError::Long { length, most });
    }
    let mut read = Vec::with_capacity(usize::try_from(length.min(PIECE)).unwrap_or(0));
    let got = from.take(length).read_to_end(&mut read)?;
    match got as u64 == length {
        true => Ok(read),
        false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> FromNode {
        FromNode::Hello {
            token: "correct-horse-battery".to_owned(),
            rank: 1,
            world: 3,
            version: "0".to_owned(),
            host: "n1".to_owned(),
        }
    }

    #[test]
    fn messages_read_back_one_after_the_other() {
        let mut line = Vec::new();
        send(&mut line, &hello(), b"").unwrap();
        let file = FromNode::File {
            name: "serial/3.log".to_owned(),
        };
        send(&mut line, &file, b"octets").unwrap();
        let mut line = &line[..];
        let (first, none): (FromNode, _) = receive(&mut line, 4096, 0).unwrap();
        assert!(matches!(first, FromNode::Hello { rank: 1, .. }) && none.is_empty());
        let (second, octets): (FromNode, _) = receive(&mut line, 4096, 6).unwrap();
        assert!(matches!(second, FromNode::File { .. }) && octets == b"octets");
        let over = receive::<FromNode>(&mut line, 4096, 0).unwrap_err();
        assert!(matches!(over, WireError::Ended(_)), "{over}");
    }

    #[test]
    fn no_length_is_trusted() {
        let mut line = Vec::new();
        send(&mut line, &hello(), b"more than is taken").unwrap();
        let refused = receive::<FromNode>(&mut &line[..], 4096, 3).unwrap_err();
        assert!(matches!(
            refused,
            WireError::Long {
                length: 18,
                most: 3
            }
        ));
        let refused = receive::<FromNode>(&mut &[255; 12][..], u64::MAX, u64::MAX).unwrap_err();
        assert!(matches!(refused, WireError::Ended(_)), "{refused}");
        for cut in 0..line.len() {
            assert!(receive::<FromNode>(&mut &line[..cut], 4096, 4096).is_err());
        }
        line[14] = b'?';
        let refused = receive::<FromNode>(&mut &line[..], 4096, 4096).unwrap_err();
        assert!(matches!(refused, WireError::Malformed(_)), "{refused}");
    }
}
