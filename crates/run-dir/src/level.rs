//! Levels of a tree of edges: the aggregators of each, and the bytes of their own connections.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::{RoundRecord, Traffic};

/// One level of aggregators in a round, or in all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelRecord {
    /// 0 is the root; its edges are 1, those below them 2.
    pub level: u32,
    /// Aggregators of the level.
    pub aggregators: u32,
    /// Edges that join them; on the lowest level devices.
    pub below: u32,
    /// Rounds that each of them runs for one of the root; of a whole run all of them.
    pub rounds: u32,
    /// HTTP bytes from whoever joins them.
    pub bytes_up: u64,
    /// HTTP bytes to whoever joins them.
    pub bytes_down: u64,
    /// Time in which all of them added updates up, in microseconds.
    #[serde(default)]
    pub add_us: u64,
    /// Memory of the sums of the one that held most, in octets.
    #[serde(default)]
    pub held_bytes: u64,
}

/// Shape of a tree of edges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Edges of each level, from those of the root down.
    pub edges: Vec<u32>,
    /// Devices.
    pub clients: u32,
    /// Rounds of the lowest edges for one of the root.
    pub rounds: u32,
}

impl Levels {
    /// Level of the aggregator that a device or an edge joins, by its ID.
    fn joined(&self, id: u32) -> u32 {
        let Some(mut edge) = id.checked_sub(self.clients) else {
            return self.edges.len() as u32;
        };
        let mut level = 0;
        for count in &self.edges {
            if edge < *count {
                break;
            }
            edge -= count;
            level += 1;
        }
        level
    }

    /// The levels of a round with these bytes; none without edges.
    pub fn of(&self, traffic: &[Traffic]) -> Vec<LevelRecord> {
        if self.edges.is_empty() {
            return Vec::new();
        }
        let lowest = self.edges.len();
        let mut levels: Vec<LevelRecord> = (0..=lowest)
            .map(|level| LevelRecord {
                level: level as u32,
                aggregators: level.checked_sub(1).map_or(1, |above| self.edges[above]),
                below: self.edges.get(level).copied().unwrap_or(self.clients),
                rounds: if level == lowest { self.rounds } else { 1 },
                ..LevelRecord::default()
            })
            .collect();
        for row in traffic {
            if let Some(level) = levels.get_mut(self.joined(row.client) as usize) {
                level.bytes_up = level.bytes_up.saturating_add(row.bytes_up);
                level.bytes_down = level.bytes_down.saturating_add(row.bytes_down);
            }
        }
        levels
    }

    /// Notes the work of an edge by its ID, or of the root, on its level.
    pub fn note_work(
        &self,
        levels: &mut [LevelRecord],
        of: Option<u32>,
        (add_us, held): (u64, u64),
    ) {
        let level = of.map_or(0, |id| self.joined(id) as usize + 1);
        if let Some(level) = levels.get_mut(level) {
            level.add_us = level.add_us.saturating_add(add_us);
            level.held_bytes = level.held_bytes.max(held);
        }
    }
}

impl LevelRecord {
    /// The levels of all of these rounds together.
    pub fn totals<'a>(rounds: impl IntoIterator<Item = &'a RoundRecord>) -> Vec<Self> {
        let mut totals = BTreeMap::<u32, Self>::new();
        for one in rounds.into_iter().flat_map(|round| &round.levels) {
            let Self { level, .. } = *one;
            let total = totals.entry(level).or_default();
            *total = Self {
                rounds: total.rounds.saturating_add(one.rounds),
                bytes_up: total.bytes_up.saturating_add(one.bytes_up),
                bytes_down: total.bytes_down.saturating_add(one.bytes_down),
                add_us: total.add_us.saturating_add(one.add_us),
                held_bytes: total.held_bytes.max(one.held_bytes),
                ..*one
            };
        }
        totals.into_values().collect()
    }

    /// Name of the level, for people.
    pub fn name(&self) -> String {
        match self.level {
            0 => "root".to_owned(),
            level => format!("level {level}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_of_the_level_that_is_joined() {
        let levels = Levels {
            edges: vec![2, 4],
            clients: 10,
            rounds: 3,
        };
        let row = |client: u32| Traffic {
            round: 1,
            client,
            bytes_up: 1 << client,
            bytes_down: 1,
        };
        let all: Vec<_> = (0..16).map(row).collect();
        let found = levels.of(&all);
        let shape = |one: &LevelRecord| [one.aggregators, one.below, one.rounds];
        let shapes: Vec<_> = found.iter().map(shape).collect();
        assert_eq!(shapes, [[1, 2, 1], [2, 4, 1], [4, 10, 3]]);
        let ups: Vec<_> = found.iter().map(|one| one.bytes_up).collect();
        assert_eq!(ups, [0b11 << 10, 0b1111 << 12, 0x3ff]);
        let mut found = found;
        for (of, work) in [
            (None, (1, 10)),
            (Some(11), (2, 20)),
            (Some(12), (3, 30)),
            (Some(15), (4, 25)),
            (Some(99), (5, 50)),
        ] {
            levels.note_work(&mut found, of, work);
        }
        let work: Vec<_> = found
            .iter()
            .map(|one| (one.add_us, one.held_bytes))
            .collect();
        assert_eq!(work, [(1, 10), (2, 20), (7, 30)]);
        let round = RoundRecord {
            levels: found,
            ..RoundRecord::default()
        };
        let totals = LevelRecord::totals([&round, &round]);
        assert_eq!((totals[2].rounds, totals[2].bytes_down), (6, 20));
        assert_eq!((totals[2].add_us, totals[2].held_bytes), (14, 30));
        assert!(Levels::default().of(&all).is_empty());
    }
}
