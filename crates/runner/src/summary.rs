//! The summary of a run, from both sides of it.

use zfl_experiment::{Choice, Experiment};
use zfl_netsim::{LaneStats, SwitchStats};
use zfl_run_dir::{Failure, FleetSummary, Frames, NetworkStats, RunSummary, TrainingSummary};

/// Both sides of a run together.
pub(crate) fn summarise(
    experiment: &Experiment,
    mut training: TrainingSummary,
    mut fleet: FleetSummary,
    interrupted_by: Option<&'static str>,
    wall_s: f64,
) -> RunSummary {
    training.success &= interrupted_by.is_none();
    let of_settings = experiment.depends_on_time();
    training.depends_on_time.splice(0..0, of_settings);
    let no_update = std::mem::take(&mut training.client_failures);
    let died = std::mem::take(&mut fleet.deaths);
    let of_deaths = died
        .iter()
        .map(|death| format!("client {}: {}", death.client, death.reason));
    training.depends_on_time.extend(of_deaths);
    let no_update = no_update.into_iter().map(Failure::NoUpdate);
    RunSummary {
        name: experiment.name.clone(),
        training,
        interrupted_by: interrupted_by.map(str::to_owned),
        body: match experiment.body {
            None if !experiment.groups.is_empty() => Some("mixed".to_owned()),
            body => body.map(|body| body.name().to_owned()),
        },
        board: experiment.board.as_ref().map(|board| board.name.clone()),
        wall_s,
        fleet,
        failures: no_update
            .chain(died.into_iter().map(Failure::Died))
            .collect(),
    }
}

/// Frames on all links of a switch together.
pub(crate) fn network_stats(switch: &SwitchStats) -> NetworkStats {
    let (mut up, mut down) = (Frames::default(), Frames::default());
    for client in switch.clients.values() {
        add(&mut up, &client.uplink);
        add(&mut down, &client.downlink);
    }
    let punctuality = switch.punctuality;
    NetworkStats {
        since_round: None,
        up,
        down,
        // A fleet without frames was never late.
        mean_late_ms: punctuality.late_ns as f64 / punctuality.timed_frames.max(1) as f64 / 1e6,
        worst_late_ms: punctuality.worst_late_ns as f64 / 1e6,
        late_frames: punctuality.late_frames,
        real_time: switch.real_time,
    }
}

fn add(frames: &mut Frames, lane: &LaneStats) {
    frames.offered += lane.frames;
    frames.offered_bytes += lane.bytes;
    frames.lost += lane.lost;
    frames.dropped += lane.queue_drops + lane.cut_drops;
    frames.tcp_segments += lane.tcp_segments;
    frames.tcp_retransmissions += lane.tcp_retransmissions;
    frames.tcp_dropped += lane.tcp_dropped;
}

#[cfg(test)]
mod tests {
    use super::*;
    use zfl_netsim::ClientStats;

    #[test]
    fn frames_are_those_of_all_links() {
        let lane = |frames, lost| LaneStats {
            frames,
            lost,
            cut_drops: 1,
            ..LaneStats::default()
        };
        let client = |frames| ClientStats {
            uplink: lane(frames, 2),
            downlink: lane(1, 0),
            ..ClientStats::default()
        };
        let mut switch = SwitchStats {
            clients: [(0, client(10)), (1, client(20))].into(),
            ..SwitchStats::default()
        };
        assert_eq!(network_stats(&switch).mean_late_ms, 0.0);
        (switch.punctuality.timed_frames, switch.punctuality.late_ns) = (4, 2_000_000);
        let stats = network_stats(&switch);
        assert_eq!(
            (stats.up.offered, stats.up.lost, stats.up.dropped),
            (30, 4, 2)
        );
        assert_eq!(stats.down.offered, 2);
        assert_eq!(stats.mean_late_ms, 0.5);
    }
}
