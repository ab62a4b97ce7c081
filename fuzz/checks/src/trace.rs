//! Availability traces in JSON.

use crate::Verdict;
use zfl_orchestrator::faults::{FaultConfig, FaultPlan, Trace};

pub(crate) fn check(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Verdict::Refused;
    };
    let trace = Trace::parse(text);
    let verdict = Verdict::of(&trace);
    if let Ok(trace) = trace {
        for client in [0, 1, u32::MAX] {
            for time in [0.0, 1.5, f64::MAX, f64::NAN] {
                trace.is_on(client, 1, time);
            }
        }
        // The plan has a fault for each client that the trace takes away, and for no other.
        let away: Vec<_> = (0..4)
            .filter(|client| !trace.is_on(*client, 1, 0.0))
            .collect();
        if let Ok(plan) = FaultPlan::new(FaultConfig::default(), Some(trace), 1, 4) {
            let planned: Vec<_> = plan.round(1, 0.0).into_keys().collect();
            assert_eq!(planned, away);
        }
    }
    verdict
}
