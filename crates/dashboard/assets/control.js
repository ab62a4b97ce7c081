// Remote control of the run, for a page that was opened with the run's token.

const $ = (id) => document.getElementById(id);
const KEY = "zfl-token";

let token = null;
/** What can be done to devices; null: the run can only be looked at. */
let actions = null;
/** Number of edges that can be killed. */
let edges = 0;
let shown = { info: null, device: null };
let busy = false;
let silence;

/** Takes a token out of the address, where others could read it; true if there was one. */
export function takeToken() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const told = parts.get("token");
  if (told == null) return false;
  parts.delete("token");
  const [view] = parts.keys();
  history.replaceState(history.state, "", location.pathname + location.search + (view ? `#${view}` : ""));
  token = told;
  // For when the page is loaded again. It is this tab's own, and goes with it.
  try { sessionStorage.setItem(KEY, told); } catch { /* Then the address has to be opened again. */ }
  return true;
}

function forget() {
  token = null;
  actions = null;
  try { sessionStorage.removeItem(KEY); } catch { /* There is nothing then. */ }
}

/** Tells people, and screen readers, what came of something. */
function say(text, failed = false) {
  const node = $("said");
  node.dataset.failed = String(failed);
  node.textContent = text === "" ? "" : text[0].toUpperCase() + text.slice(1);
  clearTimeout(silence);
  silence = setTimeout(() => { node.textContent = ""; }, 15000);
}

async function ask(path, message) {
  const headers = { accept: "application/json", authorization: `Bearer ${token}` };
  const sent = message && { method: "POST", body: JSON.stringify(message) };
  if (message) headers["content-type"] = "application/json";
  const answer = await fetch(path, { ...sent, headers });
  const told = await answer.json().catch(() => ({}));
  if (answer.status === 401 || answer.status === 404 && !message) forget();
  if (!answer.ok) throw new Error(told.error ?? `the run answers ${answer.status}`);
  return told;
}

/** Asks what can be done, if there is a token. */
export async function begin() {
  if (token == null) {
    try { token = sessionStorage.getItem(KEY); } catch { /* Private windows have no storage. */ }
  }
  if (token == null) return;
  try {
    ({ actions, edges } = await ask("/api/touch"));
  } catch (error) {
    actions = null;
    say(`this run cannot be controlled: ${error.message}`, true);
  }
  update();
}

/** Shows the buttons that make sense for the run and the device, or none. */
export function show(info, device) {
  shown = { info, device };
  update();
}

function set(button, action, text, possible) {
  if (button.textContent !== text) button.textContent = text;
  button.dataset.action = action;
  // Not `disabled`, which would take the focus away.
  button.setAttribute("aria-disabled", String(!possible));
}

function update() {
  const { info, device: d } = shown;
  const can = actions != null && info?.state === "running";
  $("stop").hidden = !can;
  document.body.classList.toggle("controllable", can);
  $("device-control").hidden = !can || d == null;
  if (!can && $("confirm").open) $("confirm").close();
  showEdges(can, new Set(info?.lost_edges ?? []));
  if (!can || d == null) return;
  const lives = d.state !== "dead";
  set($("control-kill"), "kill", "Kill", lives);
  set($("control-boot"), "reboot", lives ? "Kill and boot again" : "Boot again", true);
  set($("control-hold"), d.frozen ? "thaw" : "freeze", d.frozen ? "Thaw" : "Freeze", lives);
  set($("control-link"), d.link_cut ? "heal" : "cut", d.link_cut ? "Heal its link" : "Cut its link", true);
  $("control-link").hidden = !actions.includes("cut");
}

/** Shows what can be done to the chosen edge. */
function showEdges(can, lost) {
  const choice = $("edge-choice");
  $("edge-control").hidden = !can || !edges;
  if (!can || !edges) return;
  while (choice.length < edges) choice.append(new Option(String(choice.length)));
  const runs = !lost.has(Number(choice.value));
  set($("edge-kill"), "kill", "Kill", runs);
  set($("edge-boot"), "reboot", runs ? "Kill and start again" : "Start again", true);
  for (const box of document.querySelectorAll(".tree [data-edge]")) box.classList.toggle("chosen", box.dataset.edge === choice.value);
}

async function send(path, message) {
  if (busy) return;
  busy = true;
  try {
    say((await ask(path, message)).done);
  } catch (error) {
    say(`refused: ${error.message}`, true);
  }
  busy = false;
  update();
}

/** Connects the buttons. */
export function wire() {
  const confirm = $("confirm");
  $("stop").addEventListener("click", () => confirm.showModal());
  $("confirm-no").addEventListener("click", () => confirm.close());
  $("confirm-yes").addEventListener("click", () => { confirm.close(); send("/api/touch/stop", {}); });
  $("edge-choice").addEventListener("change", update);
  $("figure-tree").addEventListener("click", (event) => {
    const box = event.target.closest("[data-edge]");
    if (box && !$("edge-control").hidden) { $("edge-choice").value = box.dataset.edge; update(); }
  });
  for (const button of $("edge-control").querySelectorAll("button")) {
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-disabled") !== "true") send(`/api/touch/edges/${$("edge-choice").value}`, { action: button.dataset.action });
    });
  }
  for (const button of $("device-control").querySelectorAll("button")) {
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-disabled") === "true" || shown.device == null) return;
      send(`/api/touch/devices/${shown.device.client}`, { action: button.dataset.action });
    });
  }
}
