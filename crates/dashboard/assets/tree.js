// The tree of edges: who joins whom, the devices of each lowest edge by state, and the bytes of each level.

import { bytes, seconds, svg, table } from "./format.js";

const ROW = 76, BOX = { w: 88, h: 30 }, BAR = { w: 88, h: 12 };

/** Edges by level from the key `edges`: 3, or "3x2". */
export function levels(edges) {
  return String(edges ?? 0).split("x").map(Number).filter((n) => n > 0);
}

/** All edges by their numbers; each cluster has as many clients as can be. */
export function nodes(each, clients) {
  const all = [];
  let count = 1, above = 0;
  each.forEach((below, level) => {
    const first = all.length;
    count *= below;
    for (let i = 0; i < count; i += 1) {
      const [from, to] = [i, i + 1].map((edge) => Math.floor((edge * clients) / count));
      all.push({ number: first + i, level: level + 1, parent: level ? above + Math.floor(i / below) : null, from, to, lowest: level === each.length - 1 });
    }
    above = first;
  });
  return all;
}

function box(x, y, label, title, lost, edge) {
  return svg("g", { transform: `translate(${x - BOX.w / 2},${y})`, class: lost ? "aggregator lost" : "aggregator", ...(edge != null && { "data-edge": edge }) },
    svg("title", {}, title), svg("rect", { width: BOX.w, height: BOX.h, rx: 6 }),
    svg("text", { x: BOX.w / 2, y: 20, "text-anchor": "middle" }, label));
}

/** The devices of a cluster as a bar, a part for each state. */
function cluster(node, x, y, devices, names) {
  const those = [...devices.values()].filter((d) => d.client >= node.from && d.client < node.to);
  const counts = {};
  for (const d of those) counts[d.state] = (counts[d.state] ?? 0) + 1;
  const said = Object.entries(counts).map(([state, n]) => `${n} ${names[state]?.[1] ?? state}`).join(", ");
  const group = svg("g", { transform: `translate(${x - BAR.w / 2},${y})` }, svg("title", {}, `Devices ${node.from} to ${node.to - 1}: ${said}`));
  let at = 0;
  for (const [state, n] of Object.entries(counts)) {
    const width = (BAR.w * n) / those.length;
    group.append(svg("rect", { x: at, width, height: BAR.h, "data-state": state, class: "part" }));
    at += width;
  }
  const up = those.reduce((sum, d) => sum + (d.bytes_up ?? 0), 0), down = those.reduce((sum, d) => sum + (d.bytes_down ?? 0), 0);
  group.append(svg("text", { x: BAR.w / 2, y: BAR.h + 14, "text-anchor": "middle" }, `${those.length} devices`),
    svg("text", { x: BAR.w / 2, y: BAR.h + 28, "text-anchor": "middle", class: "small" }, `↑ ${bytes(up)} ↓ ${bytes(down)}`));
  return group;
}

/** Draws the tree of a run, and the table of its levels; hides both where devices join the root. */
export function draw(figure, info, devices, names) {
  const each = levels(info?.config?.edges);
  figure.hidden = each.length === 0;
  if (figure.hidden) return;
  const all = nodes(each, info.clients), lost = new Set(info.lost_edges ?? []);
  const lowest = all.filter((n) => n.lowest), step = 120, width = Math.max(360, lowest.length * step);
  const place = new Map(lowest.map((n, i) => [n.number, (i + 0.5) * (width / lowest.length)]));
  for (const node of [...all].reverse()) {
    if (place.has(node.number)) continue;
    const below = all.filter((n) => n.parent === node.number).map((n) => place.get(n.number));
    place.set(node.number, (below[0] + below.at(-1)) / 2);
  }
  const root = width / 2, y = (level) => 6 + level * ROW, height = y(each.length + 1) + BAR.h + 34;
  const drawing = svg("svg", { width, height, role: "img", "aria-label": `Tree of ${all.length} edges, ${lost.size} of them lost` });
  const line = (x1, y1, x2, y2, gone) => svg("line", { x1, y1, x2, y2, class: gone ? "gone" : "link" });
  for (const n of all) {
    const x = place.get(n.number), from = n.parent == null ? root : place.get(n.parent);
    drawing.append(line(from, y(n.level - 1) + BOX.h, x, y(n.level), lost.has(n.number)));
    if (n.lowest) drawing.append(line(x, y(n.level) + BOX.h, x, y(n.level + 1), lost.has(n.number)));
  }
  drawing.append(box(root, y(0), "root", "The root chooses the cohorts and has the model", false));
  for (const n of all) {
    const x = place.get(n.number), gone = lost.has(n.number);
    drawing.append(box(x, y(n.level), gone ? `edge ${n.number} ✕` : `edge ${n.number}`, `Edge ${n.number}${gone ? ", lost" : ""}: devices ${n.from} to ${n.to - 1}`, gone, n.number));
    if (n.lowest) drawing.append(cluster(n, x, y(n.level + 1), devices, names));
  }
  figure.querySelector(".tree").replaceChildren(drawing);
  const name = (l) => (l.level === 0 ? "root" : `edges of level ${l.level}`);
  table(figure.querySelector("table"), [["Level", "word"], ["Aggregators"], ["Join them"], ["Rounds"], ["Up"], ["Down"], ["Adding up"], ["Sums"]],
    (info.levels ?? []).map((l) => [name(l), l.aggregators, l.below, l.rounds, bytes(l.bytes_up), bytes(l.bytes_down), seconds(l.add_us / 1e6), bytes(l.held_bytes)]));
}
