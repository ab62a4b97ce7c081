//! The server's momentum: a part of every step goes on in the next.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use super::{AggregateError, SavedState, finite};

/// Name of the vector that is saved.
const MOMENTUM: &str = "momentum";

/// Momentum `v`, which every step turns into `factor * v + way`.
pub(crate) struct Momentum {
    factor: f64,
    rate: f64,
    momentum: Vec<f32>,
}

impl Momentum {
    /// No momentum yet, for a model of `len` parameters.
    pub fn new(factor: f64, rate: f64, len: usize) -> Self {
        Self {
            factor,
            rate,
            momentum: vec![0.0; len],
        }
    }

    /// Moves the global model by `rate * v`, where the way is that to `target`. Without momentum and with
    /// rate 1 it is the target then, to the bit.
    ///
    /// # Errors
    /// [`AggregateError`] if a number leaves the range of f32; nothing has changed then.
    pub fn step(&mut self, global: &mut Vec<f32>, target: &[f64]) -> Result<(), AggregateError> {
        let (mut momenta, mut moved) = (Vec::new(), Vec::new());
        for ((from, target), old) in global.iter().zip(target).zip(&self.momentum) {
            let (from, carried) = (f64::from(*from), self.factor * f64::from(*old));
            let momentum = target - from + carried;
            momenta.push(momentum as f32);
            moved.push(match self.rate {
                1.0 => target + carried,
                rate => from + rate * momentum,
            } as f32);
        }
        let momenta = finite(momenta)?;
        (*global, self.momentum) = (finite(moved)?, momenta);
        Ok(())
    }

    /// Euclidean norm of the momentum.
    pub fn norm(&self) -> f64 {
        let numbers = self.momentum.iter().copied().map(f64::from);
        libm::sqrt(numbers.map(|number| number * number).sum())
    }

    /// The state to go on from: none where nothing goes on.
    pub fn save(&self) -> SavedState {
        let mut saved = SavedState::default();
        if self.factor != 0.0 {
            saved
                .vectors
                .insert(MOMENTUM.to_string(), self.momentum.clone());
        }
        saved
    }

    /// Goes on from a state.
    ///
    /// # Errors
    /// [`AggregateError`] if it is not one of this model.
    pub fn restore(&mut self, mut saved: SavedState) -> Result<(), AggregateError> {
        if self.factor != 0.0 {
            self.momentum = saved.vector(MOMENTUM, self.momentum.len())?;
        }
        Ok(())
    }
}
