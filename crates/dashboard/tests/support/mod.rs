//! A run that a script makes: the files that a real one leaves behind, with events of the real types.
//!
//! The numbers are invented, with the spread of a real fleet: quick and slow boards, a few bad links,
//! a crash, injected faults. The same seed gives the same run.

#![allow(dead_code, reason = "each test target uses its own part")]

use fl_proto::Cost;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use zfl_run_dir::Meta;
use zfl_run_dir::{
    ClientRecord, Confusion, Distribution, Event, HostCost, LevelRecord, Levels, ModelEvaluation,
    Record, RoundEvaluation, RoundPhase, RoundRecord, Traffic,
};

const EXAMPLES: u32 = 600;
const EPOCHS: u32 = 5;

/// A run being written.
pub struct Script {
    pub path: PathBuf,
    pub clients: u32,
    pub rounds: u32,
    events: File,
    clock_ms: u64,
    random: u64,
    dead: Vec<u32>,
    /// Simulated time that the slowest device of the round has taken, and up to its start.
    simulated_s: f64,
    simulated_elapsed_s: f64,
    /// Devices have a radio.
    radio: bool,
    /// Edges of each level.
    pub edges: Vec<u32>,
}

impl Script {
    /// Makes the directory, and says that the run has started.
    pub fn new(path: &Path, clients: u32, rounds: u32) -> Self {
        fs::create_dir_all(path.join("serial")).unwrap();
        let meta = meta(clients, rounds);
        fs::write(path.join(Meta::FILE), serde_json::to_vec(&meta).unwrap()).unwrap();
        let events = File::options()
            .append(true)
            .create(true)
            .open(path.join("events.jsonl"));
        let mut script = Self {
            path: path.to_owned(),
            clients,
            rounds,
            events: events.unwrap(),
            clock_ms: 0,
            random: 7,
            dead: Vec::new(),
            simulated_s: 0.0,
            simulated_elapsed_s: 0.0,
            radio: false,
            edges: Vec::new(),
        };
        script.emit(Event::RunStarted {
            clients,
            rounds,
            attackers: Vec::new(),
            address: "192.0.2.1:8080".into(),
        });
        script
    }

    /// Writes one event, now.
    pub fn emit(&mut self, event: Event) {
        let at = "2026-01-01T00:00:00.000Z".to_owned();
        let record = Record {
            time_ms: self.clock_ms,
            at,
            event,
        };
        let mut line = serde_json::to_vec(&record).unwrap();
        line.push(b'\n');
        self.events.write_all(&line).unwrap();
    }

    pub fn fleet(&mut self, client: u32, what: &str, detail: Value) {
        let record = json!({"what": what, "detail": detail});
        self.emit(Event::Fleet {
            client: Some(client),
            record: serde_json::from_value(record).unwrap(),
        });
    }

    /// Something of the whole fleet.
    pub fn of_fleet(&mut self, what: &str, detail: Value) {
        let record = json!({"what": what, "detail": detail});
        self.emit(Event::Fleet {
            client: None,
            record: serde_json::from_value(record).unwrap(),
        });
    }

    /// Tells the places of a gateway and of its leaves, in rings of four around it.
    pub fn mesh(&mut self) {
        let place = |leaf: u32| {
            let (ring, angle) = (leaf / 4 + 1, f64::from(leaf) * 1.7);
            let far = f64::from(ring) * 90.0;
            [far * angle.cos(), far * angle.sin()]
        };
        let places: Vec<_> = [[0.0, 0.0]]
            .into_iter()
            .chain((0..self.clients).map(place))
            .collect();
        let hops: Vec<u32> = [0]
            .into_iter()
            .chain((0..self.clients).map(|leaf| leaf / 4 + 1))
            .collect();
        let detail = json!({"radio": "hc-12", "range_m": 200.0, "places": places, "hops": hops});
        self.of_fleet("mesh", detail);
        self.radio = true;
    }

    /// The run of another seed.
    pub fn reseed(&mut self, seed: u64) {
        self.random = 7 ^ (seed << 8);
    }

    pub fn pass(&mut self, ms: u64) {
        self.clock_ms += ms;
    }

    /// Appends to a serial log.
    pub fn prints(&self, client: u32, text: &str) {
        let path = self.path.join(format!("serial/{client}.log"));
        let mut log = File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }

    /// Every device boots and joins, and the first model is tested.
    pub fn boot(&mut self) {
        for client in 0..self.clients {
            self.fleet(client, "booting", json!({"attempt": 1}));
            self.pass(3);
            let boot_ms = 40 + self.up_to(30);
            self.fleet(client, "running", json!({"boot_ms": boot_ms}));
            self.emit(Event::ClientJoined {
                client,
                address: format!("192.0.2.{}:80", client % 250),
                again: false,
            });
            self.emit(Event::ClientReady { client });
            self.prints(
                client,
                &format!("[00:00:00.0{boot_ms}] zfl: joined as client {client}\n"),
            );
        }
        self.finish_round(0, 0, 0, &[]);
    }

    /// One whole round.
    pub fn round(&mut self, round: u32) {
        self.begin_round(round);
        for client in self.alive() {
            self.trains(round, client, EXAMPLES * EPOCHS);
        }
        let failing = self.faults(round);
        let cohort = self.alive();
        let results: Vec<u32> = cohort
            .into_iter()
            .filter(|c| !failing.contains(c))
            .collect();
        let costs: Vec<u64> = results
            .iter()
            .map(|&client| self.delivers(round, client))
            .collect();
        for &client in &failing {
            let reason = "no update within 30s".to_owned();
            self.emit(Event::ClientFailed {
                client,
                round,
                reason,
            });
        }
        self.finish_round(round, results.len() as u32, failing.len() as u32, &costs);
        for client in failing {
            if !self.dead.contains(&client) {
                self.fleet(client, "fault_over", json!({"fault": "cut"}));
                self.emit(Event::ClientReady { client });
            }
        }
    }

    /// Waits, chooses, and starts everyone.
    pub fn begin_round(&mut self, round: u32) {
        let cohort = self.alive();
        self.emit(Event::PhaseEntered {
            round,
            phase: RoundPhase::WaitingForReady,
        });
        self.emit(Event::PhaseEntered {
            round,
            phase: RoundPhase::CohortChosen,
        });
        self.emit(Event::RoundStarted {
            round,
            cohort: cohort.clone(),
        });
        for client in cohort {
            self.emit(Event::ClientStarted { client, round });
            self.pass(2);
        }
        self.emit(Event::PhaseEntered {
            round,
            phase: RoundPhase::Training,
        });
    }

    /// A device tells how far it is.
    pub fn trains(&mut self, round: u32, client: u32, done_examples: u32) {
        let total_examples = EXAMPLES * EPOCHS;
        self.emit(Event::ClientProgress {
            client,
            round,
            done_examples,
            total_examples,
        });
    }

    /// A device's update comes; returns its training time in microseconds.
    pub fn delivers(&mut self, round: u32, client: u32) -> u64 {
        let Group {
            board,
            link,
            mips,
            kbit_per_s,
            ..
        } = *group(client, self.clients);
        let straggler = if client % 17 == 5 { 2 } else { 1 };
        let instructions = (30_000_000 + self.up_to(4_000_000)) * straggler;
        let train_us = instructions / mips;
        let retransmissions = if link == "nb-iot" {
            round * (client % 5)
        } else {
            0
        };
        let (bytes_up, bytes_down) = (51_400 + self.up_to(300), 51_900 + self.up_to(300));
        let virtual_s = train_us as f64 / 1e6;
        let link_s = (bytes_up + bytes_down) as f64 * 8e-3 / kbit_per_s;
        self.simulated_s = self.simulated_s.max(virtual_s + link_s);
        let host = HostCost {
            virtual_s: Some(virtual_s),
            link_s: Some(link_s),
            energy_j: Some(0.4 * virtual_s + 0.6 * link_s),
            cpu_s: Some(0.2 + self.up_to(50) as f64 / 1e3),
            private_bytes: Some(12_700_000 + self.up_to(900_000)),
            link_segments_up: Some(70),
            link_segments_down: Some(72),
            link_retransmissions: Some(retransmissions.into()),
            link_dropped: Some(retransmissions.into()),
            link_bytes: Some(bytes_up + bytes_down + 9_000),
            radio_packets: self.radio.then_some(60 + u64::from(client)),
            radio_again: self.radio.then_some(3),
            radio_relayed: self.radio.then_some(u64::from(40 / (client + 1))),
            radio_airtime_s: self.radio.then_some(4.0 + f64::from(client)),
            radio_energy_j: self.radio.then_some(0.5),
            radio_hops: self.radio.then_some(f64::from(client / 4 + 1)),
            ..HostCost::default()
        };
        let cost = Cost {
            train_us,
            instructions: (board == "microvm").then_some(instructions),
            heap_peak_bytes: Some(1_180_000 + self.up_to(20_000) as u32),
            stack_peak_bytes: Some(5_900),
            retransmissions: Some(retransmissions),
            ..Cost::default()
        };
        let loss = (2.2 * (-f64::from(round) / 5.0).exp() + 0.2) as f32;
        let record = ClientRecord {
            round,
            client,
            outcome: "received".into(),
            num_examples: EXAMPLES,
            loss: Some(loss + self.up_to(100) as f32 / 1000.0),
            round_s: Some(train_us as f64 / 1e6 + 0.2),
            bytes_up,
            bytes_down,
            cost: Some(cost),
            host: Some(host),
            chosen: None,
        };
        self.emit(Event::ResultReceived { record });
        self.pass(1);
        let line = format!("[00:00:{round:02}.000] zfl: round {round}: loss {loss:.4}, sent\n");
        self.prints(client, &line);
        train_us
    }

    /// A device dies, as the fleet and then the aggregator tell.
    pub fn dies(&mut self, client: u32, reason: &str) {
        self.prints(client, &format!("E: {reason}\nE: EIP 0x0010f2a4\n"));
        let last_lines = [format!("E: {reason}"), "E: EIP 0x0010f2a4".to_owned()];
        self.fleet(
            client,
            "died",
            json!({"reason": reason, "last_lines": last_lines}),
        );
        self.emit(Event::ClientLost {
            client,
            reason: reason.into(),
            comes_back: false,
        });
        self.dead.push(client);
    }

    /// Ends a round with a model that is better than the one before.
    pub fn finish_round(&mut self, round: u32, results: u32, failures: u32, train_us: &[u64]) {
        for phase in [RoundPhase::Aggregating, RoundPhase::Evaluating] {
            self.emit(Event::PhaseEntered { round, phase });
        }
        let slowest = train_us.iter().max().map(|&us| us as f64 / 1e6);
        self.pass(slowest.map_or(120, |s| (s * 1e3) as u64 + 420));
        let n = f64::from(round);
        let simulated_s = std::mem::take(&mut self.simulated_s);
        self.simulated_elapsed_s += simulated_s;
        let wobble = self.up_to(100) as f64 / 1e4;
        let record = RoundRecord {
            round,
            cohort_size: results + failures,
            results,
            failures,
            train_loss: (round > 0).then(|| 2.2 * (-n / 5.0).exp() + 0.25 + wobble),
            test_loss: Some(2.1 * (-n / 5.0).exp() + 0.24 + wobble),
            test_accuracy: Some(0.93 - 0.83 * (-n / 3.5).exp() - wobble),
            bytes_up: u64::from(results) * 51_500,
            bytes_down: u64::from(results + failures) * if round == 0 { 0 } else { 52_000 },
            wait_s: 0.05,
            start_s: 0.08,
            train_s: slowest.unwrap_or(0.0) + 0.3,
            slowest_train_s: slowest,
            aggregate_s: 0.002,
            eval_s: 0.06,
            round_s: slowest.unwrap_or(0.0) + 0.42,
            elapsed_s: self.clock_ms as f64 / 1e3,
            metrics: [("drift".to_owned(), 0.5 / (n + 1.0))].into(),
            levels: self.levels(round),
            simulated_s: (round > 0).then_some(simulated_s),
            simulated_elapsed_s: (round > 0).then_some(self.simulated_elapsed_s),
            ..RoundRecord::default()
        };
        let tested = (record.test_loss, record.test_accuracy);
        let (loss, accuracy) = (tested.0.unwrap_or(0.0), tested.1.unwrap_or(0.0));
        self.emit(Event::Evaluated {
            round,
            loss,
            accuracy,
        });
        if round == 0 {
            return self.emit(Event::RoundFinished { record });
        }
        let evaluation = self.evaluation(round, accuracy);
        let record = record.with_evaluation(&evaluation);
        self.emit(Event::DevicesEvaluated {
            record: Box::new(evaluation),
        });
        self.emit(Event::RoundFinished { record });
    }

    /// Levels of the edges, each of which sends and gets as much.
    fn levels(&self, round: u32) -> Vec<LevelRecord> {
        if round == 0 {
            return Vec::new();
        }
        let levels = Levels {
            edges: self.edges.clone(),
            clients: self.clients,
            rounds: 1,
        };
        let all = self.clients + self.edges.iter().sum::<u32>();
        let row = |client| Traffic {
            round,
            client,
            bytes_up: 51_000,
            bytes_down: 52_000,
        };
        levels.of(&(0..all).map(row).collect::<Vec<_>>())
    }

    /// Findings of devices about a model that is as good on the test set, and about their own.
    fn evaluation(&mut self, round: u32, accuracy: f64) -> RoundEvaluation {
        // What is drawn here changes nothing that comes later.
        let random = self.random;
        let mut of = |bonus: f64| {
            let mut confusion = Confusion::of(10);
            let mut each = Vec::new();
            for client in 0..self.clients {
                // A tenth of the devices are worse off.
                let worse = if client % 10 == 3 { 0.2 } else { 0.0 };
                let right = (accuracy + bonus - worse).clamp(0.0, 1.0);
                let mut correct = 0;
                for example in 0..60_usize {
                    let label = (example + client as usize) % 10;
                    let is_right = self.up_to(1000) as f64 / 1000.0 < right;
                    let other = (label + 1 + self.up_to(3) as usize * 2) % 10;
                    confusion.add(label, if is_right { label } else { other });
                    correct += u32::from(is_right);
                }
                each.push((f64::from(correct) / 60.0, 60));
            }
            ModelEvaluation {
                distribution: Distribution::of(&each).unwrap(),
                loss: 2.1 * (1.0 - accuracy),
                confusion,
            }
        };
        let (global, personal) = (of(0.0), of(0.04));
        self.random = random;
        RoundEvaluation {
            round,
            devices: self.clients,
            missing: 0,
            evaluate_s: 0.2,
            global,
            personal: Some(personal),
        }
    }

    pub fn finish(&mut self) {
        self.emit(Event::PhaseEntered {
            round: self.rounds,
            phase: RoundPhase::Finished,
        });
        let mut confusion = Confusion::of(10);
        for example in 0..1000_usize {
            let label = example % 10;
            let is_right = self.up_to(100) < 92;
            confusion.add(label, if is_right { label } else { (label + 3) % 10 });
        }
        self.emit(Event::ClassesTested {
            round: self.rounds,
            confusion,
        });
        self.emit(Event::RunFinished {
            success: true,
            reason: None,
        });
    }

    /// Everything up to the middle of round `round`, in all the states that there are.
    pub fn up_to_the_middle_of(&mut self, round: u32) {
        self.boot();
        for earlier in 1..round {
            self.round(earlier);
        }
        self.begin_round(round);
        for (at, client) in self.alive().into_iter().enumerate() {
            match at % 8 {
                0..=2 => drop(self.delivers(round, client)),
                3 => self.trains(round, client, EXAMPLES * EPOCHS),
                other => self.trains(round, client, EXAMPLES * other as u32 / 2),
            }
        }
        let last = self.clients - 1;
        self.emit(Event::ClientExpected { client: last });
    }

    /// Writes the faults of a round; returns the clients that fail in it.
    fn faults(&mut self, round: u32) -> Vec<u32> {
        let mut failing = Vec::new();
        for client in self.alive() {
            let link = group(client, self.clients).link;
            if link == "nb-iot" && (round + client) % 7 == 3 {
                let detail = json!({"fault": "cut", "round": round, "for_ms": 600});
                self.fleet(client, "fault", detail);
                failing.push(client);
            }
        }
        let unlucky = self.clients / 2 + round;
        if round % 4 == 2 && unlucky < self.clients {
            self.dies(unlucky, "page fault at 0x0010f2a4, status 35");
        }
        if round % 5 == 1 {
            let reason = "weights: a NaN at parameter 812".to_owned();
            self.emit(Event::ResultRejected {
                client: Some(1),
                status: 400,
                reason,
                more: 0,
            });
        }
        failing.retain(|client| !self.dead.contains(client));
        failing
    }

    fn alive(&self) -> Vec<u32> {
        (0..self.clients)
            .filter(|client| !self.dead.contains(client))
            .collect()
    }

    /// A random number below `limit`: xorshift64, Marsaglia 2003.
    fn up_to(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }
}

/// Devices that are alike.
struct Group {
    name: &'static str,
    board: &'static str,
    link: &'static str,
    mips: u64,
    memory_mib: u32,
    kbit_per_s: f64,
}

const GROUPS: [Group; 3] = [
    Group {
        name: "cameras",
        board: "microvm",
        link: "wifi",
        mips: 168,
        memory_mib: 64,
        kbit_per_s: 20_000.0,
    },
    Group {
        name: "meters",
        board: "microvm",
        link: "lte-m",
        mips: 48,
        memory_mib: 16,
        kbit_per_s: 375.0,
    },
    Group {
        name: "sensors",
        board: "qemu_x86",
        link: "nb-iot",
        mips: 100,
        memory_mib: 32,
        kbit_per_s: 60.0,
    },
];

/// Sizes of the groups: a half, three tenths and the rest.
fn counts(clients: u32) -> [u32; 3] {
    let (half, some) = (clients.div_ceil(2), clients * 3 / 10);
    [half, some, clients - half - some]
}

fn group(client: u32, clients: u32) -> &'static Group {
    let [half, some, _] = counts(clients);
    &GROUPS[usize::from(client >= half) + usize::from(client >= half + some)]
}

/// `[[fleet]]` of the configuration.
fn fleet_of(clients: u32) -> Value {
    let table = |(group, count): (&Group, u32)| {
        json!({
            "name": group.name, "count": count, "board": group.board, "body": "bare",
            "link": group.link, "mips": group.mips, "memory_mib": group.memory_mib,
        })
    };
    GROUPS.iter().zip(counts(clients)).map(table).collect()
}

pub fn meta(clients: u32, rounds: u32) -> Meta {
    // Each client has two labels that it sees most of.
    let row = |client: u32| {
        let share = |label: u32| {
            let likes = label == client % 10 || label == (client * 7 + 3) % 10;
            if likes {
                220
            } else {
                15 + (client * 13 + label * 7) % 12
            }
        };
        (0..10).map(share).collect()
    };
    let command =
        format!("zfl run --clients {clients} --rounds {rounds} --experiment mixed.toml --seed 1");
    Meta {
        name: format!("20260101-120000-bare-{clients}x{rounds}"),
        command: Some(command),
        zfl_version: Some("0.1.0".into()),
        body: Some("bare".into()),
        board: Some("microvm".into()),
        network: Some("switch".into()),
        link: None,
        clients,
        devices_elsewhere: false,
        rounds,
        config: json!({
            "name": format!("20260101-120000-bare-{clients}x{rounds}"),
            "clients": clients, "rounds": rounds, "clients_per_round": clients,
            "local_epochs": EPOCHS, "batch_size": 600, "learning_rate": 0.1, "arithmetic": "fixed",
            "layers": [784, 16, 10], "activation": "relu", "seed": 1,
            "fleet": fleet_of(clients), "faults": {"cut": {"probability": 0.1, "for_ms": 600}},
        }),
        split: (0..clients).map(row).collect(),
        versions: [("qemu".to_owned(), "7.2.0".to_owned())].into(),
    }
}
