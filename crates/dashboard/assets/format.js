// Numbers as people read them. All sizes are decimal (kB, MB), as networks count them.

const UNITS = ["", "k", "M", "G", "T"];

function scaled(value, unit, digits = 1) {
  if (value == null || !Number.isFinite(value)) return "–";
  let power = 0;
  while (Math.abs(value) >= 1000 && power < UNITS.length - 1) { value /= 1000; power += 1; }
  const text = power === 0 && Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) < 100 ? digits : 0);
  return unit || UNITS[power] ? `${text} ${UNITS[power]}${unit}` : text;
}

export const bytes = (n) => scaled(n, "B");
export const count = (n) => scaled(n, "", 1);
export const joules = (n) => (n != null && n > 0 && n < 1 ? `${(1000 * n).toFixed(n < 0.01 ? 2 : 0)} mJ` : scaled(n, "J"));
export const mips = (n) => `${+n.toPrecision(3)} MIPS`;
export const percent = (x, digits = 2) => (x == null ? "–" : `${(100 * x).toFixed(digits)} %`);
export const fixed = (x, digits = 4) => (x == null || !Number.isFinite(x) ? "–" : x.toFixed(digits));

export function seconds(s) {
  if (s == null || !Number.isFinite(s)) return "–";
  if (s < 0.01) return `${(1000 * s).toFixed(2)} ms`;
  if (s < 1) return `${(1000 * s).toFixed(0)} ms`;
  if (s < 60) return `${s.toFixed(1)} s`;
  const whole = Math.round(s);
  const part = (n) => String(n).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)}:${part(whole % 60)} min`;
  return `${Math.floor(whole / 3600)}:${part(Math.floor(whole / 60) % 60)}:${part(whole % 60)} h`;
}

/** A log without what only a terminal understands; other control characters become visible. */
export const printable = (text) => text
  .replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "")
  .replace(/\r\n?/g, "\n")
  .replace(/[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]/g, "\u00b7");

/** An element of a drawing. */
export function svg(name, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// Everything that comes from a device or a file reaches the page as text, never as markup.
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value != null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.map((c) => (c instanceof Node ? c : String(c ?? ""))));
  return node;
}

export function figures(list, pairs) {
  // Update in place, so that a reader's position and selection stay.
  pairs.forEach(([name, value], i) => {
    let box = list.children[i];
    if (!box) { box = el("div", {}, el("dt"), el("dd")); list.append(box); }
    if (box.firstChild.textContent !== name) box.firstChild.textContent = name;
    if (box.lastChild.textContent !== String(value)) box.lastChild.textContent = value;
  });
  while (list.children.length > pairs.length) list.lastChild.remove();
}

export function table(node, head, rows) {
  const cell = (tag, value, kind) => el(tag, { class: kind }, value);
  const textual = head.map(([, kind]) => kind);
  const thead = el("thead", {}, el("tr", {}, ...head.map(([name], i) => {
    const th = cell("th", name, textual[i]); th.scope = "col"; return th;
  })));
  const tbody = el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((v, i) => cell("td", v, textual[i])))));
  node.replaceChildren(thead, tbody);
}
