//! Clients and their states, indexed so that no event has to look at all of them.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

/// State of a client, as far as the aggregator knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientState {
    /// Never heard of.
    #[default]
    Absent,
    /// Joined, fetching its data.
    Joined,
    /// Has its data; to be asked whether it is ready.
    Fetched,
    /// Waits for a round.
    Ready,
    /// Is in a cohort.
    Busy,
    /// Did not do what it was asked; counts again once it answers `/ready`.
    Suspect,
    /// Gone, until it joins again.
    Lost,
}

/// Number of states.
const STATES: usize = 7;

#[derive(Clone, Copy, Debug, Default)]
struct Client {
    state: ClientState,
    /// Cannot be reached in this round, on purpose.
    away: bool,
    /// Start of the time in which it was asked in vain.
    silent_since_us: Option<u64>,
}

impl Client {
    /// May be chosen.
    fn is_available(&self) -> bool {
        self.state == ClientState::Ready && !self.away
    }

    /// Is not waited for before a round.
    fn is_out(&self) -> bool {
        self.away
            || matches!(
                self.state,
                ClientState::Lost | ClientState::Suspect | ClientState::Busy
            )
    }
}

/// All clients.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    each: Vec<Client>,
    by_state: [BTreeSet<u32>; STATES],
    away: BTreeSet<u32>,
    available: u32,
    out: u32,
}

impl Clients {
    /// Clients of whom nothing is known.
    pub fn new(clients: u32) -> Self {
        let mut by_state = [const { BTreeSet::new() }; STATES];
        by_state[ClientState::Absent as usize] = (0..clients).collect();
        Self {
            each: vec![Client::default(); clients as usize],
            by_state,
            away: BTreeSet::new(),
            available: 0,
            out: 0,
        }
    }

    /// State of a client; `None` if there is no such client.
    pub fn state(&self, id: u32) -> Option<ClientState> {
        Some(self.each.get(id as usize)?.state)
    }

    /// Clients of a state, in order.
    pub fn in_state(&self, state: ClientState) -> &BTreeSet<u32> {
        &self.by_state[state as usize]
    }

    /// Number of clients that may be chosen.
    pub fn available(&self) -> u32 {
        self.available
    }

    /// Number of clients that are not waited for.
    pub fn out(&self) -> u32 {
        self.out
    }

    /// Number of clients that are away on purpose.
    pub fn num_away(&self) -> u32 {
        self.away.len() as u32
    }

    /// True if a client may be chosen.
    pub fn is_available(&self, id: u32) -> bool {
        self.each.get(id as usize).is_some_and(Client::is_available)
    }

    /// True if a client is away on purpose.
    pub fn is_away(&self, id: u32) -> bool {
        self.away.contains(&id)
    }

    /// Puts a client into a state; returns false if it was in it or does not exist.
    pub fn set(&mut self, id: u32, state: ClientState) -> bool {
        let Some(old) = self.state(id).filter(|old| *old != state) else {
            return false;
        };
        self.change(id, |client| client.state = state);
        self.by_state[old as usize].remove(&id);
        self.by_state[state as usize].insert(id);
        true
    }

    /// Puts a client into a state if it is in one of some others.
    pub fn set_if(&mut self, id: u32, from: &[ClientState], to: ClientState) -> bool {
        self.state(id).is_some_and(|state| from.contains(&state)) && self.set(id, to)
    }

    /// Says who cannot be reached in this round. Silence before and in it says nothing.
    pub fn set_away(&mut self, away: BTreeSet<u32>) {
        let before = core::mem::take(&mut self.away);
        for &id in before.iter().chain(&away) {
            self.change(id, |client| {
                client.silent_since_us = None;
                client.away = away.contains(&id);
            });
        }
        self.away = away;
    }

    /// Notes that a client is there.
    pub fn heard(&mut self, id: u32) {
        if let Some(client) = self.each.get_mut(id as usize) {
            client.silent_since_us = None;
        }
    }

    /// Notes that a client was asked in vain.
    pub fn unheard(&mut self, id: u32, now_us: u64) {
        if let Some(client) = self.each.get_mut(id as usize)
            && !client.away
        {
            client.silent_since_us.get_or_insert(now_us);
        }
    }

    /// Duration of a client's silence, if it is silent.
    pub fn silence_us(&self, id: u32, now_us: u64) -> Option<u64> {
        let since = self.each.get(id as usize)?.silent_since_us?;
        Some(now_us.saturating_sub(since))
    }

    fn change(&mut self, id: u32, change: impl FnOnce(&mut Client)) {
        let Some(client) = self.each.get_mut(id as usize) else {
            return;
        };
        self.available -= u32::from(client.is_available());
        self.out -= u32::from(client.is_out());
        change(client);
        self.available += u32::from(client.is_available());
        self.out += u32::from(client.is_out());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_a_look_at_everyone() {
        let mut clients = Clients::new(4);
        for (id, state) in [
            (0, ClientState::Ready),
            (1, ClientState::Ready),
            (2, ClientState::Suspect),
            (3, ClientState::Joined),
        ] {
            clients.set(id, state);
        }
        assert_eq!((clients.available(), clients.out()), (2, 1));
        clients.set_away(BTreeSet::from([1, 2, 9]));
        assert_eq!((clients.available(), clients.out()), (1, 2));
        clients.set(1, ClientState::Busy);
        clients.set_away(BTreeSet::from([3]));
        assert_eq!((clients.available(), clients.out()), (1, 3));
        assert!(clients.in_state(ClientState::Absent).is_empty());
    }

    #[test]
    fn who_is_away_is_not_silent() {
        let mut clients = Clients::new(1);
        clients.unheard(0, 5);
        clients.unheard(0, 7);
        assert_eq!(clients.silence_us(0, 9), Some(4));
        clients.set_away(BTreeSet::from([0]));
        clients.unheard(0, 9);
        assert_eq!(clients.silence_us(0, 9), None);
    }
}
