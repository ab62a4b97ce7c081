// The mesh: nodes in their places, links between those that hear each other, and the traffic of each leaf's last round.

import { joules, seconds, svg, table } from "./format.js";

const WIDTH = 900, HIGHEST = 520, MARGIN = 46;

/** Of what is drawn: the mesh, as text, and what changes in it by node. */
const drawn = { mesh: null, nodes: new Map(), links: [] };

const hears = (mesh, a, b) => Math.hypot(mesh.places[a][0] - mesh.places[b][0], mesh.places[a][1] - mesh.places[b][1]) <= mesh.range_m;

/** Pairs of nodes that hear each other. */
export function links(mesh) {
  const all = [...mesh.places.keys()];
  return all.flatMap((a) => all.slice(a + 1).filter((b) => hears(mesh, a, b)).map((b) => [a, b]));
}

/** Places on the page, which keep their shape. */
function spread(places) {
  const [xs, ys] = [0, 1].map((axis) => places.map((place) => place[axis]));
  const least = [Math.min(...xs), Math.min(...ys)], size = [Math.max(...xs) - least[0], Math.max(...ys) - least[1]];
  const scale = Math.min((WIDTH - 2 * MARGIN) / Math.max(size[0], 1e-9), (HIGHEST - 2 * MARGIN) / Math.max(size[1], 1e-9));
  const left = (WIDTH - scale * size[0]) / 2;
  return { height: Math.max(120, scale * size[1] + 2 * MARGIN), at: places.map(([x, y]) => [left + scale * (x - least[0]), MARGIN + scale * (y - least[1])]) };
}

/** Draws all that stays: places, links and numbers. */
function build(mesh, open) {
  const { at, height } = spread(mesh.places);
  const radius = mesh.places.length <= 60 ? 13 : mesh.places.length <= 150 ? 8 : 5;
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, width: WIDTH, height, role: "img" });
  drawn.nodes.clear();
  drawn.links = links(mesh).map(([a, b]) => {
    const isWay = Math.abs(mesh.hops[a] - mesh.hops[b]) === 1;
    const line = svg("line", { x1: at[a][0], y1: at[a][1], x2: at[b][0], y2: at[b][1], class: isWay ? "way" : "link" });
    drawing.append(line);
    return { line, ends: [a - 1, b - 1], isWay };
  });
  mesh.places.forEach((_, node) => {
    const isGateway = node === 0, [x, y] = at[node];
    const shape = isGateway ? svg("rect", { x: -radius, y: -radius, width: 2 * radius, height: 2 * radius, rx: 3, class: "gateway" }) : svg("circle", { r: radius, class: "leaf" });
    const [halo, title, traffic] = [svg("circle", { r: 0, class: "halo" }), svg("title", {}), svg("text", { "text-anchor": "middle", class: "small" })];
    const group = svg("g", { transform: `translate(${x},${y})`, ...(!isGateway && { "data-client": node - 1 }) }, title, halo, shape);
    if (radius > 8) group.append(svg("text", { y: 4, "text-anchor": "middle", class: isGateway ? "number inverse" : "number" }, isGateway ? "GW" : node - 1), traffic);
    if (!isGateway) group.addEventListener("click", () => open(node - 1));
    title.textContent = isGateway ? "Gateway, which has IP" : `Device ${node - 1}`;
    drawing.append(group);
    drawn.nodes.set(node - 1, { group, halo, title, traffic, radius, hops: mesh.hops[node] });
  });
  return drawing;
}

/** Leaves by their hops to the gateway, with the traffic of their last rounds together. */
function rows(devices, hops) {
  const each = Map.groupBy([...devices.values()].filter((d) => hops[d.client + 1] != null), (d) => hops[d.client + 1]);
  return [...each].sort(([a], [b]) => a - b).map(([far, those]) => {
    const sum = (of) => those.reduce((total, d) => total + (of(d) ?? 0), 0);
    return [far, those.length, sum((d) => d.radio_packets), sum((d) => d.radio_again), sum((d) => d.radio_relayed), seconds(sum((d) => d.radio_airtime_s)), joules(sum((d) => d.radio_energy_j))];
  });
}

/** Draws the mesh of a run as it is now; hides it where devices have IP. */
export function draw(figure, info, devices, names, open) {
  const mesh = info?.mesh;
  // Of more nothing would be seen.
  figure.hidden = !mesh?.places?.length || mesh.places.length > 1000;
  if (figure.hidden) return;
  const text = JSON.stringify(mesh);
  if (drawn.mesh !== text) {
    drawn.mesh = text;
    figure.querySelector(".mesh").replaceChildren(build(mesh, open));
  }
  const most = Math.max(...[...devices.values()].map((d) => d.radio_airtime_s ?? 0), 1e-9);
  for (const [client, { group, halo, title, traffic, radius, hops }] of drawn.nodes) {
    const d = devices.get(client);
    if (!d) continue;
    const air = d.radio_airtime_s ?? 0;
    // Of the round under way, or of the one before.
    const isFresh = d.round === info.round && ["done", "ready"].includes(d.state);
    group.dataset.state = d.state;
    const wide = air > 0 ? radius + 16 * Math.sqrt(air / most) : 0;
    halo.setAttribute("r", wide.toFixed(1));
    traffic.setAttribute("y", (Math.max(radius, wide) + 11).toFixed(1));
    halo.setAttribute("class", isFresh ? "halo fresh" : "halo");
    traffic.textContent = d.radio_packets == null ? "" : `${d.radio_packets} · ${seconds(air)}`;
    const spent = d.radio_packets == null ? "nothing sent yet" : `${d.radio_packets} packets, ${d.radio_again ?? 0} tiles sent again, ${d.radio_relayed ?? 0} frames of others, ${seconds(air)} in the air, ${+(d.radio_hops ?? hops ?? 0).toFixed(2)} hops`;
    title.textContent = `Device ${client}, ${names[d.state]?.[1] ?? d.state}: ${spent}`;
  }
  const isSending = (client) => ["sending", "training"].includes(devices.get(client)?.state);
  for (const { line, ends, isWay } of drawn.links) {
    if (isWay) line.classList.toggle("busy", ends.some(isSending));
  }
  figure.querySelector("svg").setAttribute("aria-label", `Mesh of ${mesh.places.length - 1} leaves and a gateway`);
  figure.querySelector("figcaption").textContent = `Mesh: radio ${mesh.radio}, range ${Math.round(mesh.range_m)} m. Packets and air time of each leaf's last round`;
  table(figure.querySelector("table"), [["Hops"], ["Leaves"], ["Packets"], ["Sent again"], ["Relayed"], ["Air time"], ["Radio energy"]], rows(devices, mesh.hops));
}
