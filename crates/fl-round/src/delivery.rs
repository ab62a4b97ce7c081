//! Taking an update in: for the round, client and token that it was asked of, once.

use alloc::string::String;
use core::fmt;

use crate::action::{Arrival, Note};
use crate::client::ClientState;
use crate::machine::Machine;
use crate::policy::Stragglers;
use crate::round::{Outcome, Taken};
use crate::selection::Measured;

/// An update that came, without its payload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delivery {
    /// The client that sent it.
    pub client: u32,
    /// The round that it says.
    pub round: u32,
    /// The token that it brings, if it is one at all.
    pub token: Option<u64>,
    /// A number by which the caller keeps the payload.
    pub update: u64,
    /// Measurements that came with it.
    pub measured: Measured,
}

/// Place of an update that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// It came after its round, which had no room for it any more.
    pub late: bool,
    /// It will be among the updates of a [`Closed`](crate::Closed) round that count.
    pub counts: bool,
    /// From choosing its cohort until now; unknown if it is late.
    pub round_us: Option<u64>,
}

/// Reason why an update was not taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its round has not begun.
    NotBegun {
        /// The round.
        round: u32,
    },
    /// Its round is over.
    RoundOver {
        /// The round.
        round: u32,
    },
    /// Its client was not chosen.
    NotInCohort {
        /// The client.
        client: u32,
        /// The round.
        round: u32,
    },
    /// Its token is another.
    WrongToken,
    /// It was taken in before.
    Twice {
        /// The round.
        round: u32,
    },
    /// Its client was given up.
    GivenUp {
        /// The round.
        round: u32,
        /// Reason, in words.
        why: String,
    },
    /// Its client is to fail in the round.
    WillFail {
        /// The round.
        round: u32,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBegun { round } => write!(f, "round {round} has not begun"),
            Self::RoundOver { round } => write!(f, "round {round} is over"),
            Self::NotInCohort { client, round } => {
                write!(f, "client {client} is not in the cohort of round {round}")
            }
            Self::WrongToken => write!(f, "the token is not that of this /start"),
            Self::Twice { round } => write!(f, "the update of round {round} is in already"),
            Self::GivenUp { round, why } => write!(f, "given up in round {round}: {why}"),
            Self::WillFail { round } => write!(f, "this device fails in round {round}"),
        }
    }
}

impl core::error::Error for Refused {}

impl Machine {
    /// Takes an update in.
    ///
    /// # Errors
    /// [`Refused`] if it does not count; at most the client is then known to be there.
    pub fn deliver(&mut self, now_us: u64, delivery: Delivery) -> Result<Placed, Refused> {
        self.observe(now_us);
        let placed = self.place(delivery);
        if let Ok(placed) = &placed {
            let update = delivery.update;
            if placed.counts {
                let token = delivery.token.unwrap_or_default();
                self.delivered
                    .insert(delivery.client, (delivery.round, token));
            }
            self.tell(Note::Received { update });
        }
        self.advance();
        placed
    }

    fn place(&mut self, delivery: Delivery) -> Result<Placed, Refused> {
        let round = delivery.round;
        if self.is_delivered(delivery) {
            // The answer was lost, and its client tries again: it is there, whatever the round.
            self.suspect_is_back(delivery.client);
            return Err(Refused::Twice { round });
        }
        let in_flight = self.in_flight.get(&delivery.client);
        if in_flight.is_some_and(|assignment| assignment.round == round) {
            return self.place_in_flight(delivery);
        }
        match &self.open {
            Some(open) if open.round == round => self.place_in_time(delivery),
            Some(open) if open.round < round => Err(Refused::NotBegun { round }),
            _ => self.place_late(delivery),
        }
    }

    fn place_in_time(&mut self, delivery: Delivery) -> Result<Placed, Refused> {
        let Delivery { client, round, .. } = delivery;
        let now_us = self.now_us;
        let over = Refused::RoundOver { round };
        let open = self.open.as_mut().ok_or(over)?;
        let assignment = open.assignments.get_mut(&client);
        let assignment = assignment.ok_or(Refused::NotInCohort { client, round })?;
        if Some(assignment.token) != delivery.token {
            return Err(Refused::WrongToken);
        }
        match &assignment.outcome {
            Some(Outcome::Received | Outcome::Late) => return Err(Refused::Twice { round }),
            Some(Outcome::Failed(why)) => {
                let why = why.clone();
                return Err(Refused::GivenUp { round, why });
            }
            None if assignment.will_fail => return Err(Refused::WillFail { round }),
            None => assignment.outcome = Some(Outcome::Received),
        }
        // Its answer to the `/start` may still be on the way; that it began is known.
        let news = !core::mem::replace(&mut assignment.started, true);
        let round_us = now_us.saturating_sub(assignment.chosen_us);
        let taken = taken(delivery, assignment.begins_us);
        open.missing -= 1;
        open.settle(client, now_us);
        open.updates.push(taken);
        if news {
            self.tell(Note::Started { client, round });
        }
        self.make_ready(client);
        Ok(Placed::in_time(round_us))
    }

    fn place_in_flight(&mut self, delivery: Delivery) -> Result<Placed, Refused> {
        let Delivery { client, round, .. } = delivery;
        let over = Refused::RoundOver { round };
        let assignment = self.in_flight.get(&client).ok_or(over)?;
        if Some(assignment.token) != delivery.token {
            return Err(Refused::WrongToken);
        }
        if assignment.will_fail {
            return Err(Refused::WillFail { round });
        }
        let round_us = self.now_us.saturating_sub(assignment.chosen_us);
        let taken = taken(delivery, assignment.begins_us);
        self.in_flight.remove(&client);
        match &mut self.open {
            Some(open) => open.updates.push(taken),
            None => self.early.push(taken),
        }
        self.make_ready(client);
        Ok(Placed::in_time(round_us))
    }

    fn place_late(&mut self, delivery: Delivery) -> Result<Placed, Refused> {
        let Delivery { client, round, .. } = delivery;
        let over = Refused::RoundOver { round };
        let previous = self.previous.as_mut();
        let assignment = previous.and_then(|one| one.assignment(client, round, delivery.token));
        let assignment = assignment.ok_or(over.clone())?;
        let counts = self.policy.stragglers == Stragglers::UseNext;
        let refused = match assignment.outcome {
            Some(Outcome::Received) => Some(Refused::Twice { round }),
            Some(Outcome::Late) => Some(over),
            _ if assignment.will_fail => Some(over),
            _ => None,
        };
        if refused.is_none() {
            assignment.outcome = Some(if counts {
                Outcome::Received
            } else {
                Outcome::Late
            });
        }
        // A client of this round has to deliver for this one.
        self.suspect_is_back(client);
        if let Some(refused) = refused {
            return Err(refused);
        }
        self.late.push(arrival(delivery));
        Ok(Placed {
            late: true,
            counts,
            round_us: None,
        })
    }

    /// True if an update is the last one of its client that was taken in.
    fn is_delivered(&self, delivery: Delivery) -> bool {
        let last = self.delivered.get(&delivery.client);
        last.is_some_and(|&(round, token)| round == delivery.round && Some(token) == delivery.token)
    }

    fn suspect_is_back(&mut self, client: u32) {
        self.clients
            .set_if(client, &[ClientState::Suspect], ClientState::Ready);
    }

    /// Notes that a client which has delivered waits for the next round.
    pub(crate) fn make_ready(&mut self, client: u32) {
        let from = [ClientState::Busy, ClientState::Suspect];
        self.clients.set_if(client, &from, ClientState::Ready);
    }
}

impl Placed {
    fn in_time(round_us: u64) -> Self {
        Self {
            late: false,
            counts: true,
            round_us: Some(round_us),
        }
    }
}

fn taken(delivery: Delivery, begins_us: u64) -> Taken {
    let took_us = delivery.measured.took_us.unwrap_or(0);
    Taken {
        arrival: arrival(delivery),
        done_us: begins_us.saturating_add(took_us),
        measured: delivery.measured,
    }
}

fn arrival(delivery: Delivery) -> Arrival {
    Arrival {
        client: delivery.client,
        round: delivery.round,
        update: delivery.update,
    }
}
