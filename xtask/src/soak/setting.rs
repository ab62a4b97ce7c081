//! Settings of a run, drawn at random, each from its own number.

use std::fmt::Write as _;

/// Random numbers of one setting: splitmix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of one setting of a series.
    pub fn new(series: u64, number: u64) -> Self {
        let mut random = Self(series);
        let first = random.next();
        Self(first ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `least` to `most`.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    /// True in so many of a hundred cases.
    pub fn in_hundred(&mut self, cases: u64) -> bool {
        self.next() % 100 < cases
    }

    /// A number from 0 to 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn one_of<'a>(&mut self, those: &[&'a str]) -> &'a str {
        those[self.between(0, those.len() as u64 - 1) as usize]
    }
}

/// One setting: an experiment file, and what a row of the table says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The experiment file.
    pub toml: String,
    /// Body, sizes and algorithm.
    pub what: String,
    /// Network and link.
    pub link: String,
    /// Faults, in short.
    pub faults: String,
}

/// Links that are fast enough for any of these settings.
const LINKS: [&str; 5] = ["ethernet", "wifi", "lte-m", "ieee802154", "nb-iot"];

/// The slowest link, over which only the least run ends in a minute.
const SLOWEST: &str = "lorawan-like";

impl Setting {
    /// Draws one.
    pub fn draw(random: &mut Random) -> Self {
        let native = random.in_hundred(60);
        let link = if native || random.in_hundred(15) {
            None
        } else if random.in_hundred(4) {
            Some(SLOWEST)
        } else {
            Some(random.one_of(&LINKS))
        };
        let slow = link.is_some_and(|link| link == SLOWEST || link == "nb-iot");
        let (clients, rounds) = match link {
            Some(SLOWEST) => (2, 2),
            _ if slow => (random.between(3, 4), random.between(2, 3)),
            _ if native => (random.between(3, 6), random.between(4, 10)),
            _ => (random.between(3, 6), random.between(3, 6)),
        };
        let examples = if slow { 8 } else { random.between(10, 40) };
        let mut toml = format!(
            "clients = {clients}\nrounds = {rounds}\nexamples_per_client = {examples}\nhidden = [{}]\n\
             learning_rate = 0.05\nlocal_epochs = {}\nbatch_size = {}\nseed = {}\nquorum = 1\nbody = \"{}\"\n",
            if slow { 3 } else { random.between(3, 12) },
            random.between(1, if native { 40 } else { 4 }),
            random.between(4, 20),
            random.between(1, 1_000_000),
            if native { "native" } else { "bare" },
        );
        let algorithm = algorithm(random, clients, &mut toml);
        let more = rules(random, &algorithm, &mut toml);
        let network = (!native).then(|| random.one_of(&["bridge", "switch"]));
        if let Some(network) = network {
            writeln!(toml, "network = \"{network}\"").unwrap_or_default();
        }
        if let Some(link) = link {
            writeln!(toml, "link = \"{link}\"").unwrap_or_default();
        }
        let faults = faults(random, native, &mut toml);
        Self {
            toml,
            what: format!(
                "{clients} {}, {rounds} rounds, {algorithm}{more}",
                if native { "native" } else { "bare" }
            ),
            link: match (network, link) {
                (Some(network), Some(link)) => format!("{network}, {link}"),
                (Some(network), None) => network.to_owned(),
                _ => "-".to_owned(),
            },
            faults,
        }
    }
}

/// Algorithms beside those that have a share of their own. FedAsync depends on time by its nature.
const OTHERS: [&str; 18] = [
    "fedprox",
    "fedavgm",
    "fedadagrad",
    "fedadam",
    "fedyogi",
    "fednova",
    "qfedavg",
    "median",
    "trimmed-mean",
    "krum",
    "multi-krum",
    "bulyan",
    "feddyn",
    "ditto",
    "fedper",
    "fedrep",
    "distillation",
    "fedavg",
];

const ENCODINGS: [&str; 5] = ["f16", "int8", "qsgd", "topk", "sign"];

const SELECTORS: [&str; 5] = [
    "round-robin",
    "availability",
    "power-of-choice",
    "oort",
    "energy",
];

/// Draws what an experiment may have beside its algorithm: encodings, selection, local training, evaluation, privacy;
/// returns it in short.
fn rules(random: &mut Random, algorithm: &str, toml: &mut String) -> String {
    let mut text = String::new();
    let mut choose = |line: String| {
        text += &format!(", {}", line.replace([' ', '"'], ""));
        *toml += &(line + "\n");
    };
    if random.in_hundred(30) {
        choose(format!("encoding_up = \"{}\"", random.one_of(&ENCODINGS)));
    }
    if random.in_hundred(15) {
        choose(format!(
            "encoding_down = \"{}\"",
            random.one_of(&ENCODINGS[..3])
        ));
    }
    let selects = random.in_hundred(20);
    if selects {
        choose(format!("selection = \"{}\"", random.one_of(&SELECTORS)));
    }
    // SCAFFOLD works out gradients from steps of plain SGD.
    if !algorithm.starts_with("scaffold") && random.in_hundred(20) {
        choose(format!(
            "optimizer = \"{}\"",
            random.one_of(&["momentum", "adam"])
        ));
    }
    if random.in_hundred(20) {
        choose("holdout = 0.25".to_owned());
    }
    if random.in_hundred(15) {
        choose("stragglers = 0.5".to_owned());
    }
    // Epsilon reckons with clients that are chosen by chance alone.
    let bounds = algorithm.starts_with("fedavg,") || algorithm == "fedavg";
    if bounds && !selects && random.in_hundred(25) {
        let privacy = random.one_of(&["central", "local"]);
        choose(format!("privacy = \"{privacy}\""));
    }
    text
}

/// Draws the algorithm and who takes part; returns it in short.
fn algorithm(random: &mut Random, clients: u64, toml: &mut String) -> String {
    let mut cohort = clients;
    if clients > 3 && random.in_hundred(30) {
        cohort = random.between(2, clients - 1);
        *toml += &format!("clients_per_round = {cohort}\n");
    }
    let named = |name: &str| (format!("strategy = \"{name}\"\n"), name.to_owned());
    let (line, mut text) = match random.between(0, 99) {
        0..25 => named("fedavg"),
        25..40 => named("scaffold"),
        40..90 => named(random.one_of(&OTHERS)),
        _ => {
            let size = random.between(cohort.saturating_sub(1).max(1), cohort);
            let table = format!("strategy = {{ name = \"fedbuff\", buffer_size = {size} }}\n");
            (table, format!("fedbuff {size}/{cohort}"))
        }
    };
    *toml += &line;
    if cohort < clients {
        text += &format!(", {cohort} a round");
        if random.in_hundred(15) {
            *toml += "over_commit = 1\n";
            text += ", 1 more";
        }
    }
    text
}

/// Draws the faults; returns them in short.
fn faults(random: &mut Random, native: bool, toml: &mut String) -> String {
    *toml += "[faults]\n";
    let mut text = Vec::new();
    let mut drawn = |random: &mut Random, cases, name: &str, value: &dyn Fn(u64, u64) -> String| {
        let (percent, for_ms) = (random.between(5, 40), random.between(1, 40) * 50);
        if random.in_hundred(cases) {
            *toml += &format!("{name} = {}\n", value(percent, for_ms));
            text.push(format!("{name} {percent} %"));
        }
    };
    let share = |percent: u64, _: u64| format!("0.{percent:02}");
    let span = |percent: u64, for_ms: u64| {
        format!("{{ probability = 0.{percent:02}, for_ms = {for_ms} }}")
    };
    let reboot = random.in_hundred(80);
    let crash = |percent: u64, _: u64| {
        // Who does not come back is missed for the rest of the run.
        let percent = if reboot { percent } else { percent.min(8) };
        format!("{{ probability = 0.{percent:02}, reboot = {reboot} }}")
    };
    drawn(random, 60, "drop_out", &share);
    drawn(random, 45, "crash", &crash);
    drawn(random, 40, "freeze", &span);
    drawn(random, 20, "corrupt", &share);
    drawn(random, if native { 0 } else { 45 }, "cut", &span);
    drawn(random, if native { 0 } else { 20 }, "out_of_memory", &share);
    text.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_setting_and_all_are_experiment_files() {
        let draw = |number| Setting::draw(&mut Random::new(7, number));
        for number in 0..500 {
            let setting = draw(number);
            assert_eq!(setting, draw(number));
            let read: toml::Table = toml::from_str(&setting.toml).unwrap();
            let clients = read["clients"].as_integer().unwrap();
            assert!((2..=6).contains(&clients), "{}", setting.toml);
        }
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn every_link_fault_and_rule_is_drawn() {
        let all: String = (0..500)
            .map(|number| Setting::draw(&mut Random::new(7, number)).toml)
            .collect();
        for word in [LINKS.as_slice(), &[SLOWEST, "drop_out", "crash", "freeze"]].concat() {
            assert!(all.contains(word), "{word}");
        }
        for word in [
            "cut =",
            "corrupt",
            "out_of_memory",
            "scaffold",
            "over_commit",
            "holdout",
            "stragglers",
            "privacy",
            "adam",
        ] {
            assert!(all.contains(word), "{word}");
        }
        for word in [&OTHERS[..], &ENCODINGS, &SELECTORS].concat() {
            assert!(all.contains(&format!("\"{word}\"")), "{word}");
        }
    }
}
