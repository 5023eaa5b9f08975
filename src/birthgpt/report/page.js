// starts everything, when all of the page is there

function startPage() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const redraw = () => {
    if (data.curves.length) drawCurves(data);
    drawSlices(data);
  };
  drawLegends(data, redraw);
  if (data.curves.length) whenResized(document.getElementById("curve-charts"), () => drawCurves(data));
  whenResized(document.getElementById("cost-charts"), () => drawCost(data));
  drawSlices(data);
  if (data.confidence.length) startConfidence(data);
  if (data.answers.length) startAnswers(data);
  for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copyText(button));
}

async function copyText(button) {
  const text = button.parentElement.querySelector("pre").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // a browser without the permission still copies what is selected
    const range = document.createRange();
    range.selectNodeContents(button.parentElement.querySelector("pre"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    document.execCommand("copy");
  }
  button.textContent = "copied";
  setTimeout(() => (button.textContent = "copy"), 1500);
}

startPage();
