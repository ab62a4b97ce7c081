//! Limits of a listener.

use std::time::Duration;

use crate::pace::Pace;

/// Limits of a listener's connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// From the connection to the end of the request's head.
    pub head: Duration,
    /// Pace of bodies.
    pub pace: Pace,
    /// Connections at once.
    pub places: usize,
    /// Connections at once of one owner.
    pub each: usize,
}

impl Limits {
    /// Least share of the places that stays for connections without an owner.
    const RESERVE: usize = 2;

    /// Limits for so many `owners`, of up to `each` places, and `others` beside them; fewer of both where
    /// the process may have no more than `most` connections.
    ///
    /// An owner has at least one place, and at least half of `most` stay for others.
    pub fn of(owners: usize, each: usize, others: usize, most: usize) -> Self {
        let wanted = owners.saturating_mul(each).saturating_add(others);
        let places = wanted.min(most).max(Self::RESERVE);
        let reserve = others.min(places / Self::RESERVE);
        let each = ((places - reserve) / owners.max(1)).clamp(1, each.max(1));
        Self {
            head: Duration::from_secs(30),
            pace: Pace::default(),
            places,
            each,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_files_are_few_there_are_fewer_places_and_strangers_keep_their_half() {
        let check = |owners, most, places, each| {
            let limits = Limits::of(owners, 4, 128, most);
            assert_eq!((limits.places, limits.each), (places, each));
        };
        check(50, usize::MAX, 328, 4);
        check(50, 300, 300, 3);
        check(50, 200, 200, 2);
        check(50, 10, 10, 1);
        check(0, 0, 2, 1);
    }
}
