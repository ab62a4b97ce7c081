//! Federated distillation (FD): soft labels travel in place of weights.
//!
//! Jeong et al. 2018, *Communication-Efficient On-Device Machine Learning*, Algorithm 1:
//! <https://arxiv.org/abs/1811.11479>. Each device has a model of its own, which never leaves it. While it
//! trains it notes, for each class, the mean of its outputs on examples of that class: a row of probabilities,
//! its *soft label*. The server makes the mean of the devices' soft labels, class by class, and a device adds
//! to the loss of an example of class `l` its distance from the mean soft label `q` of `l`:
//! `weight T^2 H(q, softmax(z / T))`, `z` the logits, `T` the temperature (Hinton et al. 2015). The factor `T^2`
//! keeps the weight's meaning at every temperature. The paper leaves the device's own soft label out of the
//! mean; here it is in it, so that all devices are sent the same.
//!
//! Only tables of `classes * classes` numbers travel. All models begin as the initial model of the seed. With
//! weight 0 it is local training to the bit.
//!
//! # Memory
//! Two such tables.

use crate::client::{ClientRule, LocalJob, Pass};
use crate::registry::{Algorithm, DeviceHalf};
use crate::vector::{Length, Stays, VectorSpec, Vectors};
use fl_param::{ParamSpec, Params};

const WEIGHT: &str = "distillation_weight";
const TEMPERATURE: &str = "temperature";

/// Name of the table that goes up: a row of probabilities for each class, of zeros where there is no example.
const OWN: &str = "soft_labels";

/// Name of the table that comes down: their mean, with rows of zeros where nobody had an example yet.
const TEACHER: &str = "mean_labels";

const OWN_TABLE: usize = 0;
const TEACHER_TABLE: usize = 1;

static VECTORS: [VectorSpec; 2] = [
    VectorSpec {
        name: OWN,
        length: Length::ClassTable,
        down: false,
        up: true,
        kept: false,
    },
    VectorSpec {
        name: TEACHER,
        length: Length::ClassTable,
        down: true,
        up: false,
        kept: false,
    },
];

/// Federated distillation.
pub(crate) static ALGORITHM: Algorithm = Algorithm {
    name: "distillation",
    doc: "each device has its own model; mean outputs per class travel in place of weights",
    paper: "Jeong et al. 2018, https://arxiv.org/abs/1811.11479",
    device: &DeviceHalf {
        rule: "distillation",
        params: &[
            ParamSpec {
                name: WEIGHT,
                default: 0.1,
                min: 0.0,
                max: 1e3,
                whole: false,
                doc: "weight of the distillation term in the loss; 0 is local training",
            },
            ParamSpec {
                name: TEMPERATURE,
                default: 1.0,
                min: 0.1,
                max: 100.0,
                whole: false,
                doc: "divisor of the logits before softmax: the higher, the softer the labels",
            },
        ],
        client: &Distillation,
    },
    params: &[],
    #[cfg(feature = "server")]
    server: server::make,
};

struct Distillation;

/// The row of a class in a table; empty if there is none.
fn row(table: &mut [f32], class: usize, len: usize) -> &mut [f32] {
    let row = table
        .get_mut(class * len..)
        .and_then(|rest| rest.get_mut(..len));
    row.unwrap_or(&mut [])
}

impl ClientRule for Distillation {
    fn vectors(&self, _: &Params) -> &'static [VectorSpec] {
        &VECTORS
    }

    fn stays(&self, _: &Params) -> Stays {
        Stays::All
    }

    fn begin(&self, _: &Params, _: &LocalJob<'_>, _: &mut [f32], vectors: &mut Vectors) {
        vectors.get_mut(OWN_TABLE).fill(0.0);
    }

    fn watches_outputs(&self) -> bool {
        true
    }

    fn outputs(
        &self,
        params: &Params,
        vectors: &mut Vectors,
        label: usize,
        logits: &[f32],
        deltas: &mut [f32],
    ) {
        let temperature = params.get(TEMPERATURE) as f32;
        let factor = params.get(WEIGHT) as f32 * temperature;
        let largest = logits
            .iter()
            .fold(f32::NEG_INFINITY, |most, z| most.max(*z));
        let power = |z: &f32| libm::expf((z - largest) / temperature);
        let scale = 1.0 / logits.iter().map(power).fold(0.0, |sum, power| sum + power);
        let (own, teacher) = vectors.pair_mut(OWN_TABLE, TEACHER_TABLE);
        let own = row(own, label, logits.len());
        for (sum, z) in own.iter_mut().zip(logits) {
            *sum += scale * power(z);
        }
        let teacher = row(teacher, label, logits.len());
        if factor == 0.0 || teacher.iter().all(|q| *q == 0.0) {
            return;
        }
        for ((delta, z), q) in deltas.iter_mut().zip(logits).zip(teacher) {
            *delta += factor * (scale * power(z) - *q);
        }
    }

    fn end(&self, _: &Params, job: &LocalJob<'_>, _: &mut [f32], vectors: &mut Vectors) -> Pass {
        let classes = job.model.shape().num_classes();
        let table = vectors.get_mut(OWN_TABLE);
        for class in 0..classes {
            let those = job
                .labels
                .iter()
                .filter(|label| usize::from(**label) == class);
            let seen = those.count() as f32 * job.local_epochs as f32;
            let own = row(table, class, classes).iter_mut();
            own.filter(|_| seen > 0.0).for_each(|sum| *sum /= seen);
        }
        Pass::Done
    }

    /// The model that the device has: there is no other.
    fn personal(&self, _: &Params, global: &[f32], _: &Vectors, out: &mut [f32]) -> bool {
        out.iter_mut()
            .zip(global)
            .for_each(|(to, from)| *to = *from);
        true
    }
}

#[cfg(feature = "server")]
mod server {
    use alloc::boxed::Box;
    use alloc::string::{String, ToString};
    use alloc::vec;
    use alloc::vec::Vec;

    use super::{OWN, TEACHER};
    use crate::exact::{self, ExactError, ExactMean};
    use crate::server::*;

    /// Makes the rule.
    pub fn make(setup: &Setup) -> Result<Box<dyn ServerRule>, String> {
        let classes = setup.sizes.num_classes;
        Ok(Box::new(MeanLabels {
            classes,
            table: vec![0.0; classes * classes],
            rows: vec![ExactMean::new(classes); classes],
        }))
    }

    struct MeanLabels {
        classes: usize,
        /// Mean soft labels of the last round in which a class had any.
        table: Vec<f32>,
        /// Mean of the round so far, of each class. Every client that has the class counts the same.
        rows: Vec<ExactMean>,
    }

    impl ServerRule for MeanLabels {
        fn down_sections(&self) -> Vec<(&'static str, &[f32])> {
            vec![(TEACHER, &self.table)]
        }

        fn begin(&mut self, _round: u32, _global: &[f32]) {
            self.rows = vec![ExactMean::new(self.classes); self.classes];
        }

        fn add(&mut self, update: &Update, _: Option<&KeptVectors>) -> Result<(), Rejected> {
            let table = update.section(OWN);
            exact::check(self.table.len(), table)?;
            for (mean, row) in self.rows.iter_mut().zip(table.chunks(self.classes)) {
                if row.iter().any(|q| *q != 0.0) {
                    mean.add(1, row)?;
                }
            }
            Ok(())
        }

        /// The global model stays the initial one: there is none.
        fn finish(&mut self, _global: &mut Vec<f32>) -> Result<RoundMetrics, AggregateError> {
            if self.rows.iter().all(|mean| mean.weight() == 0) {
                return Err(ExactError::NoWeight.into());
            }
            let mut table = self.table.clone();
            let rows = table.chunks_mut(self.classes).zip(&self.rows);
            for (row, mean) in rows.filter(|(_, mean)| mean.weight() > 0) {
                row.copy_from_slice(&mean.mean()?);
            }
            self.table = table;
            let rows = self.table.chunks(self.classes);
            let known = rows.filter(|row| row.iter().any(|q| *q != 0.0)).count();
            Ok([("classes_with_labels".to_string(), known as f64)].into())
        }

        fn save(&self) -> SavedState {
            SavedState {
                vectors: [(TEACHER.to_string(), self.table.clone())].into(),
                ..SavedState::default()
            }
        }

        fn restore(
            &mut self,
            mut saved: SavedState,
            _: &mut dyn Iterator<Item = (u32, &KeptVectors)>,
        ) -> Result<(), AggregateError> {
            match saved.vectors.remove(TEACHER) {
                Some(table) if exact::check(self.table.len(), &table).is_ok() => self.table = table,
                _ => {
                    return Err(AggregateError(
                        "the saved labels are not of this model".into(),
                    ));
                }
            }
            Ok(())
        }
    }
}
