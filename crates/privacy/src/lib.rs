//! Accountant of differential privacy: the epsilon that rounds of Gaussian noise add up to.
//!
//! Each round is a Gaussian mechanism on a sample of the clients. Its Rényi divergence is computed at a list of
//! orders, adds up over the rounds, and is turned into (epsilon, delta) at the order that gives least.
//!
//! - Mironov 2017, *Rényi Differential Privacy*: <https://arxiv.org/abs/1702.07476>.
//! - Mironov, Talwar and Zhang 2019, for samples in which each client is by itself with probability q (Poisson):
//!   <https://arxiv.org/abs/1908.10530>.
//! - Wang, Balle and Kasiviswanathan 2019, for samples of a fixed size: <https://arxiv.org/abs/1808.00087>.
//! - Canonne, Kamath and Steinke 2020, Proposition 12, for the last step: <https://arxiv.org/abs/2004.00010>.
//!
//! # Terms
//! - *noise multiplier*: standard deviation of the noise over the most that one client can change the sum.
//! - *neighbours*: two fleets, of which one has a client more; of samples of a fixed size, in which one client is
//!   another.

#![forbid(unsafe_code)]

mod gaussian;

/// Orders at which the divergence is looked at.
fn orders() -> impl Iterator<Item = f64> {
    let fine = (1..100).map(|tenth| 1.0 + f64::from(tenth) / 10.0);
    let whole = (11..64).map(f64::from);
    fine.chain(whole).chain([128.0, 256.0, 512.0, 1024.0])
}

/// The privacy that every round costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Accountant {
    /// Orders, and the divergence of one round at each.
    divergences: Vec<(f64, f64)>,
    delta: f64,
}

impl Accountant {
    /// An accountant of rounds that each take a client with probability `sampling`, up to 1, and add noise of
    /// this multiplier.
    pub fn new(sampling: f64, noise_multiplier: f64, delta: f64) -> Self {
        let of = |order| {
            (
                order,
                gaussian::divergence(sampling, noise_multiplier, order),
            )
        };
        Self {
            divergences: orders().map(of).collect(),
            delta,
        }
    }

    /// An accountant of rounds that each take the same number of clients, a share `sampling` of all.
    pub fn of_fixed_size(sampling: f64, noise_multiplier: f64, delta: f64) -> Self {
        let of = |order| {
            (
                order,
                gaussian::fixed_size(sampling, noise_multiplier, order),
            )
        };
        Self {
            divergences: orders().map(of).collect(),
            delta,
        }
    }

    /// Epsilon after so many rounds; infinite where there is no noise.
    pub fn epsilon(&self, rounds: u32) -> f64 {
        if rounds == 0 {
            return 0.0;
        }
        let all = self.divergences.iter();
        let each = all.map(|&(order, one)| epsilon(order, f64::from(rounds) * one, self.delta));
        each.fold(f64::INFINITY, f64::min)
    }

    /// Orders, and the divergence of one round at each.
    pub fn divergences(&self) -> &[(f64, f64)] {
        &self.divergences
    }
}

/// Epsilon at `delta` of a divergence of this order.
fn epsilon(order: f64, divergence: f64, delta: f64) -> f64 {
    // The total variation is at most this: below delta nothing is left to tell.
    if delta * delta + libm::expm1(-divergence) > 0.0 {
        return 0.0;
    }
    if order <= 1.01 {
        return f64::INFINITY;
    }
    let saved = libm::log1p(-1.0 / order) - libm::log(delta * order) / (order - 1.0);
    (divergence + saved).max(0.0)
}
