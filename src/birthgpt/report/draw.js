"use strict";
// elements, scales and axes; texts are always set as text, never as markup

function svgElement(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function htmlElement(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function percentText(ratio) {
  return (100 * ratio).toFixed(1) + "%";
}

// a number of an axis in few characters
function shortNumber(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e6 || size < 1e-3) return value.toExponential(0).replace("e+", "e");
  if (size >= 1000) return value / 1000 + "k";
  return String(Number(value.toPrecision(3)));
}

function niceTicks(low, high, count) {
  const raw = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) ticks.push(Number(tick.toPrecision(12)));
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.ceil(Math.log10(low) - 1e-9); power <= Math.log10(high) + 1e-9; power++) ticks.push(10 ** power);
  const every = Math.ceil(ticks.length / 6);
  return ticks.filter((_, index) => index % every === 0);
}

function scaleOf({ min, max, log }, from, to) {
  const map = log ? Math.log10 : (value) => value;
  const low = map(min);
  const width = map(max) - low || 1;
  const scale = (value) => from + ((map(value) - low) / width) * (to - from);
  scale.invert = (place) => low + ((place - from) / (to - from)) * width;
  return scale;
}

// a chart with axes in a box of the width of its parent; `paint` adds what is in it
function drawChart(parent, { x, y, height = 260, title }, paint) {
  const width = Math.max(260, parent.clientWidth);
  const box = { left: 46, right: width - 22, top: 10, bottom: height - 38 };
  const chart = svgElement("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title });
  const scales = { x: scaleOf(x, box.left, box.right), y: scaleOf(y, box.bottom, box.top) };
  const format = { x: x.format || shortNumber, y: y.format || shortNumber };
  for (const tick of x.log ? logTicks(x.min, x.max) : niceTicks(x.min, x.max, width / 110)) {
    const place = scales.x(tick);
    chart.append(svgElement("text", { x: place, y: box.bottom + 16, "text-anchor": "middle" }, format.x(tick)));
  }
  for (const tick of y.log ? logTicks(y.min, y.max) : niceTicks(y.min, y.max, 5)) {
    const place = scales.y(tick);
    chart.append(svgElement("line", { class: "gridline", x1: box.left, x2: box.right, y1: place, y2: place }));
    chart.append(svgElement("text", { x: box.left - 6, y: place + 4, "text-anchor": "end" }, format.y(tick)));
  }
  chart.append(svgElement("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  chart.append(svgElement("text", { x: (box.left + box.right) / 2, y: height - 4, "text-anchor": "middle" }, x.label));
  paint(chart, scales, box);
  parent.append(chart);
  return chart;
}

function pathOf(points, scales) {
  return points.map(([x, y], index) => `${index ? "L" : "M"}${scales.x(x).toFixed(1)},${scales.y(y).toFixed(1)}`).join("");
}

// draws again when the width changes
function whenResized(element, draw) {
  let width = element.clientWidth;
  new ResizeObserver(() => {
    if (element.clientWidth === width) return;
    width = element.clientWidth;
    draw();
  }).observe(element);
  draw();
}

function withTooltip(element, text) {
  const tooltip = document.getElementById("tooltip");
  element.addEventListener("pointerenter", (event) => {
    tooltip.textContent = text;
    tooltip.hidden = false;
    const left = Math.min(event.clientX + 12, window.innerWidth - tooltip.offsetWidth - 8);
    tooltip.style.left = Math.max(8, left) + "px";
    tooltip.style.top = Math.max(8, event.clientY - tooltip.offsetHeight - 10) + "px";
  });
  element.addEventListener("pointerleave", () => (tooltip.hidden = true));
  return element;
}
