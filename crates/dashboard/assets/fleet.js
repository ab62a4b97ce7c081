// The fleet: a tile per device, kept up to date in place.

import { bytes, count, el, mips, seconds } from "./format.js";

export const STATES = {
  joining: ["…", "joining"], booting: ["↑", "booting"], ready: ["✓", "ready"], training: ["▶", "training"],
  sending: ["⇡", "sending"], done: ["●", "update delivered"], failed: ["!", "failed the round"],
  away: ["~", "away"], dead: ["✕", "dead"],
};

const tiles = new Map();
let selected = null;

const memory = (d) => (d.heap_peak_bytes ? `heap ${bytes(d.heap_peak_bytes)}` : d.host_private_bytes && `host ${bytes(d.host_private_bytes)}`);

const detail = (d) => [
  [d.board, d.speed_mips && mips(d.speed_mips)].filter(Boolean).join(" · "),
  [d.link, d.resent && `${d.resent} resent`].filter(Boolean).join(" · "),
  [d.train_us && seconds(d.train_us / 1e6), d.instructions && `${count(d.instructions)} instr.`].filter(Boolean).join(" · "),
  memory(d) || "",
  `↑ ${bytes(d.bytes_up ?? 0)} ↓ ${bytes(d.bytes_down ?? 0)}`,
];

function makeTile(d, open) {
  const tile = el("button", { class: "tile", type: "button", role: "option", "aria-selected": "false", tabindex: tiles.size === 0 ? "0" : "-1" },
    el("span", { class: "sign", "aria-hidden": "true" }), el("b", {}, d.client), el("small"), el("small"), el("small"), el("small"), el("small"));
  tile.addEventListener("click", () => open(d.client));
  return { tile, state: null, texts: [], part: null };
}

/** Brings the tiles of these devices up to date; untouched ones cost nothing. */
export function update(devices, changed, open) {
  const fleet = document.getElementById("fleet");
  fleet.classList.toggle("dense", devices.size > 80);
  for (const client of changed) {
    const d = devices.get(client);
    let entry = tiles.get(client);
    if (!entry) {
      entry = makeTile(d, open);
      tiles.set(client, entry);
      // Clients come in any order, tiles stand in order.
      const last = fleet.lastElementChild;
      const after = last && Number(last.dataset.client) > client ? [...fleet.children].find((t) => Number(t.dataset.client) > client) : null;
      entry.tile.dataset.client = client;
      fleet.insertBefore(entry.tile, after);
    }
    const [sign, name] = STATES[d.state] ?? ["?", d.state];
    if (entry.state !== d.state || entry.reason !== d.reason) {
      entry.state = d.state;
      entry.reason = d.reason;
      entry.tile.dataset.state = d.state;
      entry.tile.querySelector(".sign").textContent = sign;
      const label = `Device ${d.client}: ${name}`;
      entry.tile.setAttribute("aria-label", label);
      entry.tile.title = d.reason ? `${label}: ${d.reason}` : label;
    }
    const part = d.state === "training" && d.total_examples ? Math.round((100 * d.done_examples) / d.total_examples) : 0;
    if (entry.part !== part) { entry.part = part; entry.tile.style.setProperty("--done-part", `${part}%`); }
    detail(d).forEach((text, i) => {
      if (entry.texts[i] !== text) { entry.texts[i] = text; entry.tile.querySelectorAll("small")[i].textContent = text; }
    });
  }
}

export function applyFilter(devices, state, group) {
  for (const [client, { tile }] of tiles) {
    const d = devices.get(client);
    tile.hidden = (state !== "" && d?.state !== state) || (group !== "" && (d?.group ?? d?.board) !== group);
  }
}

export function select(client) {
  for (const [c, { tile }] of tiles) {
    const on = c === client;
    if (on || tile.getAttribute("aria-selected") === "true") tile.setAttribute("aria-selected", String(on));
  }
  selected = client;
}

export function focusSelected() {
  tiles.get(selected)?.tile.focus();
}

/** Arrow keys move through the tiles, as in any list box. */
export function keys(fleet) {
  fleet.addEventListener("keydown", (event) => {
    const all = [...fleet.children].filter((t) => !t.hidden);
    const at = all.indexOf(document.activeElement);
    if (at < 0) return;
    const columns = getComputedStyle(fleet).gridTemplateColumns.split(" ").length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : at + (step ?? 0);
    if (to === at || !all[to]) return;
    event.preventDefault();
    all[at].tabIndex = -1;
    all[to].tabIndex = 0;
    all[to].focus();
  });
}
