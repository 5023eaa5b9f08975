// the answers of an evaluation, with the lines of the name and the competing answers

const ANSWERS_AT_A_TIME = 25;

function startAnswers(data) {
  const [run, filter, relation, search] = ["run", "filter", "relation", "search"].map((name) => document.getElementById(`answer-${name}`));
  const more = document.getElementById("answer-more");
  let limit = ANSWERS_AT_A_TIME;
  data.answers.forEach((entry, index) => run.append(htmlElement("option", { value: index }, entry.name)));

  function chooseRun() {
    const relations = [...new Set(data.answers[Number(run.value)].rows.map((row) => row.relation))];
    const options = relations.map((name) => htmlElement("option", { value: name }, name || "unknown"));
    relation.replaceChildren(htmlElement("option", { value: "\u0000" }, "all"), ...options);
    relation.parentElement.hidden = relations.length < 2;
    draw(true);
  }

  function matching() {
    const words = search.value.trim().toLowerCase();
    return data.answers[Number(run.value)].rows.filter((row) => {
      if (filter.value !== "all" && row.is_right !== (filter.value === "right")) return false;
      if (relation.value !== "\u0000" && row.relation !== relation.value) return false;
      return !words || [row.question, row.answer, ...row.right_answers, ...row.lines].some((text) => text.toLowerCase().includes(words));
    });
  }

  function draw(anew) {
    if (anew) limit = ANSWERS_AT_A_TIME;
    const rows = matching();
    const total = data.answers[Number(run.value)].rows.length;
    document.getElementById("answer-count").textContent = `${rows.length} of ${total} answers`;
    document.getElementById("answer-list").replaceChildren(...rows.slice(0, limit).map(answerCard));
    more.hidden = rows.length <= limit;
  }

  more.addEventListener("click", () => {
    limit += ANSWERS_AT_A_TIME;
    draw(false);
  });
  run.addEventListener("change", chooseRun);
  filter.addEventListener("change", () => draw(true));
  relation.addEventListener("change", () => draw(true));
  search.addEventListener("input", () => draw(true));
  chooseRun();
}

function answerCard(row) {
  const given = htmlElement("span", { class: row.is_right ? "good" : "bad" }, row.answer || "(nothing)");
  const said = htmlElement("span", {}, given);
  if (!row.is_right) said.append(` instead of ${row.right_answers.join(" or ")}`);
  const numbers = [];
  if (row.verdict) numbers.push(row.verdict);
  if (row.p_right != null) numbers.push(`p(right) ${row.p_right.toFixed(2)}`);
  else if (row.probability != null) numbers.push(`probability ${row.probability.toFixed(2)}`);
  const summary = htmlElement("summary", {}, htmlElement("span", {}, row.question), htmlElement("span", { class: "tail muted small" }, numbers.join(" · ")), said);
  const card = htmlElement("details", { class: "answer" }, summary);
  // the body is made when it is opened: there may be thousands of answers
  card.addEventListener("toggle", () => card.open && card.childElementCount === 1 && card.append(answerBody(row)));
  return card;
}

function answerBody(row) {
  const body = htmlElement("div", { class: "body" });
  for (const line of row.lines) body.append(markedLine(line, row));
  if (!row.lines.length) body.append(htmlElement("p", { class: "muted" }, "No line of this name is known: evaluate with --corpus_file."));
  if (row.candidates.length) {
    const bars = htmlElement("div", { class: "bars" });
    for (const { answer, probability } of row.candidates)
      bars.append(...barRow(answer || "(nothing)", probability, row.right_answers.includes(answer) ? "c2" : "c7"));
    body.append(htmlElement("p", { class: "muted small" }, "competing answers, with their probabilities"), bars);
  } else body.append(htmlElement("p", { class: "muted small" }, "evaluate with --competing_answers 5 to see what else the model considered"));
  return body;
}

// the line with the right answers and the given one in colours
function markedLine(line, row) {
  const paragraph = htmlElement("p");
  const wanted = [...row.right_answers.map((text) => [text, ""]), ...(row.is_right ? [] : [[row.answer, "wrong"]])].filter(([text]) => text);
  let rest = line;
  while (rest) {
    const found = wanted.map(([text, kind]) => ({ text, kind, at: rest.indexOf(text) })).filter(({ at }) => at >= 0);
    if (!found.length) break;
    const first = found.reduce((one, other) => (other.at < one.at || (other.at === one.at && other.text.length > one.text.length) ? other : one));
    paragraph.append(rest.slice(0, first.at), htmlElement("mark", first.kind ? { class: first.kind } : {}, first.text));
    rest = rest.slice(first.at + first.text.length);
  }
  paragraph.append(rest);
  return paragraph;
}
