//! Reasons for which the model of a run depends on time: settings that let the faster device count. A run
//! states them before it starts; any other run of the same seed has the same model.

use crate::estimate::deadlines;
use crate::experiment::Experiment;
use fl_algo::Sizes;

impl Experiment {
    /// Reasons for which another run of this experiment may have another model; most have none.
    pub fn depends_on_time(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let (wanted, more) = (self.clients_per_round, self.over_commit);
        let simulated = self.simulates_time();
        if more > 0 && !simulated {
            let asked = wanted + more;
            reasons.push(format!(
                "over_commit = {more}: the first {wanted} updates of {asked} count"
            ));
        }
        if self.use_late {
            reasons.push("use_late: an update that misses its round counts in the next".to_owned());
        }
        let sizes = Sizes::from(self.model.shape());
        let rule = self
            .strategy
            .0
            .server(sizes, self.clients, wanted, self.seed);
        let rule = rule.ok().filter(|_| !simulated);
        reasons.extend(rule.and_then(|rule| self.strategy.0.notice(&*rule)));
        if self.fault_plan().is_ok_and(|plan| plan.follows_the_clock()) {
            reasons.push("the trace is in seconds: the clock decides who is there".to_owned());
        }
        reasons.extend(deadlines::tight(self));
        reasons
    }

    /// The same as lines for people.
    pub(crate) fn notes_on_time(&self) -> impl Iterator<Item = String> + use<> {
        let reasons = self.depends_on_time().into_iter();
        reasons.map(|why| format!("this run's model depends on time: {why}"))
    }
}
