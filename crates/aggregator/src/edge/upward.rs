//! Requests of an edge to the aggregator above: joining, sums, and who is there.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use fl_proto::cluster::ClusterReport;
use fl_proto::{DeviceState, Welcome};
use fl_round::ClientState;
use tokio::sync::Notify;

use crate::log::lock;
use crate::shared::{Shared, State};
use crate::upstream::{Above, Orders, Upstream, UpstreamError};

use super::Edge;

/// Pauses between two tries of a request to the aggregator above.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Interval in which an edge below another says that it is there: one that begins anew knows it by that.
const BEAT: Duration = Duration::from_secs(1);

/// Time in which changes of a cluster are told together.
const TOGETHER: Duration = Duration::from_millis(20);

impl Edge {
    /// Meets the aggregator above in a network of its own.
    #[must_use]
    pub fn with_above(mut self, above: Above) -> Self {
        let upstream = Upstream {
            sockets: above.sockets,
            ..(*self.upstream).clone()
        };
        self.upstream = Arc::new(upstream);
        self.above = Some(above.listener);
        self
    }
}

/// Clients of a cluster that are there.
pub(super) fn cluster_report(state: &State, cluster: &Range<u32>) -> ClusterReport {
    let letter = |client| match state.machine.state(client).unwrap_or_default() {
        ClientState::Absent | ClientState::Joined | ClientState::Fetched => 'a',
        ClientState::Ready => 'r',
        ClientState::Busy => 'b',
        ClientState::Suspect => 's',
        ClientState::Lost => 'l',
    };
    let lost = state
        .gone
        .iter()
        .filter(|(client, _)| cluster.contains(client));
    ClusterReport {
        states: cluster.clone().map(letter).collect(),
        lost: lost
            .map(|(client, why)| (*client, why.chars().take(160).collect()))
            .collect(),
    }
}

/// Joins the aggregator above, as often as it takes.
///
/// # Errors
/// If it refuses for good, or has another experiment.
pub(super) async fn join(shared: &Shared, upstream: &Upstream, port: u16) -> Result<()> {
    let mut pause = PAUSE;
    loop {
        match upstream.join(port).await {
            Ok(welcome) => return check(shared, upstream, &welcome),
            Err(UpstreamError::Refused(status, why)) if status.as_u16() == 422 => {
                bail!(
                    "the aggregator at {} refuses this edge: {why}",
                    upstream.server
                )
            }
            Err(_) => {
                zfl_clock::sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Checks that the aggregator above has the same experiment.
fn check(shared: &Shared, upstream: &Upstream, welcome: &Welcome) -> Result<()> {
    let config = &shared.config;
    let examples: u32 = {
        let cluster = shared.orders.get().map(Orders::cluster);
        cluster
            .unwrap_or_default()
            .map(|id| shared.num_examples(id))
            .sum()
    };
    let layers: &[u32] = config.model.shape().sizes();
    let is_same = welcome.id == upstream.id
        && welcome.seed == config.seed
        && welcome.rule == config.rule()
        && welcome.layers == layers
        && welcome.num_examples == examples;
    ensure!(
        is_same,
        "the aggregator at {} has another experiment than this edge: give both the same file and flags",
        upstream.server
    );
    Ok(())
}

/// Posts sums until they are answered; true if they were taken.
pub(super) async fn keep_sending(upstream: &Upstream, body: Bytes) -> bool {
    let mut pause = PAUSE;
    loop {
        match upstream.sums(body.clone()).await {
            Ok(()) => return true,
            Err(UpstreamError::Refused(status, _)) if !is_passing(status.as_u16()) => return false,
            Err(_) => {
                zfl_clock::sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        }
    }
}

fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429) || status >= 500
}

/// Tells the aggregator above who is there, whenever that changes and no round is under way.
pub(super) async fn report(
    shared: Arc<Shared>,
    upstream: Arc<Upstream>,
    changed: Arc<Notify>,
    port: u16,
    level: u32,
) {
    let Some(orders) = shared.orders.get() else {
        return;
    };
    let mut events = shared.log.subscribe();
    let mut last = None;
    loop {
        let idle = *lock(&orders.state) == DeviceState::Ready;
        let now = shared.look(|state| cluster_report(state, &orders.cluster()));
        if idle && last.as_ref() != Some(&now) {
            let body = serde_json::to_vec(&now).unwrap_or_default();
            match upstream.report(body.into()).await {
                Ok(()) => last = Some(now),
                Err(UpstreamError::Refused(status, _)) if matches!(status.as_u16(), 403 | 404) => {
                    // The aggregator above has begun anew.
                    let _ = upstream.join(port).await;
                    zfl_clock::sleep(PAUSE).await;
                    continue;
                }
                Err(_) => {
                    zfl_clock::sleep(LONGEST_PAUSE).await;
                    continue;
                }
            }
        }
        tokio::select! {
            event = events.recv() => {
                if matches!(event, Err(tokio::sync::broadcast::error::RecvError::Closed)) {
                    return;
                }
                zfl_clock::sleep(TOGETHER).await;
                while events.try_recv().is_ok() {}
            }
            () = changed.notified() => {}
            () = zfl_clock::sleep(BEAT), if level > 1 => last = None,
        }
    }
}
