// The page: what it knows of the run, the views on it, and the stream that keeps it up to date.

import { bytes, count, el, figures, fixed, joules, mips, percent, printable, seconds, table } from "./format.js";
import * as charts from "./charts.js";
import * as faults from "./faults.js";
import * as fleet from "./fleet.js";
import * as tree from "./tree.js";
import * as mesh from "./mesh.js";
import * as evaluation from "./evaluation.js";
import * as control from "./control.js";

const $ = (id) => document.getElementById(id);
const run = { info: null, rounds: [], devices: new Map(), faults: new Map() };
const page = { view: "run", axis: "round", faultAxis: "round", device: null, logOffset: null, logTimer: null, history: [] };

// ---- What the server sends

async function get(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function load() {
  const [info, rounds, devices, known] = await Promise.all(
    [get("/api/run"), get("/api/rounds"), get("/api/devices"), get("/api/faults")]);
  run.info = info; run.rounds = rounds;
  run.faults = new Map(known.map((f) => [f.number, f]));
  run.devices = new Map(devices.map((d) => [d.client, d]));
  document.body.dataset.loaded = "true";
  showAll();
  control.begin();
}

// What the stream brings. Each message holds its objects whole, so one that comes twice does no harm.
const NEWS = {
  run(info) {
    const isNews = run.info?.state !== info.state;
    run.info = { ...run.info, ...info };
    showRun();
    if (page.view === "fleet") showTree();
    if (isNews) showEvaluation();
  },
  rounds(changed) {
    for (const round of changed) {
      const at = run.rounds.findIndex((r) => r.round === round.round);
      if (at >= 0) run.rounds[at] = round; else run.rounds.push(round);
    }
    showRounds();
    showEvaluation();
  },
  devices(changed) {
    const before = run.devices.size;
    for (const d of changed) run.devices.set(d.client, d);
    if (run.devices.size !== before) showChoices();
    showDevices(changed.map((d) => d.client));
  },
  faults(changed) {
    for (const f of changed) run.faults.set(f.number, f);
    if (page.view === "faults") showFaults();
  },
};

function tell(name, text) {
  const began = performance.now();
  NEWS[name](JSON.parse(text));
  // Read by the browser test: the longest that an update kept the page busy.
  const took = performance.now() - began;
  document.body.dataset.slowestUpdateMs = Math.max(took, Number(document.body.dataset.slowestUpdateMs ?? 0)).toFixed(1);
}

function follow() {
  const stream = new EventSource("/api/events");
  // The stream tells what changes from its opening on, so everything is asked for after that; what
  // comes meanwhile waits.
  let waiting = [];
  for (const name of Object.keys(NEWS)) {
    stream.addEventListener(name, (e) => { if (waiting) waiting.push([name, e.data]); else tell(name, e.data); });
  }
  const loadAll = () => load().then(() => {
    for (const [name, text] of waiting) tell(name, text);
    waiting = null;
  }).catch((error) => { badge(`cannot load the run: ${error.message}`, "failed"); setTimeout(loadAll, 2000); });
  stream.onopen = () => { waiting = []; loadAll(); };
  stream.onerror = () => {
    if (run.info == null || run.info.state === "running") badge("connection lost", "failed");
    // A refusal ends the stream for good; anything else it tries again by itself.
    if (stream.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
  };
}

// ---- The run

function badge(text, state) {
  const node = $("state");
  if (node.textContent !== text) node.textContent = text;
  node.dataset.state = state;
}

const PHASES = { waiting_for_ready: "waiting for devices", cohort_chosen: "cohort chosen", training: "training", aggregating: "aggregating", evaluating: "evaluating", devices_evaluate: "devices evaluate", finished: "finished" };

function showRun() {
  const i = run.info;
  if (!i) return;
  const phase = PHASES[i.phase] ?? i.phase;
  badge(i.state === "running" ? `round ${i.round} of ${i.rounds}: ${phase}` : i.state, i.state);
  document.title = i.state === "running" ? `${i.round}/${i.rounds} · zfl` : `${i.state} · zfl`;
  $("run-name").textContent = i.name;
  control.show(i, run.devices.get(page.device));
  const done = run.rounds.filter((r) => r.round > 0).length;
  $("progress-bar").style.width = `${(100 * done) / Math.max(1, i.rounds)}%`;
  $("progress").setAttribute("aria-valuemax", i.rounds);
  $("progress").setAttribute("aria-valuenow", done);
  const simulated = i.simulated_s == null && i.energy_j == null ? [] :
    [["Simulated time", seconds(i.simulated_s)], ["Energy (estimate)", joules(i.energy_j)]];
  $("figures").classList.toggle("more", simulated.length > 0);
  figures($("figures"), [
    ["Round", `${i.round} of ${i.rounds}`], ["Phase", i.state === "running" ? phase : i.state],
    ["Test accuracy", percent(i.accuracy)], ["Test loss", fixed(i.loss)], ["Best accuracy", percent(i.best_accuracy)],
    ["Ready", i.ready], ["Training", i.training], ["Dead", i.dead],
    ["Bytes up", bytes(i.bytes_up)], ["Bytes down", bytes(i.bytes_down)],
    ["Elapsed", seconds(i.elapsed_s)], ["To go", i.state === "running" ? seconds(i.eta_s) : "–"], ...simulated,
  ]);
  const notes = [
    i.reason?.replace(/[^.!?]$/, "$&."),
    i.state === "interrupted" && "The events end without a word: the run was broken off.",
    i.resumed_from.length > 0 && `It was broken off and resumed after round ${i.resumed_from.join(", ")}.`,
    Object.keys(i.by_hand).length > 0 && `Changed by remote control (${Object.entries(i.by_hand).map(([action, n]) => `${n} ${action}`).join(", ")}): the command does not repeat this run.`,
    i.unreadable_events && `${i.unreadable_events} lines of events.jsonl could not be read.`,
    ...i.damage.map((line) => `${line}.`),
  ].filter(Boolean).join(" ");
  $("note").hidden = notes === "";
  if ($("note").textContent !== notes) $("note").textContent = notes;
}

const AXES = {
  round: ["Round", (r) => r.round, (v) => String(Math.round(v * 100) / 100)],
  bytes: ["Bytes up and down", (r) => r.total_bytes, bytes],
  wall: ["Wall time", (r) => r.elapsed_s, seconds],
  simulated: ["Simulated time", (r) => (r.round === 0 ? 0 : r.simulated_elapsed_s), seconds],
  device: ["Device time", (r) => r.device_elapsed_s, seconds],
};

function showRounds() {
  if (page.view !== "run") return;
  const rounds = [...run.rounds].sort((a, b) => a.round - b.round);
  const [xLabel, x, xValues] = AXES[page.axis];
  const shown = rounds.filter((r) => x(r) != null);
  const xs = shown.map(x);
  const empty = "The first evaluation is not done yet.";
  const base = { xLabel, xValues, empty, xIncrs: page.axis === "round" ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] : undefined };
  charts.draw("chart-accuracy", { ...base, key: page.axis, yLabel: "Accuracy (%)", yValues: (v) => `${v.toFixed(2)} %`, yTicks: String,
    series: [{ label: "test", color: "--accent", fill: true }] }, [xs, shown.map((r) => (r.test_accuracy == null ? null : 100 * r.test_accuracy))]);
  charts.draw("chart-loss", { ...base, key: page.axis, yLabel: "Cross-entropy (nats)", yValues: (v) => v.toFixed(4), yTicks: String,
    series: [{ label: "test", color: "--accent" }, { label: "training", color: "--accent-2", dash: [6, 4] }] },
    [xs, shown.map((r) => r.test_loss), shown.map((r) => r.train_loss)]);
  const trained = rounds.filter((r) => r.round > 0);
  const n = trained.map((r) => r.round);
  const perRound = { xLabel: "Round", key: "round", xIncrs: base.xIncrs, empty: "The first round is not done yet." };
  charts.draw("chart-time", { ...perRound, yLabel: "Time (s)", yValues: (v) => `${v.toFixed(2)} s`, yTicks: (v) => String(+v.toFixed(3)), yScale: charts.FROM_ZERO,
    series: [{ label: "whole round", color: "--accent", fill: true }, { label: "slowest device's training", color: "--accent-2" }] },
    [n, trained.map((r) => r.round_s), trained.map((r) => r.slowest_train_s)]);
  charts.draw("chart-bytes", { ...perRound, yLabel: "Bytes", yValues: bytes, yScale: charts.FROM_ZERO,
    series: [{ label: "up (from devices)", color: "--accent" }, { label: "down (to devices)", color: "--accent-2" }] },
    [n, trained.map((r) => r.bytes_up), trained.map((r) => r.bytes_down)]);
  evaluation.showNumbers($("figure-numbers"), $("numbers-table"), rounds);
  if ($("rounds-table").closest("details").open) showRoundsTable(rounds);
  showRun();
}

function showRoundsTable(rounds) {
  table($("rounds-table"),
    [["Round"], ["Accuracy"], ["Test loss"], ["Train loss"], ["Cohort"], ["Results"], ["Failures"], ["Time"], ["Up"], ["Down"]],
    rounds.map((r) => [r.round, percent(r.test_accuracy), fixed(r.test_loss), fixed(r.train_loss), r.cohort_size, r.results, r.failures, seconds(r.round_s), bytes(r.bytes_up), bytes(r.bytes_down)]));
}

// ---- The devices

function showDevices(changed) {
  if (page.view === "fleet") {
    fleet.update(run.devices, changed, openDevice);
    applyFilter();
    showCounts();
    showTree();
    $("nobody").hidden = run.devices.size > 0;
  }
  if (page.view === "compare") showCompare();
  if (page.device != null && changed.includes(page.device)) showDevice();
}

function showTree() {
  tree.draw($("figure-tree"), run.info, run.devices, fleet.STATES);
  mesh.draw($("figure-mesh"), run.info, run.devices, fleet.STATES, openDevice);
  control.show(run.info, run.devices.get(page.device));
}

function applyFilter() {
  fleet.applyFilter(run.devices, $("filter").value, $("filter-group").value);
}

function showCounts() {
  const counts = {};
  for (const d of run.devices.values()) counts[d.state] = (counts[d.state] ?? 0) + 1;
  for (const item of $("legend").children) {
    const n = counts[item.dataset.state] ?? 0;
    const text = `${fleet.STATES[item.dataset.state][1]} ${n}`;
    if (item.textContent !== text) item.textContent = text;
    item.hidden = n === 0;
  }
}

const TIMES = { seconds: 1, milliseconds: 1e-3, microseconds: 1e-6 };
const FORMS = { bytes, count, joules, nats: fixed, seconds, milliseconds: seconds, microseconds: seconds };
const UNITS = { bytes: "bytes", joules: "J", nats: "nats", seconds: "s", milliseconds: "s", microseconds: "s" };

/** What the server's table of metrics has for the page: name, axis, value of a device, and value as text. */
function quantities() {
  const quantity = (m) => [m.name, [
    m.per_round ? `${m.label.toLowerCase()}, last round` : m.label.toLowerCase(),
    UNITS[m.unit] ? `${m.label} (${UNITS[m.unit]})` : m.label,
    (d) => (d[m.name] == null ? null : d[m.name] * (TIMES[m.unit] ?? 1)),
    (v) => FORMS[m.unit](v),
  ]];
  return Object.fromEntries((run.info?.metrics ?? []).map(quantity));
}

const GROUP_COLORS = ["--accent", "--group-2", "--group-3", "--group-4", "--group-5", "--group-6"];

/** What a device is alike with: the name of its group, else its board. */
const groupOf = (d) => d.group ?? d.board ?? "other";
const groupsOf = (devices) => [...new Set([...devices.values()].map(groupOf))];

/** Tells which device the pointer is at. */
function showPoint(entry, at, yValues) {
  const [d, v] = entry ?? [];
  $("compare-point").textContent = d ? `Number ${at + 1}: device ${d.client}, ${groupOf(d)}, ${yValues(v)}. A click opens it.` : "Point at a mark to see whose it is.";
}

function showCompare() {
  const all = quantities();
  if (!all[$("quantity").value]) return;
  const [name, yLabel, value, yValues] = all[$("quantity").value];
  const ranked = [...run.devices.values()].map((d) => [d, value(d)]).filter(([, v]) => v != null && v > 0).sort((a, b) => b[1] - a[1]);
  const chosen = $("compare-device").value === "" ? null : Number($("compare-device").value);
  $("compare-caption").textContent = `Devices by ${name}, the largest first`;
  for (const option of $("quantity").options) {
    option.disabled = option.value !== $("quantity").value && ![...run.devices.values()].some((d) => all[option.value][2](d) > 0);
  }
  const xs = ranked.map((_, i) => i + 1);
  const groups = groupsOf(run.devices);
  const kinds = groups.length > 1 && groups.length <= GROUP_COLORS.length ? groups : [null];
  const points = (kind, i) => ({ label: kind ?? "fleet", color: GROUP_COLORS[i], points: true, size: 6, scatter: kind != null });
  charts.draw("chart-compare", { key: `${name} ${kinds}`, xLabel: "Rank", yLabel, yValues, empty: `No device has told its ${name} yet.`,
    xIncrs: [1, 2, 5, 10, 20, 50, 100], yScale: charts.FROM_ZERO, legend: false,
    onPoint: (at) => showPoint(ranked[at], at, yValues), onClick: (at) => ranked[at] && openDevice(ranked[at][0].client),
    series: [...kinds.map(points), { label: "chosen device", color: "--accent-2", scatter: true, points: true, size: 12 }] },
    [xs, ...kinds.map((kind) => ranked.map(([d, v]) => (kind == null || groupOf(d) === kind ? v : null))), ranked.map(([d, v]) => (d.client === chosen ? v : null))]);
  const values = ranked.map(([, v]) => v);
  if (values.length) {
    const median = values[Math.floor(values.length / 2)];
    const slow = ranked.filter(([, v]) => v > 1.5 * median).length;
    const at = ranked.findIndex(([d]) => d.client === chosen);
    const mine = at < 0 ? "" : ` Device ${chosen} is number ${at + 1} of ${values.length}, ${(values[at] / median).toFixed(2)} times the median.`;
    $("compare-text").textContent = `Median ${yValues(median)}, largest ${yValues(values[0])}; ${slow} of ${values.length} devices are over 1.5 times the median.${mine}`;
  } else $("compare-text").textContent = "";
  table($("compare-table"), [["Device"], ["State", "word"], [yLabel], ["Group", "word"], ["Board", "word wide"], ["Link", "word wide"]],
    ranked.slice(0, 10).map(([d, v]) => [d.client, fleet.STATES[d.state]?.[1] ?? d.state, yValues(v), d.group ?? "–", d.board ?? "–", d.link ?? "–"]));
}

// ---- One device

async function openDevice(client) {
  page.device = client;
  page.logOffset = null;
  page.history = [];
  $("device-log").textContent = "";
  $("device").hidden = false;
  fleet.select(client);
  charts.drop("chart-device");
  showDevice();
  $("device-close").focus();
  clearTimeout(page.logTimer);
  readLog(client);
  readHistory(client);
}

function closeDevice() {
  page.device = null;
  clearTimeout(page.logTimer);
  $("device").hidden = true;
  fleet.focusSelected();
  fleet.select(null);
}

function showDevice() {
  const d = run.devices.get(page.device);
  if (!d) return;
  $("device-title").textContent = `Device ${d.client}`;
  control.show(run.info, d);
  figures($("device-figures"), [
    ["State", fleet.STATES[d.state]?.[1] ?? d.state], ["Why", d.reason], ["By hand", [d.frozen && "frozen", d.link_cut && "link cut"].filter(Boolean).join(", ")], ["Group", d.group], ["Board", d.board ?? "–"], ["Link", d.link ?? "–"],
    ["Speed", d.speed_mips && mips(d.speed_mips)], ["Memory", d.memory_mib && `${d.memory_mib} MiB`],
    ["Last round", d.round || "–"],
    ...(run.info?.metrics ?? []).filter((m) => d[m.name] != null).map((m) => [m.label, FORMS[m.unit](d[m.name] * (TIMES[m.unit] ?? 1))]),
  ].filter(([, value]) => value != null && value !== ""));
  const last = page.history.at(-1)?.round ?? 0;
  if (d.round > last && d.state !== "training") readHistory(d.client);
}

async function readHistory(client) {
  const rows = await get(`/api/devices/${client}/history`).catch(() => []);
  if (page.device !== client) return;
  page.history = rows;
    charts.draw("chart-device", { key: client, xLabel: "Round", yLabel: "Time (ms)", yValues: (v) => `${v.toFixed(1)} ms`, yTicks: String, xIncrs: [1, 2, 5, 10, 20, 50],
    empty: "This device has not finished a round yet.", yScale: charts.FROM_ZERO,
    series: [{ label: "training", color: "--accent", fill: true }] }, [rows.map((r) => r.round), rows.map((r) => r.train_us && r.train_us / 1000)]);
}

async function readLog(client) {
  if (run.info?.devices_elsewhere) {
    $("device-log").textContent = "This device was started elsewhere, and what it prints is there.";
    return;
  }
  try {
    const from = page.logOffset == null ? "" : `?from=${page.logOffset}`;
    const answer = await fetch(`/api/devices/${client}/log${from}`);
    const text = answer.ok ? await answer.text() : "";
    if (page.device !== client) return;
    const log = $("device-log");
    if (answer.ok) page.logOffset = Number(answer.headers.get("x-next-offset"));
    else if (!log.hasChildNodes()) log.append("No log so far.");
    if (text) {
      const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 30;
      if (log.firstChild?.data === "No log so far.") log.replaceChildren();
      // A text node: whatever the device wrote stays text.
      log.append(document.createTextNode(printable(text)));
      while (log.childNodes.length > 200) log.firstChild.remove();
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
  } catch { /* Tried again below. */ }
  if (page.device === client) page.logTimer = setTimeout(readLog, 1000, client);
}

// ---- Faults

function showFaults() {
  const all = [...run.faults.values()].sort((a, b) => a.number - b.number);
  faults.draw($("timeline"), all, Math.max(1, run.info?.rounds ?? 1), run.info?.elapsed_s ?? 0, page.faultAxis);
  if (all.length === 0) { $("faults-table").replaceChildren(); return; }
  const about = (f) => [f.injected && "injected", f.by && `from the ${f.by}`, f.reason, f.over_s != null && `over at ${seconds(f.over_s)}`].filter(Boolean).join("; ");
  table($("faults-table"), [["Round"], ["Device"], ["At"], ["Kind", "word"], ["Reason", "text"]],
    all.slice(-200).reverse().map((f) => [f.round || "–", f.client ?? "–", seconds(f.elapsed_s), f.kind, about(f)]));
}

// ---- Evaluation on the devices

async function showEvaluation() {
  if (page.view !== "evaluation") return;
  const found = await get("/api/evaluation").catch(() => null);
  if (found && page.view === "evaluation") evaluation.show(found, run.rounds);
}

// ---- Data and configuration

function showData() {
  const split = run.info?.split;
  const canvas = $("split");
  if (!split?.length) { $("split-text").textContent = "The split is not known."; canvas.hidden = true; $("figure-stacks").hidden = true; return; }
  canvas.hidden = false;
  $("figure-stacks").hidden = false;
  evaluation.stacks($("stacks"), $("stacks-legend"), split, faults.nice);
  const classes = split[0].length, most = Math.max(...split.flat(), 1);
  const totals = split.map((row) => row.reduce((a, b) => a + b, 0));
  $("split-text").textContent = `${split.length} clients, ${classes} labels, ${totals.reduce((a, b) => a + b, 0)} examples; a client holds ${Math.min(...totals)} to ${Math.max(...totals)}. The strongest colour is ${most} examples.`;
  const left = 46, top = 6, bottom = 34, cell = Math.max(2, Math.min(60, (canvas.parentElement.clientWidth - left - 10) / split.length)), height = 24;
  const scale = window.devicePixelRatio || 1, w = left + cell * split.length + 6, h = top + height * classes + bottom;
  canvas.width = w * scale; canvas.height = h * scale; canvas.style.width = `${w}px`; canvas.style.height = `${h}px`;
  const g = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  g.scale(scale, scale);
  g.font = "12px system-ui";
  const ink = style.getPropertyValue("--accent"), muted = style.getPropertyValue("--muted");
  split.forEach((row, i) => row.forEach((n, label) => {
    g.globalAlpha = 0.06 + (0.94 * n) / most;
    g.fillStyle = ink;
    g.fillRect(left + i * cell, top + label * height, Math.max(cell - (cell > 4 ? 1 : 0), 1), height - 1);
  }));
  g.globalAlpha = 1;
  g.fillStyle = muted;
  for (let label = 0; label < classes; label += 1) g.fillText(String(label), left - 16, top + label * height + 16);
  const step = faults.nice(34 / cell);
  for (let i = 0; i < split.length; i += step) g.fillText(String(i), left + i * cell, top + height * classes + 14);
  g.fillText("client", left + (cell * split.length) / 2 - 16, top + height * classes + 30);
  g.save(); g.translate(12, top + height * classes / 2 + 14); g.rotate(-Math.PI / 2); g.fillText("label", 0, 0); g.restore();
}

const GROUP_WORDS = { name: "Group", count: "Devices", board: "Board", body: "Body", link: "Link", mips: "MIPS", speed_mips: "MIPS", memory_mib: "MiB", examples: "Examples" };

/** The groups of a mixed fleet as a table, if it is one. */
function showGroups(groups) {
  const known = Array.isArray(groups) ? groups.filter((g) => g !== null && typeof g === "object") : [];
  $("groups").hidden = known.length === 0;
  const keys = [...new Set(known.flatMap(Object.keys))];
  const words = (key) => (known.some((g) => typeof g[key] === "number") ? undefined : key === "body" ? "word wide" : "word");
  table($("groups-table"), keys.map((key) => [GROUP_WORDS[key] ?? key.replaceAll("_", " "), words(key)]),
    known.map((g) => keys.map((key) => (g[key] === undefined ? "–" : typeof g[key] === "object" ? JSON.stringify(g[key]) : g[key]))));
}

function flat(value, prefix = "") {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return [[prefix, Array.isArray(value) ? JSON.stringify(value) : String(value)]];
  return Object.entries(value).flatMap(([k, v]) => flat(v, prefix ? `${prefix}.${k}` : k));
}

function showConfig() {
  const i = run.info;
  if (!i) return;
  $("command").textContent = i.command ?? "";
  $("command").hidden = i.command == null;
  const { body, board, network, link, zfl_version: zfl } = i;
  const about = Object.entries({ body, board, network, link, "version.zfl": zfl }).filter(([, v]) => v != null);
  const versions = Object.entries(i.versions ?? {}).map(([k, v]) => [`version.${k}`, v]);
  const known = new Set(Object.keys(i.config ?? {}));
  const { fleet: groups, ...settings } = i.config ?? {};
  showGroups(groups);
  table($("config-table"), [["Setting", "text"], ["Value", "text"]],
    [...about.filter(([k]) => !known.has(k)), ...versions, ...flat(Array.isArray(groups) ? settings : i.config ?? {})]);
}

// ---- The page itself

function showView(view, push = true) {
  if (!$(`view-${view}`)) view = "run";
  page.view = view;
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const on = tab.dataset.view === view;
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    $(`view-${tab.dataset.view}`).hidden = !on;
  }
  if (push) history.replaceState(null, "", `#${view}`);
  showAll();
}

function showAll() {
  showRun();
  showChoices();
  const all = [...run.devices.keys()];
  ({ run: showRounds, fleet: () => showDevices(all), compare: showCompare, faults: showFaults, evaluation: showEvaluation, data: showData, config: showConfig })[page.view]();
  const known = (value) => run.rounds.some((r) => r.round > 0 && value(r) != null);
  $("axis-simulated").hidden = !known((r) => r.simulated_elapsed_s);
  $("axis-device").hidden = !known((r) => r.device_elapsed_s);
}

/** What there is to choose from: groups and devices, of which more may come. */
function showChoices() {
  const groups = groupsOf(run.devices), filter = $("filter-group");
  filter.parentElement.hidden = groups.length < 2;
  if (filter.length !== groups.length + 1) {
    filter.replaceChildren(el("option", { value: "" }, "all groups"), ...groups.map((g) => el("option", { value: g }, g)));
  }
  const quantity = $("quantity"), known = Object.entries(quantities());
  if (quantity.length !== known.length) {
    quantity.replaceChildren(...known.map(([key, [name]]) => el("option", { value: key }, name)));
    quantity.value = "train_us";
  }
  const all = [...run.devices.keys()], chooser = $("compare-device");
  if (chooser.length !== all.length + 1) {
    const chosen = chooser.value;
    chooser.replaceChildren(el("option", { value: "" }, "none"), ...all.sort((a, b) => a - b).map((c) => el("option", { value: c }, c)));
    chooser.value = chosen;
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try { localStorage.setItem("zfl-theme", theme); } catch { /* Private windows have no storage. */ }
  charts.dropAll();
  showAll();
}

function wire() {
  const wanted = new URLSearchParams(location.search).get("theme");
  let stored = null;
  try { stored = localStorage.getItem("zfl-theme"); } catch { /* As above. */ }
  document.documentElement.dataset.theme = wanted ?? stored ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  $("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  const tabs = [...document.querySelectorAll("[role=tab]")];
  for (const tab of tabs) tab.addEventListener("click", () => showView(tab.dataset.view));
  document.querySelector("[role=tablist]").addEventListener("keydown", (e) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (!step) return;
    const next = tabs[(tabs.findIndex((t) => t.dataset.view === page.view) + step + tabs.length) % tabs.length];
    showView(next.dataset.view);
    next.focus();
  });
  for (const radio of document.querySelectorAll("[name=axis]")) radio.addEventListener("change", () => { page.axis = radio.value; showRounds(); });
  for (const radio of document.querySelectorAll("[name=fault-axis]")) radio.addEventListener("change", () => { page.faultAxis = radio.value; showFaults(); });
  $("rounds-table").closest("details").addEventListener("toggle", showRounds);
  for (const [state, [sign, name]] of Object.entries(fleet.STATES)) {
    $("legend").append(el("li", { "data-state": state, "data-sign": sign }, name));
    $("filter").append(el("option", { value: state }, name));
  }
  for (const id of ["filter", "filter-group"]) $(id).addEventListener("change", applyFilter);
  $("quantity").addEventListener("change", showCompare);
  $("compare-device").addEventListener("change", showCompare);
  fleet.keys($("fleet"));
  $("device-close").addEventListener("click", closeDevice);
  document.addEventListener("keydown", (e) => { if (e.key === "Escape" && page.device != null && !$("confirm").open) closeDevice(); });
  let resizing;
  addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(showAll, 150); });
  addEventListener("hashchange", () => { if (control.takeToken()) control.begin(); showView(location.hash.slice(1), false); });
}

control.takeToken();
control.wire();
wire();
showView(location.hash.slice(1) || "run", false);
follow();
