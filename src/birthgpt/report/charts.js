// curves, accuracy against FLOPs, and slices; configurations that are hidden in the legend are left out

const hiddenConfigurations = new Set();

function isShown(id) {
  return !hiddenConfigurations.has(id);
}

function drawLegends(data, redraw) {
  for (const legend of document.querySelectorAll(".legend")) {
    const ofCurves = legend.parentElement.id === "curves";
    const drawn = new Set(data.curves.flatMap((curve) => curve.series.map((series) => series.id)));
    const entries = data.configurations.filter(({ id }) => !ofCurves || drawn.has(id));
    legend.replaceChildren(
      ...entries.map(({ id, name }) => {
        const button = htmlElement("button", { type: "button", "aria-pressed": isShown(id) }, htmlElement("span", { class: `swatch s${id % 8}` }), name);
        button.addEventListener("click", () => {
          if (!hiddenConfigurations.delete(id)) hiddenConfigurations.add(id);
          drawLegends(data, redraw);
          redraw();
        });
        return button;
      }),
    );
  }
}

const CURVE_NAMES = { loss: "loss", train_accuracy: "accuracy on train questions", held_out_accuracy: "accuracy on held-out questions" };

function drawCurves(data) {
  const nameOf = new Map(data.configurations.map(({ id, name }) => [id, name]));
  const titleOf = ({ kind, metric }) => `${kind}: ${CURVE_NAMES[metric] || metric.replaceAll("_", " ")}`;
  const figures = data.curves.map((curve) => htmlElement("figure", {}, htmlElement("figcaption", {}, titleOf(curve))));
  // all figures are there before the first is drawn: a figure takes the width of its column
  document.getElementById("curve-charts").replaceChildren(...figures);
  data.curves.forEach((curve, index) => drawCurve(figures[index], curve, titleOf(curve), nameOf));
}

function drawCurve(figure, { metric, series }, title, nameOf) {
  const shown = series.filter(({ id }) => isShown(id));
  const points = shown.flatMap((one) => one.points);
  if (!points.length) return;
  const values = points.map((point) => point[1]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const isRatio = metric.split("/")[0].endsWith("accuracy");
  const isLog = !isRatio && low > 0 && high > 20 * low;
  const room = isLog ? 0 : 0.05 * (high - low || 1);
  const y = isRatio ? { min: 0, max: 1, format: (value) => Math.round(100 * value) + "%" } : { min: low - room, max: high + room, log: isLog };
  const x = { min: 0, max: Math.max(...points.map((point) => point[0]), 1), label: "updates" };
  drawChart(figure, { x, y, title }, (chart, scales) => {
    for (const { id, seed, points: line } of shown) {
      const last = line[line.length - 1];
      const text = `${nameOf.get(id)}, seed ${seed}\n${isRatio ? percentText(last[1]) : Number(last[1].toPrecision(4))} after ${last[0]} updates`;
      const group = svgElement("g", { class: `c${id % 8}` }, svgElement("path", { class: "line", d: pathOf(line, scales) }));
      group.append(svgElement("circle", { class: "dot", cx: scales.x(last[0]), cy: scales.y(last[1]), r: 3.5 }));
      // wider, so that a finger meets it
      group.append(svgElement("path", { d: pathOf(line, scales), fill: "none", stroke: "transparent", "stroke-width": 14 }));
      chart.append(withTooltip(group, text));
    }
  });
}

function drawCost(data) {
  const place = document.getElementById("cost-charts");
  place.replaceChildren();
  for (const table of data.tables) {
    const points = table.rows.flatMap((row) => row.points.filter(([flops]) => flops).map(([flops, accuracy]) => ({ row, flops, accuracy })));
    const figure = htmlElement("figure", {}, htmlElement("figcaption", {}, table.key));
    place.append(figure);
    if (!points.length) {
      figure.append(htmlElement("p", { class: "muted" }, "No training cost is known here."));
      continue;
    }
    const lines = [...table.references, ...table.rows.filter((row) => row.is_baseline)];
    const flops = points.map((point) => point.flops);
    const x = { min: 10 ** Math.floor(Math.log10(Math.min(...flops))), max: 10 ** Math.ceil(Math.log10(Math.max(...flops)) + 1e-6), log: true, label: "FLOPs of training" };
    const y = { min: 0, max: 1, format: (value) => Math.round(100 * value) + "%" };
    drawChart(figure, { x, y, height: 320, title: `accuracy against FLOPs, ${table.key}` }, (chart, scales, box) => {
      const written = [];
      for (const { name, accuracy } of [...lines].sort((one, other) => one.accuracy - other.accuracy)) {
        const height = scales.y(accuracy);
        // a text does not cover the one of the line below
        const at = Math.min(height - 4, ...written.map((place) => place - 13));
        written.push(at);
        chart.append(svgElement("line", { class: "limit", x1: box.left, x2: box.right, y1: height, y2: height }));
        chart.append(svgElement("text", { x: box.left + 6, y: Math.max(10, at) }, `${name}: ${percentText(accuracy)}`));
      }
      for (const { row, flops: cost, accuracy } of points) {
        const dot = svgElement("circle", { class: `halo c${row.id % 8}`, cx: scales.x(cost), cy: scales.y(accuracy), r: 7 });
        chart.append(withTooltip(dot, `${row.name}\n${percentText(accuracy)} with ${cost.toExponential(1).replace("e+", "e")} FLOPs`));
      }
    });
  }
}

const SLICE_NAMES = {
  relation: "relation", wording: "wording", wording_in_train: "wording trained on or new",
  answer_end: "where in its line the answer ends, in characters", answer_in_train: "answer among the train answers",
  train_frequency: "train questions with this answer",
};

function drawSlices(data) {
  const [table, kind] = ["table", "kind"].map((name) => document.getElementById(`slice-${name}`));
  if (!table.options.length) {
    table.append(...data.slices.map((entry, index) => htmlElement("option", { value: index }, entry.table)));
    table.parentElement.hidden = data.slices.length < 2;
    table.addEventListener("change", () => drawSlices(data));
    kind.addEventListener("change", () => drawSlices(data));
  }
  const rows = data.slices[Number(table.value)].rows;
  const kinds = [...new Set(rows.flatMap((entry) => Object.keys(entry.kinds)))];
  const before = kind.value;
  kind.replaceChildren(...kinds.map((name) => htmlElement("option", { value: name }, SLICE_NAMES[name] || name)));
  if (kinds.includes(before)) kind.value = before;
  const shown = rows.filter((entry) => isShown(entry.id) && entry.kinds[kind.value]);
  const buckets = [...new Set(shown.flatMap((entry) => Object.keys(entry.kinds[kind.value])))];
  const nameOf = new Map(data.configurations.map(({ id, name }) => [id, name]));
  const bars = htmlElement("div", { class: "bars" });
  for (const bucket of buckets) {
    const found = shown.filter((entry) => entry.kinds[kind.value][bucket]);
    const count = found[0].kinds[kind.value][bucket].count;
    bars.append(htmlElement("div", { class: "group" }, bucket, htmlElement("span", { class: "muted small" }, `  ${count} questions`)));
    for (const entry of found) bars.append(...barRow(nameOf.get(entry.id), entry.kinds[kind.value][bucket].accuracy, `c${entry.id % 8}`));
  }
  const nothing = htmlElement("p", { class: "muted" }, "These evaluations have no slices.");
  document.getElementById("slice-chart").replaceChildren(buckets.length ? bars : nothing);
}

// a name, a bar and a value of a grid of bars
function barRow(name, ratio, color) {
  const filled = htmlElement("span");
  filled.style.width = Math.max(0, Math.min(100, 100 * ratio)) + "%";
  return [
    htmlElement("span", { class: "name small" }, name),
    htmlElement("span", { class: `rail ${color}` }, filled),
    htmlElement("span", { class: "value small" }, percentText(ratio)),
  ];
}
