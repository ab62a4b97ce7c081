//! The state of a run behind its lock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fl_algo::Update;
use fl_proto::cluster::{Counted, EdgeWork};
use fl_round::{Action, ClientState, Delivery, Machine, Measured, Note, Pick, Placed, Refused};
use zfl_run_dir::{Chosen, ClientRecord, Event};

use crate::edges::EdgeOrder;
use crate::evaluation::Taken;
use crate::log::Log;
use crate::roster::{Roster, Standing};

/// The outcome of an update that came after its round.
const LATE: &str = "late";

/// Silence after which the place of a device that failed may be had by another one.
const SILENT_FOR: Duration = Duration::from_secs(60);

/// The state behind the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub machine: Machine,
    pub roster: Roster,
    /// Orders of this round to the edges, by their IDs.
    pub edges: BTreeMap<u32, EdgeOrder>,
    /// IDs of edges that are lost: what they sent before counts no more, until they join anew.
    pub lost_edges: BTreeSet<u32>,
    /// Work of edges for the sums of this round, by their IDs.
    pub work: BTreeMap<u32, EdgeWork>,
    /// Sums of edges whose updates the machine took in and has not given back.
    pub sums: Vec<(Update, Vec<Counted>)>,
    /// Updates that the machine took in and has not given back, by their numbers.
    pub inbox: BTreeMap<u64, Received>,
    /// Evaluations of this round, likewise.
    pub evaluations: BTreeMap<u64, Taken>,
    updates: u64,
    /// Bytes up and down of each client when it was last chosen.
    pub chosen: BTreeMap<u32, (u64, u64)>,
    /// The last choice of each client, and the round that it was for.
    choices: BTreeMap<u32, (u32, Chosen)>,
    /// Cohorts follow from earlier rounds.
    remembers: bool,
    /// Clients that are gone and not on their way back, and why.
    pub gone: BTreeMap<u32, String>,
    pub rejected: u32,
}

/// An update that was taken in.
#[derive(Debug)]
pub(crate) struct Received {
    pub record: ClientRecord,
    /// Absent if it came too late to count.
    pub update: Option<Update>,
}

impl State {
    /// The state at the beginning; with `remembers`, cohorts follow from earlier rounds.
    pub fn new(machine: Machine, roster: Roster, remembers: bool) -> Self {
        Self {
            machine,
            roster,
            edges: BTreeMap::new(),
            lost_edges: BTreeSet::new(),
            work: BTreeMap::new(),
            sums: Vec::new(),
            inbox: BTreeMap::new(),
            evaluations: BTreeMap::new(),
            updates: 0,
            chosen: BTreeMap::new(),
            choices: BTreeMap::new(),
            remembers,
            gone: BTreeMap::new(),
            rejected: 0,
        }
    }

    /// A number for an update or an evaluation that has come.
    pub fn next_number(&mut self) -> u64 {
        self.updates += 1;
        self.updates
    }

    /// Gives an update to the machine, and keeps it if that takes it. One without an update is in the sums of an
    /// edge.
    pub fn place(
        &mut self,
        now_us: u64,
        token: Option<u64>,
        (mut record, measured): (ClientRecord, Measured),
        update: Option<Update>,
    ) -> Result<Placed, Refused> {
        let client = record.client;
        let number = self.next_number();
        let delivery = Delivery {
            client,
            round: record.round,
            token,
            update: number,
            measured,
        };
        let placed = self.machine.deliver(now_us, delivery)?;
        self.note_choice(&mut record);
        let round_s = placed.round_us.map(|us| us as f64 / 1e6);
        record.round_s = record.round_s.or(round_s);
        if placed.late {
            record.outcome = LATE.into();
        } else if let Some(now) = self.roster.bytes(client) {
            let before = self.chosen.get(&client).copied().unwrap_or_default();
            record.bytes_up = now.0 - before.0;
            record.bytes_down = now.1 - before.1;
        }
        let received = Received {
            record,
            update: update.filter(|_| placed.counts),
        };
        self.inbox.insert(number, received);
        Ok(placed)
    }

    /// Takes in an update of before a resume that is still under way in simulated time; returns its number.
    pub fn recall(&mut self, received: Received) -> u64 {
        self.updates += 1;
        self.inbox.insert(self.updates, received);
        self.updates
    }

    /// Puts the choice of a client for the round of its record beside it.
    pub fn note_choice(&self, record: &mut ClientRecord) {
        let choice = self.choices.get(&record.client);
        let choice = choice.filter(|(round, _)| *round == record.round);
        record.chosen = choice.map(|(_, choice)| *choice).or(record.chosen);
    }

    /// Keeps the reasons for which a cohort was chosen.
    fn note_choices(&mut self, round: u32, picks: &[Pick]) {
        let facts = &self.machine.memory().facts;
        for pick in picks {
            let Some(facts) = facts.get(pick.client as usize) else {
                continue;
            };
            let choice = Chosen {
                score: pick.score.filter(|score| score.is_finite()),
                times: facts.times_chosen,
                energy_left_j: facts.left_j(),
            };
            self.choices.insert(pick.client, (round, choice));
        }
    }

    /// Notes who is gone for good, and who is not any more.
    pub fn note_gone(&mut self, note: &Note) {
        match note {
            Note::Lost {
                client,
                reason,
                comes_back: false,
            } => _ = self.gone.insert(*client, reason.clone()),
            Note::Lost { client, .. } | Note::Expected { client } => _ = self.gone.remove(client),
            _ => {}
        }
    }

    /// Notes what an action of the machine means for what is kept here.
    pub fn note(&mut self, action: &Action, log: &Log) {
        if let Action::OpenRound { round, picks } = action {
            let cohort: Vec<u32> = picks.iter().map(|pick| pick.client).collect();
            if self.remembers {
                self.note_choices(*round, picks);
            }
            let bytes = cohort
                .iter()
                .filter_map(|&id| Some((id, self.roster.bytes(id)?)));
            self.chosen.extend(bytes);
            log.emit(Event::RoundStarted {
                round: *round,
                cohort,
            });
        }
    }
}

/// Standing of a client towards whoever else wants its place.
pub(super) fn standing(machine: &Machine, id: u32, now_us: u64, gone: Option<u32>) -> Standing {
    let is_gone = gone == Some(id);
    match machine.state(id) {
        None | Some(ClientState::Absent | ClientState::Lost) => Standing::Free,
        Some(ClientState::Joined | ClientState::Fetched) if is_gone => Standing::Free,
        Some(ClientState::Suspect) if is_gone || is_silent(machine, id, now_us) => Standing::Free,
        Some(_) if is_gone => Standing::Gone,
        Some(ClientState::Joined | ClientState::Fetched) => Standing::New,
        Some(_) => Standing::There,
    }
}

/// True for a device that has failed and answered nothing for long.
fn is_silent(machine: &Machine, id: u32, now_us: u64) -> bool {
    let long = |us| Duration::from_micros(us) >= SILENT_FOR;
    machine
        .silent(now_us)
        .any(|(silent, us)| silent == id && long(us))
}
