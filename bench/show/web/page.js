"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
const config = { displaylogo: false, responsive: true };
const base = { margin: { t: 40, r: 16, b: 48, l: 72 }, hovermode: "closest", font: { family: "system-ui, sans-serif" } };

// Plotly reads a little HTML in its labels: names are no markup.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/\n/g, " ");

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const sizesAxis = (sizes) => ({
  title: { text: "batch size" }, type: "log", tickvals: sizes, ticktext: sizes.map((size) => size.toLocaleString("en")),
});

function scaling() {
  const traces = [];
  data.workloads.forEach((workload, place) => {
    const color = colours[place % colours.length];
    const name = plain(workload.name);
    const { points, fit } = workload;
    if (fit.sizes.length) {
      traces.push({ x: fit.sizes, y: fit.steps, mode: "lines", line: { color, width: 1 }, name: `${name}: fit`, hoverinfo: "skip" });
    }
    const met = points.filter((point) => point.steps !== null);
    traces.push({
      x: met.map((point) => point.batch_size), y: met.map((point) => point.steps), name, mode: "markers",
      marker: { color, size: 9 }, text: met.map((point) => plain(point.text)),
      hovertemplate: "batch size %{x:,}<br>%{text}<extra></extra>",
      error_y: {
        type: "data", symmetric: false, color, thickness: 1,
        array: met.map((point) => point.high - point.steps), arrayminus: met.map((point) => point.steps - point.low),
      },
    });
    const missed = points.filter((point) => point.steps === null);
    if (missed.length) {
      traces.push({
        x: missed.map((point) => point.batch_size), y: missed.map((point) => point.tried), mode: "markers",
        marker: { color, size: 10, symbol: "triangle-up-open" }, name: `${name}: missed, at its budget`,
        text: missed.map((point) => plain(point.text)), hovertemplate: "batch size %{x:,}<br>%{text}<extra></extra>",
      });
    }
  });
  const sizes = [...new Set(data.workloads.flatMap((each) => each.points.map((point) => point.batch_size)))];
  const layout = { ...base, xaxis: sizesAxis(sizes), yaxis: { title: { text: "steps to target" }, type: "log" } };
  Plotly.newPlot("scaling", traces, layout, config);
}

function chooser(id, draw) {
  const select = document.getElementById(id);
  data.workloads.forEach((workload, place) => select.append(element("option", workload.name, { value: place })));
  select.addEventListener("change", () => draw(data.workloads[select.value]));
  if (data.workloads.length) draw(data.workloads[0]);
}

function rates(workload) {
  const kinds = [["not in time", "circle-open"], ["diverged", "x-thin-open"]];
  const traces = kinds.map(([kind, symbol]) => {
    const trials = workload.trials.filter((trial) => trial.kind === kind);
    return {
      x: trials.map((trial) => trial.batch_size), y: trials.map((trial) => trial.learning_rate), mode: "markers",
      marker: { symbol, color: "#999999", size: 6 }, name: kind,
      hovertemplate: `batch size %{x:,}<br>learning rate %{y:.3g}<br>${kind}<extra></extra>`,
    };
  });
  const met = workload.trials.filter((trial) => trial.kind === "met the target");
  traces.push({
    x: met.map((trial) => trial.batch_size), y: met.map((trial) => trial.learning_rate), mode: "markers",
    name: "met the target", text: met.map((trial) => `${trial.steps.toLocaleString("en")} steps`),
    marker: {
      size: 11, color: met.map((trial) => trial.slower), cmin: 1, cmax: Math.max(1.5, ...met.map((trial) => trial.slower)), colorscale: "Viridis", reversescale: true,
      colorbar: { title: { text: "steps / best" } },
    },
    hovertemplate: "batch size %{x:,}<br>learning rate %{y:.3g}<br>%{text}<extra></extra>",
  });
  const sizes = [...new Set(workload.trials.map((trial) => trial.batch_size))];
  const layout = {
    ...base, xaxis: sizesAxis(sizes), yaxis: { title: { text: "learning rate" }, type: "log" }, legend: { orientation: "h", y: 1.12 },
  };
  Plotly.react("rates", traces, layout, config);
}

function curves(workload) {
  const sizes = [...new Set(workload.curves.map((curve) => curve.batch_size))];
  const boxes = document.getElementById("curves-sizes");
  boxes.replaceChildren();
  const shown = new Set(sizes);
  const draw = () => {
    const traces = workload.curves.filter((curve) => shown.has(curve.batch_size)).map((curve) => ({
      x: curve.steps, y: curve.values, mode: "lines", name: `batch size ${curve.batch_size.toLocaleString("en")}`,
      legendgroup: curve.batch_size, showlegend: curve.seed === 0,
      line: { width: 1, color: colours[sizes.indexOf(curve.batch_size) % colours.length] },
      hovertemplate: `batch size ${curve.batch_size}, seed ${curve.seed}<br>${workload.along} %{x:,}: %{y:.4g}<extra></extra>`,
    }));
    const bound = workload.threshold;
    const line = { type: "line", xref: "paper", x0: 0, x1: 1, y0: bound, y1: bound, line: { dash: "dash", color: "#7f7f7f" } };
    const layout = {
      ...base, xaxis: { title: { text: workload.along }, type: "log" }, yaxis: { title: { text: workload.reading }, type: "log" },
      shapes: [line],
    };
    Plotly.react("curves", traces, layout, config);
  };
  sizes.forEach((size) => {
    const box = element("input", undefined, { type: "checkbox", value: size });
    box.checked = true;
    box.addEventListener("change", () => {
      if (box.checked) shown.add(size); else shown.delete(size);
      draw();
    });
    const label = element("label");
    label.append(box, ` ${size.toLocaleString("en")}`);
    boxes.append(label);
  });
  draw();
}

// Numbers by their keys, which know units; what has none goes last, whichever way the others run.
function sorted(rows, keys, place, numeric, falling) {
  const turned = (order) => (falling ? -order : order);
  const compare = (a, b) => {
    if (!numeric) return turned(rows[a][place].localeCompare(rows[b][place]));
    const [one, other] = [keys[a][place], keys[b][place]];
    if (one === null || other === null) return (one === null) - (other === null);
    return turned(one - other);
  };
  return [...rows.keys()].sort(compare).map((row) => rows[row]);
}

async function copy(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return;
    } catch { /* A page from a file may not have the clipboard: the old way remains. */ }
  }
  const area = element("textarea", text);
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function table(content) {
  const { title, columns, rows, keys, numeric, notes } = content;
  const section = element("div", undefined, { class: "table" });
  const heading = element("h3", title);
  const button = element("button", "copy", { class: "copy", type: "button" });
  heading.append(button);
  const made = element("table");
  const head = made.createTHead().insertRow();
  const body = made.createTBody();
  let current = rows;
  const fill = () => {
    body.replaceChildren();
    for (const row of current) {
      const line = body.insertRow();
      row.forEach((cell, place) => line.append(element("td", cell, numeric[place] ? { class: "numeric" } : {})));
    }
  };
  columns.forEach((column, place) => {
    const cell = element("th", undefined, numeric[place] ? { class: "numeric" } : {});
    const sort = element("button", column, { type: "button" });
    sort.addEventListener("click", () => {
      const falling = cell.getAttribute("aria-sort") === "ascending";
      for (const other of head.cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", falling ? "descending" : "ascending");
      current = sorted(rows, keys, place, numeric[place], falling);
      fill();
    });
    cell.append(sort);
    head.append(cell);
  });
  button.addEventListener("click", async () => {
    await copy([columns, ...current].map((row) => row.join("\t")).join("\n"));
    button.textContent = "copied";
  });
  fill();
  const scroll = element("div", undefined, { class: "scroll" });
  scroll.append(made);
  section.append(heading, scroll, ...notes.map((note) => element("p", note, { class: "note" })));
  return section;
}

document.getElementById("advice").append(...data.advice.map((sentence) => element("p", sentence)));
scaling();
chooser("rates-workload", rates);
chooser("curves-workload", curves);
document.getElementById("tables").append(...data.tables.map(table));
document.getElementById("environments").append(...data.environments.map((environment) => {
  const rows = Object.entries(environment).map(([name, value]) => [name, value === null ? "" : String(value)]);
  return table({ title: "environment", columns: ["what", "found"], rows, keys: [], numeric: [false, false], notes: [] });
}));
document.getElementById("suite").textContent = data.suite;
