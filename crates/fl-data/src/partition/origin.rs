//! Whom the examples are from: as a source says it, or a file of indices.

use super::PartitionError;
use std::collections::BTreeMap;

/// Most of a file of indices, in bytes: some ten million of them.
pub const MAX_INDICES_BYTES: u64 = 64 << 20;

/// The training examples of each client, as the data have them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Natural {
    /// Names of the clients, if they have any.
    pub names: Vec<String>,
    /// `[clients]`: indices into the training set.
    pub parts: Vec<Vec<u32>>,
}

impl Natural {
    /// Reads a file of indices: a line for each client with the indices of its training examples, from 0, apart by
    /// blanks or commas. Lines that begin with `#` are remarks.
    ///
    /// # Errors
    /// Words for people, with the line.
    pub fn of_indices(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        for (at, line) in text.lines().enumerate() {
            if line.trim_start().starts_with('#') {
                continue;
            }
            let words = line.split(|c: char| c.is_whitespace() || c == ',');
            let index = |word: &str| {
                word.parse::<u32>()
                    .map_err(|_| format!("line {}: `{}` is no index", at + 1, word.escape_debug()))
            };
            let words = words.filter(|word| !word.is_empty());
            let part: Vec<u32> = words.map(index).collect::<Result<_, _>>()?;
            if part.is_empty() {
                return Err(format!(
                    "line {} is empty: give the indices of a client's examples, or take the line out",
                    at + 1
                ));
            }
            parts.push(part);
        }
        if parts.is_empty() {
            return Err("there is no client in it: give a line of indices for each".to_owned());
        }
        Ok(Self {
            names: Vec::new(),
            parts,
        })
    }

    /// The examples by the name of the one that they are from. Clients are in the order of their names, those that are
    /// numbers in the order of numbers.
    pub(crate) fn of_names(parts: BTreeMap<String, Vec<u32>>) -> Self {
        let mut named: Vec<_> = parts.into_iter().collect();
        named.sort_by_key(|(name, _)| name.parse::<u64>().unwrap_or(u64::MAX));
        let (names, parts) = named.into_iter().unzip();
        Self { names, parts }
    }

    /// Refuses an example that there is not, or that two clients have.
    pub(super) fn check(&self, num_examples: usize) -> Result<(), PartitionError> {
        let mut owners = vec![None; num_examples];
        for (client, part) in self.parts.iter().enumerate() {
            for &index in part {
                let problem = match owners.get_mut(index as usize) {
                    None => format!(
                        "client {client} has example {index}, and the training set has {num_examples}, from 0: \
                         give indices into these data"
                    ),
                    Some(Some(owner)) => format!(
                        "example {index} is client {owner}'s and client {client}'s: give it to one of them"
                    ),
                    Some(free) => {
                        *free = Some(client);
                        continue;
                    }
                };
                return Err(PartitionError::Refused(problem));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_in_the_order_of_their_names_or_numbers() {
        let parts = [("10", 0), ("9", 1), ("anna", 2), ("bert", 4)];
        let parts = parts.map(|(name, index)| (name.to_owned(), vec![index]));
        let natural = Natural::of_names(BTreeMap::from(parts));
        assert_eq!(natural.names, ["9", "10", "anna", "bert"]);
        assert_eq!(natural.parts, [[1], [0], [2], [4]]);
    }
}
