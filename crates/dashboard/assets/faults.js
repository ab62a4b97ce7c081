// Failures and faults on the time line: a lane for each kind, against rounds or against the time.

import { el, seconds } from "./format.js";

function svg(name, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  if (text != null) node.textContent = text;
  return node;
}

/** The least of 1, 2, 5, 10, 20, … that is no less. */
export function nice(least) {
  for (let unit = 1; ; unit *= 10) for (const step of [1, 2, 5]) if (step * unit >= least) return step * unit;
}

const ROW = 30;

/** Seconds between ticks, as clocks count. */
const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

/** Where a round or a second is, and what stands at the axis. */
function scale(by, last, left, width) {
  const room = width - left - 24;
  if (by === "round") {
    const gap = room / Math.max(1, last);
    const step = nice(26 / gap);
    const ticks = [];
    for (let r = step === 1 ? 1 : step; r <= last; r += step) ticks.push([r, String(r)]);
    return { x: (round) => left + gap * (round - 0.5), gap, ticks, label: "round" };
  }
  const end = Math.max(last, 1e-3);
  const least = end / Math.max(1, room / 80);
  const step = STEPS_S.find((s) => s >= least) ?? 3600 * nice(least / 3600);
  const ticks = [];
  for (let s = 0; s <= end; s += step) ticks.push([s, s === 0 ? "0" : seconds(s)]);
  return { x: (s) => left + (room * s) / end, gap: 26, ticks, label: "time since the start of the run" };
}

/** What happened at one place of a lane: how often, asked for or not, and until when. */
function marks(faults, by) {
  if (by === "time") return faults.map((f) => ({ at: f.elapsed_s, n: 1, injected: f.injected, by: f.by, over: f.over_s, device: f.client }));
  const per = new Map();
  for (const f of faults) {
    const mark = per.get(f.round) ?? { at: f.round, n: 0, injected: f.injected, by: f.by };
    mark.n += 1;
    per.set(f.round, mark);
  }
  return [...per.values()];
}

function drawMark(root, mark, kind, y, axis, by) {
  const color = mark.by ? "var(--by-hand)" : mark.injected ? "var(--injected)" : "var(--dead)";
  const x = axis.x(mark.at);
  if (mark.over != null && by === "time") {
    root.append(svg("rect", { x, y: y - 4, width: Math.max(2, axis.x(mark.over) - x), height: 8, rx: 4, fill: color, "fill-opacity": 0.35 }));
  }
  const r = Math.min(13, 0.48 * axis.gap, 4 + Math.sqrt(mark.n) * 2);
  const shape = mark.by ? svg("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, fill: color, "fill-opacity": 0.75 })
    : mark.injected
    ? svg("polygon", { points: `${x - r},${y} ${x},${y - r} ${x + r},${y} ${x},${y + r}`, fill: color, "fill-opacity": 0.75 })
    : svg("circle", { cx: x, cy: y, r, fill: color, "fill-opacity": 0.75 });
  const where = by === "round" ? `in round ${mark.at}` : `at ${seconds(mark.at)}${mark.over == null ? "" : ` until ${seconds(mark.over)}`}, device ${mark.device ?? "unknown"}`;
  shape.append(svg("title", {}, `${mark.n} × ${kind}${mark.injected ? " (injected)" : ""} ${where}`));
  root.append(shape);
}

/** Draws the time line of these faults; `by` is `round` or `time`. */
export function draw(node, faults, rounds, elapsed, by) {
  const kinds = [...new Set(faults.map((f) => f.kind))].sort();
  if (kinds.length === 0) {
    node.replaceChildren(el("p", { class: "empty" }, "No failures and no faults so far."));
    return;
  }
  const longest = Math.min(24, Math.max(...kinds.map((kind) => kind.length)));
  const left = 14 + 7 * longest;
  const width = Math.max(node.clientWidth - 4, left + 40 + (by === "round" ? 8 * Math.min(rounds, 200) : 300));
  const axis = scale(by, by === "round" ? rounds : elapsed, left, width);
  const bottom = ROW * kinds.length;
  const root = svg("svg", { width, height: bottom + 34, role: "img", "aria-label": `Failures and faults by ${by}; the same is in the table below` });
  for (const [at, text] of axis.ticks) {
    root.append(svg("line", { x1: axis.x(at), x2: axis.x(at), y1: 0, y2: bottom }));
    root.append(svg("text", { x: axis.x(at), y: bottom + 16, "text-anchor": "middle" }, text));
  }
  root.append(svg("text", { x: (left + width) / 2, y: bottom + 32, "text-anchor": "middle" }, axis.label));
  kinds.forEach((kind, i) => {
    const y = ROW * i + ROW / 2;
    root.append(svg("text", { x: 0, y: y + 4 }, kind.length > longest ? `${kind.slice(0, longest - 1)}…` : kind));
    for (const mark of marks(faults.filter((f) => f.kind === kind), by)) drawMark(root, mark, kind, y, axis, by);
  });
  node.replaceChildren(root);
}
