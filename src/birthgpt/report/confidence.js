// risk by coverage, and reliability, with one threshold that is dragged in either figure

const NUM_BINS = 15;

// the answers in the order of their scores; equal scores are given together
function riskCoverage({ scores, right }) {
  const order = scores.map((_, index) => index).sort((one, other) => scores[other] - scores[one]);
  const points = [];
  let wrong = 0;
  order.forEach((index, place) => {
    wrong += right[index] ? 0 : 1;
    const isLast = place === order.length - 1 || scores[order[place + 1]] !== scores[index];
    if (isLast) points.push({ score: scores[index], given: place + 1, coverage: (place + 1) / order.length, wrong, risk: wrong / (place + 1) });
  });
  return points;
}

function givenAt(points, threshold) {
  let found = { score: 1, given: 0, coverage: 0, wrong: 0, risk: 0 };
  for (const point of points) if (point.score >= threshold) found = point;
  return found;
}

function reliabilityBins({ scores, right }) {
  const order = scores.map((_, index) => index).sort((one, other) => scores[one] - scores[other]);
  const count = Math.min(NUM_BINS, order.length);
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const bins = [];
  for (let bin = 0, start = 0; bin < count; bin++) {
    // the first bins are greater by one answer, if the answers cannot be divided equally
    const size = Math.floor(order.length / count) + (bin < order.length % count ? 1 : 0);
    const part = order.slice(start, start + size);
    bins.push({ size, score: mean(part.map((index) => scores[index])), accuracy: mean(part.map((index) => (right[index] ? 1 : 0))) });
    start += size;
  }
  return bins;
}

// a line that is dragged; `figure` stays while its chart is drawn again
function addHandle(figure, chart, box, place, onMove) {
  const group = svgElement("g", { class: "handle" }, svgElement("line", { x1: place, x2: place, y1: box.top, y2: box.bottom }), svgElement("circle", { cx: place, cy: box.top + 8, r: 8 }));
  group.append(svgElement("rect", { x: place - 14, y: box.top, width: 28, height: box.bottom - box.top, fill: "transparent" }));
  group.addEventListener("pointerdown", (down) => {
    down.preventDefault();
    const move = (event) => {
      const bounds = figure.querySelector("svg").getBoundingClientRect();
      const inside = event.clientX - bounds.left;
      onMove(Math.max(box.left, Math.min(box.right, inside)));
    };
    const stop = () => {
      window.removeEventListener("pointermove", move);
      window.removeEventListener("pointerup", stop);
      window.removeEventListener("pointercancel", stop);
    };
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", stop);
    window.addEventListener("pointercancel", stop);
  });
  chart.append(group);
}

function startConfidence(data) {
  const select = document.getElementById("confidence-run");
  const slider = document.getElementById("threshold");
  const state = {};
  data.confidence.forEach((entry, index) => select.append(htmlElement("option", { value: index }, entry.name)));

  function choose() {
    state.entry = data.confidence[Number(select.value)];
    state.points = riskCoverage(state.entry);
    state.bins = reliabilityBins(state.entry);
    const fallback = state.points[Math.floor(state.points.length / 2)].score;
    setThreshold(state.entry.threshold ?? fallback);
  }

  function setThreshold(value) {
    state.threshold = Math.max(0, Math.min(1, value));
    slider.value = state.threshold;
    draw();
  }

  function draw() {
    const { entry, points, bins, threshold } = state;
    const found = givenAt(points, threshold);
    const total = entry.scores.length;
    document.getElementById("confidence-readout").textContent =
      `At ${threshold.toFixed(3)}, ${found.given} of ${total} answers are given (${percentText(found.coverage)}); ` +
      (found.given ? `${found.wrong} of them are wrong (${percentText(found.risk)}).` : "no answer is that certain.");
    document.getElementById("confidence-note").textContent = entry.isNote;
    const score = entry.is_calibrated ? "p(right)" : "probability of the answer";
    const asPercent = (value) => Math.round(100 * value) + "%";

    const risk = document.getElementById("risk-coverage");
    risk.replaceChildren(htmlElement("figcaption", {}, "Wrong among the given answers, by how many are given"));
    const highest = Math.max(0.05, entry.max_risk || 0, ...points.map((point) => point.risk));
    const axes = { x: { min: 0, max: 1, label: "answers given", format: asPercent }, y: { min: 0, max: Math.min(1, 1.1 * highest), format: percentTick }, title: "risk by coverage" };
    drawChart(risk, axes, (chart, scales, box) => {
      const line = points.map((point) => [point.coverage, point.risk]);
      const kept = line.filter(([coverage]) => coverage <= found.coverage);
      if (kept.length) {
        const floor = scales.y(0);
        chart.append(svgElement("path", { class: "area", d: `${pathOf(kept, scales)}L${scales.x(found.coverage)},${floor}L${scales.x(kept[0][0])},${floor}Z` }));
      }
      if (entry.max_risk) {
        const place = scales.y(entry.max_risk);
        chart.append(svgElement("line", { class: "limit", x1: box.left, x2: box.right, y1: place, y2: place }));
        chart.append(svgElement("text", { x: box.left + 6, y: place - 5 }, `allowed risk ${percentText(entry.max_risk)}`));
      }
      chart.append(svgElement("path", { class: `line c${entry.id % 8}`, d: pathOf(line, scales) }));
      addHandle(risk, chart, box, scales.x(found.coverage), (place) => {
        const coverage = scales.x.invert(place);
        const next = points.find((point) => point.coverage >= coverage) || points[points.length - 1];
        setThreshold(next.score);
      });
    });

    const reliability = document.getElementById("reliability");
    reliability.replaceChildren(htmlElement("figcaption", {}, `Accuracy by ${score}`));
    const square = { x: { min: 0, max: 1, label: score, format: (value) => String(value) }, y: { min: 0, max: 1, format: asPercent }, title: "reliability" };
    drawChart(reliability, square, (chart, scales, box) => {
      chart.append(svgElement("line", { class: "diagonal", x1: scales.x(0), x2: scales.x(1), y1: scales.y(0), y2: scales.y(1) }));
      for (const bin of bins) {
        const dot = svgElement("circle", { class: `halo c${entry.id % 8}`, cx: scales.x(bin.score), cy: scales.y(bin.accuracy), r: 6, opacity: bin.score >= threshold ? 1 : 0.45 });
        chart.append(withTooltip(dot, `${bin.size} answers\n${score} ${bin.score.toFixed(2)}, right ${percentText(bin.accuracy)}`));
      }
      addHandle(reliability, chart, box, scales.x(threshold), (place) => setThreshold(scales.x.invert(place)));
    });
  }

  function percentTick(value) {
    return Number((100 * value).toPrecision(3)) + "%";
  }

  for (const entry of data.confidence)
    entry.isNote = entry.is_calibrated
      ? "p(right) is that of the calibration. A threshold that is chosen here is chosen by the same answers, and promises nothing; the calibration's own threshold is the first one."
      : "Without a calibration, this is the probability that the model gives its answer. Run birthgpt calibrate for p(right) and a bounded risk.";
  select.addEventListener("change", choose);
  slider.addEventListener("input", () => setThreshold(Number(slider.value)));
  choose();
  whenResized(document.getElementById("risk-coverage"), draw);
}
