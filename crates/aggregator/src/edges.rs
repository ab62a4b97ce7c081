//! The side of an edge that the aggregator above sees: its orders, the sums that it sends, and who is there of
//! its cluster.
//!
//! An edge joins as a client whose ID is behind those of all clients. The machine of the rounds knows clients
//! alone: a `/start` to an edge is that of all its clients in the cohort, and its sums are the updates of those
//! in them. So cohorts, records and failures are those of a run without edges.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::body::Bytes;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use fl_algo::{ExactMean, ExactSum, LocalParams, MODEL, Partial, Update, Way};
use fl_proto::cluster::{
    COHORT, CONTROL_PER_CLIENT, ClusterReport, Orders, PARTIAL_SUMS, PartialResults, Sum, SumCodec,
    parse_sums,
};
use fl_proto::codec::{F32, Plan};
use fl_proto::message::Outgoing;
use fl_proto::{Query, Token};
use fl_round::{ClientState, Measured, Start};
use http_body_util::{BodyExt, Limited};
use tokio::task::JoinSet;
use zfl_run_dir::{ClientRecord, Event};

use crate::broadcast::Broadcast;
use crate::config::{Config, Weighting};
use crate::device::Devices;
use crate::gateways::with_local;
use crate::http::{Sender, ok_json, rejected};
use crate::rounds::{Rounds, answer_to};
use crate::shared::{Refusal, Shared, State as RunState, check_numbers, refusal};
use crate::token;

/// Octets of a packed number at the most, and of all else in a message of sums.
const MOST_OF_A_NUMBER: usize = 48;
const MOST_OF_THE_REST: usize = 4096;

/// Longest reason that an edge may give, in characters.
const REASON: usize = 160;

/// An order of a round to an edge.
#[derive(Debug, Default)]
pub(crate) struct EdgeOrder {
    round: u32,
    token: Option<Token>,
    /// Clients of its cluster whose `/start` waits for that of the edge.
    waiting: Vec<u32>,
    /// A `/start` is under way.
    under_way: bool,
}

/// Greatest length of the sums of an edge.
pub(crate) fn longest_sums(config: &Config) -> usize {
    let numbers: usize = config.sections(Way::Up).map(|section| section.count).sum();
    // Any edge may be given the clients of another.
    let control = (config.clients as usize).saturating_mul(CONTROL_PER_CLIENT);
    let sums = numbers.saturating_mul(MOST_OF_A_NUMBER + 1);
    sums.saturating_add(control)
        .saturating_add(MOST_OF_THE_REST)
}

/// Checks that a client joins where it belongs.
///
/// # Errors
/// The place where it does, for a person.
pub(crate) fn check(shared: &Shared, query: &Query) -> Result<(), String> {
    let config = &shared.config;
    if let (Some(orders), Some(wish)) = (shared.orders.get(), query.client)
        && !orders.cluster().contains(&wish)
        && shared.cluster(wish).is_none()
    {
        let Range { start, end } = orders.cluster();
        return Err(format!(
            "client {wish} is not behind this edge, which has {start} to {}",
            end.saturating_sub(1)
        ));
    }
    if config.clusters.is_empty() {
        return Ok(());
    }
    let Some(wish) = query.client else {
        return Err("only edges join here, each with the ID that it was given".to_owned());
    };
    match shared.edge_of(wish) {
        Some(edge) => Err(format!(
            "client {wish} is behind edge {}: it joins there",
            edge - config.clients
        )),
        None => Ok(()),
    }
}

impl Shared {
    /// Examples that a client trains on.
    pub(crate) fn num_examples(&self, client: u32) -> u32 {
        self.partition.indices(client as usize).len() as u32
    }
}

/// A `/start` to an edge, which is that of all its clients.
pub(crate) struct EdgeStart<'a> {
    pub shared: &'a Arc<Shared>,
    pub devices: &'a Devices,
    /// The whole cohort, and what is planned for it.
    pub cohort: &'a BTreeMap<u32, Orders>,
    pub broadcast: &'a Broadcast,
}

impl EdgeStart<'_> {
    /// Sends it, unless it is under way: then the client waits for its answer, too.
    ///
    /// # Errors
    /// If the order cannot be encoded.
    pub fn send(&self, start: Start, starts: &mut JoinSet<()>) -> Result<()> {
        let Start { client, round, .. } = start;
        let config = &self.shared.config;
        let edge = self
            .shared
            .edge_of(client)
            .context("the client has no edge")?;
        let token = self.shared.with(|state, _| {
            let order = state.edges.entry(edge).or_default();
            if order.round != round {
                *order = EdgeOrder {
                    round,
                    token: token::word(rand::random()),
                    ..EdgeOrder::default()
                };
            }
            order.waiting.push(client);
            let is_first = !std::mem::replace(&mut order.under_way, true);
            order.token.clone().filter(|_| is_first)
        });
        let Some(token) = token else { return Ok(()) };
        let cluster = self.shared.cluster(edge).unwrap_or_default();
        let cohort = self.cohort_of(&cluster);
        let order = self.broadcast.with(&Outgoing {
            name: COHORT,
            codec: &F32,
            plan: Plan::default(),
            numbers: &cohort,
        })?;
        let order = with_local(self.shared, round, self.cohort, &cluster, order)?;
        let local = LocalParams {
            learning_rate: config.learning_rate,
            local_epochs: config.local_epochs,
            batch_size: config.batch_size,
            params: config.algorithm.device_params,
        };
        let message = config.start(round, token, local, 0);
        let (shared, devices) = (self.shared.clone(), self.devices.clone());
        let asked = Start {
            client: edge,
            ..start
        };
        starts.spawn(async move {
            let answer = answer_to(&shared, &devices, asked, Some(message), &order).await;
            shared.with(|state, now_us| {
                let order = state.edges.entry(edge).or_default();
                if order.round != round {
                    return;
                }
                order.under_way = false;
                for client in std::mem::take(&mut order.waiting) {
                    let answer = answer.clone();
                    state.machine.start_answered(now_us, client, round, answer);
                }
            });
        });
        Ok(())
    }

    /// Numbers of the section `cohort` of an edge.
    fn cohort_of(&self, cluster: &Range<u32>) -> Vec<f32> {
        let those = self.cohort.range(cluster.clone());
        those
            .flat_map(|(client, orders)| [*client as f32, f32::from(orders.bits())])
            .collect()
    }
}

impl Rounds {
    /// Sends an edge its order, once for all of its clients.
    ///
    /// # Errors
    /// If the order cannot be encoded.
    pub(crate) fn start_edge(&mut self, start: Start, broadcast: &Broadcast) -> Result<()> {
        EdgeStart {
            shared: &self.shared,
            devices: &self.devices,
            cohort: &self.planned,
            broadcast,
        }
        .send(start, &mut self.starts)
    }

    /// Notes the cohort of a round, and what is planned for it.
    pub(crate) fn plan(&mut self, cohort: &[u32]) {
        let faults = &self.faults;
        let orders = |client: &u32| Orders {
            will_fail: faults.will_fail.contains(client),
            corrupt: faults.corrupt.contains(client),
            straggler: self.stragglers.contains(client),
        };
        self.planned = cohort
            .iter()
            .map(|client| (*client, orders(client)))
            .collect();
    }
}

/// Takes word of an edge about its cluster.
pub(crate) async fn report(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let edge = match Sender::from_request_parts(&mut parts, &shared).await {
        Ok(Sender(edge)) => edge,
        Err(refused) => return refused,
    };
    let most = longest_sums(&shared.config);
    let taken = async {
        let cluster = shared.cluster(edge).ok_or("no edge has this ID")?;
        let body = Limited::new(body, most).collect().await;
        let body = body.map_err(|_| "the report is too long, or broken off")?;
        let report: ClusterReport = serde_json::from_slice(&body.to_bytes())
            .map_err(|_| "the report is not that of a cluster")?;
        shared.with(|state, now_us| {
            if state.lost_edges.contains(&edge) {
                return Err("this edge is lost");
            }
            apply(state, &shared, now_us, &cluster, &report)
        })
    };
    match taken.await {
        Ok(()) => ok_json(&serde_json::json!({})),
        Err(why) => rejected(
            &shared,
            Some(edge),
            Refusal(StatusCode::BAD_REQUEST, why.to_owned()),
        ),
    }
}

/// Takes in who is there of a cluster. Whoever has a place in the open round keeps it: its edge answers for it.
fn apply(
    state: &mut RunState,
    shared: &Shared,
    now_us: u64,
    cluster: &Range<u32>,
    report: &ClusterReport,
) -> Result<(), &'static str> {
    if report.states.len() != cluster.len() {
        return Err("the report is of another cluster");
    }
    for (client, letter) in cluster.clone().zip(report.states.bytes()) {
        let machine = &mut state.machine;
        let known = machine.state(client).unwrap_or_default();
        match (letter, known) {
            (_, ClientState::Busy) => {}
            (b'r', ClientState::Absent | ClientState::Lost) => {
                machine.joined(now_us, client);
                shared.log.emit(Event::ClientJoined {
                    client,
                    address: "its edge".to_owned(),
                    again: false,
                });
                state.gone.remove(&client);
                state.machine.fetched(now_us, client);
                state.machine.ready(now_us, client);
            }
            (b'r', _) => {
                machine.fetched(now_us, client);
                machine.ready(now_us, client);
            }
            (b'l', known) if known != ClientState::Lost => {
                let why = report.lost.get(&client).map_or("gone", String::as_str);
                machine.lost(now_us, client, &plain(why));
            }
            (b'a', ClientState::Ready | ClientState::Suspect | ClientState::Fetched) => {
                machine.reboots(now_us, client, "it is on its way back to its edge");
            }
            (b's', _) => machine.suspected(now_us, client),
            (b'a', ClientState::Lost) => machine.expected(now_us, client),
            _ => {}
        }
    }
    Ok(())
}

fn plain(why: &str) -> String {
    zfl_text::plain(&why.chars().take(REASON).collect::<String>())
}

/// Takes the sums of an edge in: all of them, or none.
///
/// # Errors
/// [`Refusal`] with the status and the reason.
pub(crate) fn take_sums(
    shared: &Shared,
    edge: u32,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(), Refusal> {
    let cluster = shared.cluster(edge).unwrap_or_default();
    let media_type = headers.get(header::CONTENT_TYPE);
    if media_type.is_none_or(|own| own != PARTIAL_SUMS) {
        let why = format!("an edge sends {PARTIAL_SUMS}");
        return Err(Refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let (control, sums) = parse_sums(body).map_err(|error| bad(error.to_string()))?;
    if control.len() > CONTROL_PER_CLIENT * (cluster.len() + 1) {
        return Err(bad("the control message is too long"));
    }
    let control: PartialResults = serde_json::from_slice(control)
        .map_err(|error| bad(format!("malformed control message: {error}")))?;
    check_clients(shared, &cluster, &control)?;
    let partial = decoded(shared, &control, &sums)?;
    let update = summed(shared, edge, &control, partial)?;
    place(shared, edge, &cluster, control, update)
}

fn bad(why: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, why.into())
}

/// Checks that clients are of the cluster, each there once, with the examples that it has.
fn check_clients(
    shared: &Shared,
    cluster: &Range<u32>,
    control: &PartialResults,
) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    let counted = control.counted.iter().map(|one| one.client);
    for client in counted.chain(control.failed.keys().copied()) {
        if !cluster.contains(&client) || !seen.insert(client) {
            return Err(bad(format!(
                "client {client} is not of this cluster, or there twice"
            )));
        }
    }
    for one in &control.counted {
        let (client, has) = (one.client, shared.num_examples(one.client));
        let results = &one.results;
        if results.num_examples != has || results.round != control.round {
            let why = format!("client {client} has {has} examples in this round, not those");
            return Err(bad(why));
        }
    }
    Ok(())
}

/// The sums, decoded and checked against the model and the clients in them.
fn decoded(
    shared: &Shared,
    control: &PartialResults,
    sums: &[Sum<'_>],
) -> Result<Partial, Refusal> {
    let config = &shared.config;
    let each = |client: u32| match config.weighting {
        Weighting::NumExamples => u128::from(shared.num_examples(client)),
        Weighting::Uniform => 1,
    };
    let weight: u128 = control.counted.iter().map(|one| each(one.client)).sum();
    if control.weight.parse() != Ok(weight) {
        return Err(bad(format!(
            "a weight of {}, that of these clients is {weight}",
            plain(&control.weight)
        )));
    }
    let mut partial = Partial::new(0, []);
    for spec in config.sections(Way::Up) {
        let name = spec.name;
        let sum = sums.iter().find(|sum| sum.name == name);
        let sum = sum.ok_or_else(|| bad(format!("section {name} is missing")))?;
        if sum.count as usize != spec.count {
            let (got, want) = (sum.count, spec.count);
            return Err(bad(format!(
                "section {name}: {got} numbers, {want} are expected"
            )));
        }
        let weight = if name == MODEL { weight } else { 1 };
        let numbers = decode(sum, weight)
            .ok_or_else(|| bad(format!("section {name}: these octets are no sum")))?;
        if name == MODEL {
            let mean = ExactMean::of_sum(numbers, weight);
            partial.mean = mean.map_err(|error| bad(error.to_string()))?;
        } else {
            partial.changes.insert(name.to_owned(), numbers);
        }
    }
    let wanted = |name: &str| config.sections(Way::Up).any(|own| own.name == name);
    match sums.iter().find(|sum| !wanted(&sum.name)) {
        Some(sum) => Err(bad(format!("section {} is not wanted", sum.name))),
        None => Ok(partial),
    }
}

/// The numbers of a sum; a rounded mean counts as often as its weight.
fn decode(sum: &Sum<'_>, weight: u128) -> Option<ExactSum> {
    let len = sum.count as usize;
    match sum.codec {
        SumCodec::Exact => ExactSum::unpack(sum.payload, len),
        SumCodec::Rounded => {
            let (numbers, rest) = sum.payload.as_chunks::<4>();
            if numbers.len() != len || !rest.is_empty() {
                return None;
            }
            let numbers: Vec<f32> = numbers.iter().map(|it| f32::from_le_bytes(*it)).collect();
            let mut exact = ExactSum::new(len);
            exact.add(u64::try_from(weight).ok()?, &numbers).ok()?;
            Some(exact)
        }
    }
}

/// An update that stands for the sums; none if no client is in them.
///
/// # Errors
/// If no model can be made of them.
fn summed(
    shared: &Shared,
    edge: u32,
    control: &PartialResults,
    partial: Partial,
) -> Result<Option<Update>, Refusal> {
    let Some(first) = control.counted.first() else {
        return Ok(None);
    };
    let useless = |why: String| Refusal(StatusCode::UNPROCESSABLE_ENTITY, why);
    let mean = partial.mean.mean();
    let mean = mean.map_err(|error| useless(error.to_string()))?;
    for (name, sum) in &partial.changes {
        let change = sum.divided(control.counted.len() as u128);
        let change = change.map_err(|error| useless(error.to_string()))?;
        check_numbers(name, &change).map_err(useless)?;
    }
    let sections = [(MODEL.to_owned(), mean)].into();
    shared.check(first.client, &sections).map_err(useless)?;
    Ok(Some(Update {
        client: edge,
        round: control.round,
        sections,
        partial: Some(Box::new(partial)),
        ..Update::default()
    }))
}

/// Gives the machine the updates that are in the sums, if it awaits all of them.
fn place(
    shared: &Shared,
    edge: u32,
    cluster: &Range<u32>,
    control: PartialResults,
    update: Option<Update>,
) -> Result<(), Refusal> {
    let PartialResults {
        round,
        token,
        counted,
        failed,
        cluster: report,
        bytes,
        work,
        ..
    } = control;
    let records: Vec<(ClientRecord, Measured)> = counted
        .iter()
        .map(|one| {
            let (mut record, measured) = shared.record(one.client, &one.results);
            record.round_s = Some(one.round_ms as f64 / 1e3);
            (record, measured)
        })
        .collect();
    // Bytes of edges further down come by this one; those of its own edges the aggregator counts itself.
    let is_edge = |id: u32| id >= shared.config.clients && shared.cluster(id).is_none();
    let is_below = |id: u32| cluster.contains(&id) || is_edge(id);
    shared.with(|state, now_us| {
        if state.lost_edges.contains(&edge) {
            return Err(Refusal(StatusCode::GONE, "this edge is lost".to_owned()));
        }
        let order = state.edges.get(&edge);
        let asked = order.filter(|order| order.round == round && order.token == Some(token));
        if asked.is_none() {
            let why = "the token is not that of this /start".to_owned();
            return Err(Refusal(StatusCode::FORBIDDEN, why));
        }
        let mut tokens = BTreeMap::new();
        for one in &counted {
            let Some(token) = state.machine.awaits(one.client, round) else {
                let why = format!("client {} is not awaited in round {round}", one.client);
                return Err(Refusal(StatusCode::GONE, why));
            };
            tokens.insert(one.client, token);
        }
        for (client, (up, down)) in bytes {
            if is_below(client) {
                state.roster.count(client, up, down);
            }
        }
        let work = work.into_iter();
        state
            .work
            .extend(work.filter(|(id, _)| *id == edge || is_edge(*id)));
        for (client, why) in failed {
            let why = plain(&why);
            state.machine.gave_up(now_us, client, round, &why);
        }
        // Before the last of them may close the round.
        state.sums.extend(update.map(|update| (update, counted)));
        for (record, measured) in records {
            let token = tokens.get(&record.client).copied();
            let placed = state.place(now_us, token, (record, measured), None);
            placed.map_err(|refused| refusal(&refused))?;
        }
        state.edges.remove(&edge);
        apply(state, shared, now_us, cluster, &report).map_err(bad)
    })
}
