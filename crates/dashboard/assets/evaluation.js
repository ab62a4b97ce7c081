// What devices find about the models on the examples that they hold out.

import { el, fixed, percent, seconds, table } from "./format.js";
import * as charts from "./charts.js";

const $ = (id) => document.getElementById(id);

function svg(name, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  if (text != null) node.textContent = text;
  return node;
}

const LINES = [
  ["max", "greatest", "--muted", "thin"], ["min", "least", "--muted", "thin"],
  ["q3", "third quartile", "--accent", "thin"], ["q1", "first quartile", "--accent", "thin"],
  ["median", "median", "--accent"], ["mean", "mean", "--accent", "dashed"], ["worst_decile", "worst tenth", "--accent-2"],
];

/** The distribution over devices, round by round: from least to greatest, and the middle half. */
function fan(id, rounds, of) {
  const known = rounds.filter((r) => r[`${of}_accuracy_median`] != null);
  const part = (key) => known.map((r) => 100 * r[`${of}_accuracy_${key}`]);
  charts.draw(id, {
    key: of, xLabel: "Round", yLabel: "Accuracy (%)", yValues: (v) => `${v.toFixed(2)} %`, yTicks: String, xIncrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000],
    empty: "No device has evaluated a model yet.",
    bands: [{ series: [1, 2], color: "--muted", alpha: "22" }, { series: [3, 4], color: "--accent", alpha: "33" }],
    series: LINES.map(([, label, color, kind]) => ({ label, color, width: kind === "thin" ? 0.6 : 2, dash: kind === "dashed" ? [6, 4] : undefined, points: kind ? false : undefined })),
  }, [known.map((r) => r.round), ...LINES.map(([key]) => part(key))]);
}

/** Devices by accuracy, with the personal models beside the global one. */
function histogram(node, kinds) {
  const width = Math.max(280, node.clientWidth), height = 236, left = 56, bottom = 40, top = 8;
  const bins = kinds[0].counts.length, most = Math.max(1, ...kinds.flatMap((k) => k.counts));
  const root = svg("svg", { width, height, role: "img", "aria-label": "Number of devices by accuracy" });
  const step = (width - left - 12) / bins, each = (step - 2) / kinds.length;
  const y = (n) => top + (height - top - bottom) * (1 - n / most);
  for (const n of new Set([0, Math.ceil(most / 2), most])) {
    root.append(svg("line", { x1: left, x2: width - 12, y1: y(n), y2: y(n), stroke: "var(--grid)" }),
      svg("text", { x: left - 6, y: y(n) + 4, "text-anchor": "end" }, String(n)));
  }
  kinds.forEach((kind, k) => kind.counts.forEach((n, i) => {
    if (n === 0) return;
    const bar = svg("rect", { x: left + i * step + 1 + k * each, y: y(n), width: Math.max(1, each), height: y(0) - y(n), fill: `var(${kind.color})` });
    bar.append(svg("title", {}, `${kind.name}: ${n} devices from ${(100 * i) / bins} to ${(100 * (i + 1)) / bins} %`));
    root.append(bar);
  }));
  for (let p = 0; p <= 100; p += 20) root.append(svg("text", { x: left + (p / 100) * bins * step, y: height - bottom + 16, "text-anchor": "middle" }, `${p}`));
  root.append(svg("text", { x: left + (bins * step) / 2, y: height - 6, "text-anchor": "middle" }, "Accuracy (%)"),
    svg("text", { transform: `translate(12 ${height / 2}) rotate(-90)`, "text-anchor": "middle" }, "Devices"));
  node.replaceChildren(root);
}

/** Classes and what they were taken for; of very many classes only how often each was recognised. */
function confusion(node, { counts, correct, taken_for: rows }) {
  const share = (n, of) => (of > 0 ? n / of : 0);
  if (!rows?.length) {
    table(node, [["Class"], ["Examples"], ["Recognised"]], counts.map((n, i) => [i, n, percent(share(correct[i], n), 1)]));
    return;
  }
  const head = el("tr", {}, el("th", { scope: "col" }, "Class"), ...counts.map((_, i) => el("th", { scope: "col" }, i)), el("th", { scope: "col" }, "Right"));
  const body = rows.map((row, label) => el("tr", {}, el("th", { scope: "row" }, label), ...row.map((n, prediction) => {
    const cell = el("td", { class: label === prediction ? "heat right" : "heat" }, n || "");
    cell.style.setProperty("--share", `${(100 * share(n, counts[label])).toFixed(1)}%`);
    return cell;
  }), el("td", {}, counts[label] ? percent(share(correct[label], counts[label]), 1) : "–")));
  node.replaceChildren(el("thead", {}, head), el("tbody", {}, ...body));
}

/** Shows all of it; `found` is what the server has of the last evaluation. */
export function show(found, rounds) {
  const { devices: of, test } = found;
  const sorted = [...rounds].sort((a, b) => a.round - b.round);
  const text = of == null ? "No device has evaluated a model: a run with holdout has its devices do so." :
    `Round ${of.round}: ${of.devices} devices evaluated in ${seconds(of.evaluate_s)}${of.missing ? `, ${of.missing} gave no answer` : ""}. On the examples that they hold out the global model is right in ${percent(of.global.weighted_mean)} of all; a device's mean is ${percent(of.global.mean)}, that of the worst tenth ${percent(of.global.worst_decile)}, loss ${fixed(of.global.loss)}.${of.personal ? ` Their personal models: mean ${percent(of.personal.mean)}, worst tenth ${percent(of.personal.worst_decile)}.` : ""}`;
  if ($("evaluation-text").textContent !== text) $("evaluation-text").textContent = text;
  for (const [id, there] of [["figure-fan", of], ["figure-own-fan", of?.personal], ["figure-histogram", of], ["figure-confusion", of], ["figure-own-confusion", of?.personal], ["figure-test-confusion", test]]) $(id).hidden = !there;
  if (of) {
    fan("chart-fan", sorted, "device");
    const kinds = [{ name: "global model", color: "--accent", counts: of.global.histogram }];
    if (of.personal) kinds.push({ name: "personal models", color: "--accent-2", counts: of.personal.histogram });
    histogram($("chart-histogram"), kinds);
    $("histogram-key").textContent = of.personal ? "Blue: the global model; orange: personal models." : "";
    confusion($("confusion"), of.global.confusion);
  }
  if (of?.personal) {
    fan("chart-own-fan", sorted, "personal");
    confusion($("confusion-own"), of.personal.confusion);
  }
  if (test) confusion($("confusion-test"), test);
}

/** Most numbers of an algorithm that the page shows, and most letters of a name. */
const MOST = 24, LETTERS = 40;

/** Numbers that the algorithm tells of each round, whatever their names, with their course. */
export function showNumbers(figure, node, rounds) {
  const names = [...new Set(rounds.flatMap((r) => Object.keys(r.metrics ?? {})))].sort();
  figure.hidden = names.length === 0;
  if (names.length === 0) return;
  const text = (v) => (Number.isInteger(v) ? String(v) : Math.abs(v) >= 1e-3 && Math.abs(v) < 1e6 ? String(+v.toPrecision(5)) : v.toExponential(3));
  const rows = names.slice(0, MOST).map((name) => {
    const points = rounds.filter((r) => Number.isFinite(r.metrics?.[name])).map((r) => [r.round, r.metrics[name]]);
    const values = points.map(([, v]) => v);
    if (values.length === 0) return [name.slice(0, LETTERS), "", "–", "–", "–"];
    return [name.slice(0, LETTERS), course(points, name), text(values.at(-1)), text(Math.min(...values)), text(Math.max(...values))];
  });
  if (names.length > MOST) rows.push([`and ${names.length - MOST} more, in rounds.csv`, "", "", "", ""]);
  table(node, [["Number"], ["Over the rounds", "word"], ["Last"], ["Least"], ["Greatest"]], rows);
}

function course(points, name) {
  const width = 180, height = 30, [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const at = ([x, y]) => `${(2 + ((x - x0) / (x1 - x0 || 1)) * (width - 4)).toFixed(1)},${(y1 === y0 ? height / 2 : height - 3 - ((y - y0) / (y1 - y0)) * (height - 6)).toFixed(1)}`;
  const root = svg("svg", { width, height, role: "img", "aria-label": `Course of ${name}`, class: "course" });
  root.append(points.length > 1 ? svg("polyline", { points: points.map(at).join(" "), fill: "none", stroke: "var(--accent)", "stroke-width": 1.5 })
    : svg("circle", { cx: width / 2, cy: height / 2, r: 3, fill: "var(--accent)" }));
  return root;
}

const COLORS = ["#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#9aa3ab"];
const colorOf = (label, classes) => (classes <= COLORS.length ? COLORS[label] : `hsl(${(360 * label) / classes} 55% ${label % 2 ? 62 : 45}%)`);

/** What every client got: a bar for each, with its examples by class. */
export function stacks(canvas, legend, split, nice) {
  const classes = split[0].length, totals = split.map((row) => row.reduce((a, b) => a + b, 0)), most = Math.max(1, ...totals);
  const left = 54, top = 8, bottom = 36, room = 200, cell = Math.max(2, Math.min(60, (canvas.parentElement.clientWidth - left - 10) / split.length));
  const scale = window.devicePixelRatio || 1, w = left + cell * split.length + 6, h = top + room + bottom;
  canvas.width = w * scale; canvas.height = h * scale; canvas.style.width = `${w}px`; canvas.style.height = `${h}px`;
  const g = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  g.scale(scale, scale);
  g.font = "12px system-ui";
  const y = (n) => top + room * (1 - n / most), step = nice(most / 4);
  g.fillStyle = style.getPropertyValue("--muted"); g.strokeStyle = style.getPropertyValue("--grid");
  for (let n = 0; n <= most; n += step) {
    g.beginPath(); g.moveTo(left, y(n) + 0.5); g.lineTo(w, y(n) + 0.5); g.stroke();
    g.textAlign = "right"; g.fillText(String(n), left - 6, y(n) + 4);
  }
  split.forEach((row, i) => {
    let below = 0;
    row.forEach((n, label) => {
      g.fillStyle = colorOf(label, classes);
      g.fillRect(left + i * cell, y(below + n), Math.max(cell - (cell > 4 ? 1 : 0), 1), y(below) - y(below + n));
      below += n;
    });
  });
  g.fillStyle = style.getPropertyValue("--muted"); g.textAlign = "left";
  const every = nice(34 / cell);
  for (let i = 0; i < split.length; i += every) g.fillText(String(i), left + i * cell, top + room + 16);
  g.textAlign = "center"; g.fillText("client", left + Math.min(cell * split.length, canvas.parentElement.clientWidth - left) / 2, top + room + 31);
  g.save(); g.translate(12, top + room / 2); g.rotate(-Math.PI / 2); g.fillText("examples", 0, 0); g.restore();
  legend.replaceChildren(...split[0].slice(0, 40).map((_, label) => {
    const item = el("li", {}, label);
    item.style.setProperty("--state", colorOf(label, classes));
    return item;
  }));
}
