//! The builder of a row.

use super::{Folds, Kind, Metric, Reads, Shown, Source, Topic, Unit, Values};
use crate::event::ClientRecord;

/// Endings of names that only tell the unit, which OpenMetrics puts there itself.
const UNIT_ENDINGS: [&str; 5] = ["_s", "_ms", "_us", "_j", "_bytes"];

impl Metric {
    /// A row that every display shows.
    pub(super) const fn new(
        name: &'static str,
        unit: Unit,
        by: Source,
        folds: Folds,
        label: &'static str,
    ) -> Self {
        let plain = without_unit(name);
        Self {
            name,
            unit,
            kind: Kind::Whole,
            by,
            folds,
            shows_last: matches!(folds, Folds::Mean | Folds::Last),
            since_boot: false,
            label,
            doc: "",
            exact: "",
            topic: match by {
                Source::Host => Topic::Host,
                Source::Link => Topic::Traffic,
                Source::Device | Source::Server | Source::Model => Topic::Work,
            },
            head: Some(name),
            figure: Some(plain),
            scraped: Some(plain),
            on_screen: true,
            shown: unit.shown(),
            reads: Reads::Record(|_| None),
        }
    }

    /// Its description and exactness, for docs/cost.md.
    pub(super) const fn doc(mut self, doc: &'static str, exact: &'static str) -> Self {
        (self.doc, self.exact) = (doc, exact);
        self
    }

    pub(super) const fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    pub(super) const fn topic(mut self, topic: Topic) -> Self {
        self.topic = topic;
        self
    }

    /// Its name for OpenMetrics, and of its figure.
    pub(super) const fn named(mut self, name: &'static str) -> Self {
        (self.scraped, self.figure) = (Some(name), Some(name));
        self
    }

    pub(super) const fn figure(mut self, name: &'static str) -> Self {
        self.figure = Some(name);
        self
    }

    pub(super) const fn head(mut self, head: &'static str) -> Self {
        self.head = Some(head);
        self
    }

    pub(super) const fn shown(mut self, unit: &'static str, per: f64, digits: usize) -> Self {
        self.shown = Shown { unit, per, digits };
        self
    }

    pub(super) const fn shows_last(mut self) -> Self {
        self.shows_last = true;
        self
    }

    pub(super) const fn since_boot(mut self) -> Self {
        self.since_boot = true;
        self
    }

    pub(super) const fn without_column(mut self) -> Self {
        self.head = None;
        self
    }

    pub(super) const fn without_figure(mut self) -> Self {
        self.figure = None;
        self
    }

    pub(super) const fn off_screen(mut self) -> Self {
        self.on_screen = false;
        self
    }

    pub(super) const fn unscraped(mut self) -> Self {
        self.scraped = None;
        self
    }

    /// In files only.
    pub(super) const fn hidden(self) -> Self {
        self.without_column()
            .without_figure()
            .off_screen()
            .unscraped()
    }

    pub(super) const fn reads(mut self, read: fn(&ClientRecord) -> Option<f64>) -> Self {
        self.reads = Reads::Record(read);
        self
    }

    pub(super) const fn made_of(mut self, make: fn(&Values) -> Option<f64>) -> Self {
        self.reads = Reads::Others(make);
        self
    }
}

const fn without_unit(name: &'static str) -> &'static str {
    let mut at = 0;
    while at < UNIT_ENDINGS.len() {
        let ending = UNIT_ENDINGS[at].as_bytes();
        if let Some(end) = name.len().checked_sub(ending.len())
            && super::same(name.as_bytes().split_at(end).1, ending)
        {
            return name.split_at(end).0;
        }
        at += 1;
    }
    name
}
