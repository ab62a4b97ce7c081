//! Comparison with an outside accountant and with a published number.

use zfl_privacy::Accountant;

/// Share of clients a round, noise multiplier, rounds, delta, and the epsilon that `dp-accounting` 0.6.0 gives:
/// `crates/privacy/tests/outside.py` prints this table. It takes all terms of a fractional order's series as
/// positive, so that its numbers may be a little higher.
const OUTSIDE: [(f64, f64, u32, f64, f64); 7] = [
    (0.01, 4.0, 10_000, 1e-5, 1.0354900660362436),
    (0.01, 1.1, 1000, 1e-5, 1.7117701662429012),
    (0.1, 1.0, 100, 1e-5, 7.903850223578231),
    (0.01, 0.5, 100, 1e-6, 9.501578972667883),
    (1.0, 4.0, 30, 1e-5, 6.813318185854952),
    (0.2, 2.0, 50, 1e-4, 3.324812617113837),
    (0.001, 0.8, 5000, 1e-7, 1.905799401857784),
];

#[test]
fn epsilon_is_that_of_an_outside_accountant() {
    for (sampling, noise_multiplier, rounds, delta, expected) in OUTSIDE {
        let epsilon = Accountant::new(sampling, noise_multiplier, delta).epsilon(rounds);
        let error = epsilon / expected - 1.0;
        assert!(
            (-1e-3..1e-9).contains(&error),
            "{sampling} {noise_multiplier}: {epsilon}, {expected}"
        );
    }
}

/// The same of cohorts of a fixed size, of neighbours of which one client is another. The outside accountant has a
/// finer bound.
const OUTSIDE_FIXED: [(f64, f64, u32, f64, f64); 3] = [
    (0.01, 2.0, 100, 1e-5, 0.43473118331365956),
    (0.1, 4.0, 50, 1e-5, 1.574959636381346),
    (0.1, 1.0, 30, 1e-3, 5.274724010639935),
];

#[test]
fn epsilon_of_a_fixed_size_is_at_most_two_thirds_above_that_of_an_outside_accountant() {
    for (sampling, noise_multiplier, rounds, delta, expected) in OUTSIDE_FIXED {
        let accountant = Accountant::of_fixed_size(sampling, noise_multiplier, delta);
        let ratio = accountant.epsilon(rounds) / expected;
        assert!(
            (0.999..1.7).contains(&ratio),
            "{sampling} {noise_multiplier}: {ratio}"
        );
    }
}

/// Abadi et al. 2016, Section 5.1, give 1.26; their last step is that of Mironov 2017, Proposition 3.
#[test]
fn ten_thousand_steps_of_abadi_cost_1_26() {
    let (rounds, delta) = (10_000.0, 1e-5_f64);
    let accountant = Accountant::new(0.01, 4.0, delta);
    let of = |&(order, one): &(f64, f64)| rounds * one - delta.ln() / (order - 1.0);
    let each = accountant.divergences().iter().map(of);
    let epsilon = each.fold(f64::INFINITY, f64::min);
    assert!((epsilon - 1.26).abs() < 0.005, "{epsilon}");
    assert!(accountant.epsilon(10_000) < epsilon);
}

#[test]
fn more_rounds_cost_more_and_none_costs_nothing() {
    let accountant = Accountant::new(0.1, 1.0, 1e-5);
    let spent: Vec<f64> = (0..5).map(|rounds| accountant.epsilon(rounds)).collect();
    assert_eq!(spent[0], 0.0);
    assert!(spent.windows(2).all(|pair| pair[0] < pair[1]), "{spent:?}");
    assert_eq!(Accountant::new(0.1, 0.0, 1e-5).epsilon(1), f64::INFINITY);
}
