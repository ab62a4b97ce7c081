// Charts by uPlot, coloured from the page's own variables.
/* global uPlot */

const charts = new Map();

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A vertical axis that begins at 0, also where nothing is known yet. */
export const FROM_ZERO = { range: (_, lo, hi) => [0, hi ? hi * 1.1 : 1] };

function options(node, spec) {
  // As wide as the longest number; 7 is the width of a digit.
  const width = (_, values) => 20 + 7 * Math.max(2, ...(values ?? []).map((v) => String(v).length));
  const axis = (more) => ({ stroke: css("--muted"), grid: { stroke: css("--grid"), width: 1 }, ticks: { stroke: css("--grid") }, font: "12px system-ui", labelFont: "12px system-ui", labelSize: 16, labelGap: 0, ...more });
  return {
    width: Math.max(200, node.clientWidth),
    height: node.classList.contains("tall") ? 320 : 236,
    cursor: { drag: { x: true, y: false } },
    legend: { live: spec.legend ?? true },
    // Looked up when it happens: what stands where changes with the data.
    hooks: { setCursor: [(u) => charts.get(node.id)?.spec.onPoint?.(u.cursor.idx)] },
    scales: { x: { time: false, ...(spec.xScale ?? {}) }, y: spec.yScale ?? {} },
    axes: [
      axis({ label: spec.xLabel, size: 32, space: 44, values: spec.xValues && ((_, ticks) => ticks.map(spec.xValues)), incrs: spec.xIncrs }),
      axis({ label: spec.yLabel, size: width, space: 26, values: (_, ticks) => ticks.map(spec.yTicks ?? spec.yValues ?? String) }),
    ],
    bands: spec.bands?.map((b) => ({ series: b.series, fill: `${css(b.color)}${b.alpha}` })),
    series: [
      { label: spec.xLabel, value: (_, v) => (v == null ? "–" : (spec.xValues ?? String)(v)) },
      ...spec.series.map((s) => ({
        label: s.label, stroke: css(s.color), fill: s.fill && `${css(s.color)}22`, width: s.width ?? 2, dash: s.dash,
        points: { show: s.points ?? ((u) => u.data[0].length < 60), size: s.size ?? 5, fill: css(s.color) },
        paths: s.scatter ? () => null : undefined,
        value: (_, v) => (v == null ? "–" : (spec.yValues ?? String)(v)),
      })),
    ],
  };
}

/** Where nobody points at a place, the legend tells the last values. */
function showLast(plot) {
  // After the plot's own update, which empties the legend.
  requestAnimationFrame(() => {
    if (plot.legend.live && plot.cursor.idx == null && plot.root.isConnected) plot.setLegend({ idx: plot.data[0].length - 1 });
  });
}

/** Draws or redraws a chart; `spec.key` tells when its axes or series changed. */
export function draw(id, spec, data) {
  const node = document.getElementById(id);
  if (node.offsetParent === null) return;
  // Read by the browser test.
  node.dataset.points = data[0].length;
  if (data[0].length === 0) {
    drop(id);
    if (!node.querySelector(".empty")) {
      const p = document.createElement("p");
      p.className = "empty"; p.textContent = spec.empty ?? "Nothing to show yet.";
      node.replaceChildren(p);
    }
    return;
  }
  const known = charts.get(id);
  if (known && known.key === spec.key && known.width === node.clientWidth) {
    known.spec = spec;
    known.plot.setData(data);
    showLast(known.plot);
    return;
  }
  drop(id);
  node.replaceChildren();
  const plot = new uPlot(options(node, spec), data, node);
  plot.over.addEventListener("mouseleave", () => showLast(plot));
  plot.over.addEventListener("click", () => charts.get(id)?.spec.onClick?.(plot.cursor.idx));
  showLast(plot);
  plot.root.setAttribute("role", "img");
  plot.root.setAttribute("aria-label", `${spec.yLabel} against ${spec.xLabel}`);
  charts.set(id, { plot, spec, key: spec.key, width: node.clientWidth });
}

export function drop(id) {
  charts.get(id)?.plot.destroy();
  charts.delete(id);
}

export function dropAll() {
  for (const id of [...charts.keys()]) drop(id);
}
