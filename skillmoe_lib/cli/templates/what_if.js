"use strict";
// What if k were another, or an expert were not there? The same arithmetic as skillmoe_lib/studies/what_if.py and
// what_if_page.py; tests/studies/test_what_if_page.py holds the two together. No network, no library.

const LEAST = 0.05, MOST = 0.95;  // routing/belief.py

// The answer given most often; a tie goes to the one given first; -1 is no answer.
function plurality(given) {
  let best = -1, most = 0;
  for (const answer of given) {
    if (answer < 0) continue;
    const n = given.filter((other) => other === answer).length;
    if (n > most) { best = answer; most = n; }
  }
  return best;
}

// Experts by value, the highest first; ties keep the order of the pool.
function ranked(kept, value) {
  return [...kept].sort((a, b) => value(b) - value(a) || a - b);
}

function accuracyOf(data, expert) {
  return (data.right[expert] + 1) / (data.ran[expert] + 2);
}

// Relevance of formula "fixed" (routing/skill_router.py), times the number of experts.
function relevance(data, question, expert, kept) {
  const most = Math.max(...kept.map((other) => data.n[question][other]));
  const net = 2 * accuracyOf(data, expert) - 1;
  return data.score[question][expert] + (most - data.n[question][expert]) * net + data.prior * net;
}

function probabilities(data, question, kept) {
  const w = kept.map((expert) => relevance(data, question, expert, kept) / kept.length / data.temperature);
  const top = Math.max(...w), powers = w.map((value) => Math.exp(value - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

// Expected accuracy on the question's skills (routing/belief.py, BestBySkill).
function expected(data, question, expert, useSkills) {
  const overall = accuracyOf(data, expert);
  if (!useSkills) return overall;
  const n = data.n[question][expert], right = (n + data.score[question][expert]) / 2;
  return (right + data.kappa * overall) / (n + data.kappa);
}

// How many answers an open question has (routing/belief.py, open_answers), for the experts kept.
function openAnswers(data, kept) {
  let pairs = 0, alike = 0;
  for (const a of kept) for (const b of kept) { pairs += data.wrong_pairs[a][b]; alike += data.wrong_alike[a][b]; }
  return 1 + (alike ? Math.min(1000, pairs / alike) : 1000);
}

function inTurn(data, question, kept, threshold, useSkills, open) {
  const order = ranked(kept, (expert) => expected(data, question, expert, useSkills));
  const m = data.n_choices[question] > 0 ? data.n_choices[question] : open;
  const scores = new Map(), asked = [];
  let answer = -1;
  for (const expert of order) {
    asked.push(expert);
    const given = data.answer[question][expert];
    if (given >= 0) {
      const a = Math.min(Math.max(expected(data, question, expert, useSkills), LEAST), MOST);
      scores.set(given, (scores.get(given) || 0) + Math.log(a) - Math.log((1 - a) / (m - 1)));
    }
    if (!scores.size) continue;
    let top = -Infinity;
    for (const [name, score] of scores) if (score > top) { top = score; answer = name; }
    let sum = Math.max(0, m - scores.size) * Math.exp(-top);
    for (const score of scores.values()) sum += Math.exp(score - top);
    if (1 / sum >= threshold - 1e-9) break;
  }
  return { asked, answer };
}

// One question: who is asked, in order, and the answer.
function askOne(data, question, setting, open) {
  const { method, kept, k } = setting;
  if (method === "sequential" || method === "sequential_without_skills")
    return inTurn(data, question, kept, setting.threshold, method === "sequential", open);
  const value = method === "top_k" ? (expert) => data.ranking[expert]
    : (expert) => relevance(data, question, expert, kept);
  const asked = ranked(kept, value).slice(0, k);
  return { asked, answer: plurality(asked.map((expert) => data.answer[question][expert])) };
}

// Score interval of a proportion (evaluation/intervals.py, wilson), 95%.
function wilson(right, n) {
  const z = 1.959963984540054, p = right / n, z2 = z * z;
  const middle = (p + z2 / (2 * n)) / (1 + z2 / n);
  const half = (z / (1 + z2 / n)) * Math.sqrt((p * (1 - p)) / n + z2 / (4 * n * n));
  return [Math.min(middle - half, p), Math.max(middle + half, p)];
}

// All questions under one setting {method, kept (positions of experts), k, threshold}.
function whatIf(data, setting) {
  const n = data.questions.length, open = openAnswers(data, setting.kept);
  const asked = [], answer = [], correct = [], costs = {};
  let calls = 0, right = 0;
  for (const name of Object.keys(data.costs)) costs[name] = 0;
  for (let question = 0; question < n; question++) {
    const one = askOne(data, question, setting, open);
    const hit = one.answer >= 0 && data.correct[question].includes(one.answer);
    asked.push(one.asked); answer.push(one.answer); correct.push(hit);
    calls += one.asked.length; right += hit ? 1 : 0;
    for (const name of Object.keys(costs))
      for (const expert of one.asked) costs[name] += data.costs[name][question][expert];
  }
  for (const name of Object.keys(costs)) costs[name] /= n;
  const [low, high] = wilson(right, n);
  return { asked, answer, correct, accuracy: right / n, low, high, calls: calls / n, costs, n };
}

// Paired difference a - b with its 95% interval (normal, from the questions that only one has right).
function difference(a, b) {
  let onlyA = 0, onlyB = 0;
  a.correct.forEach((hit, i) => { if (hit && !b.correct[i]) onlyA++; if (!hit && b.correct[i]) onlyB++; });
  const d = (onlyA - onlyB) / a.n;
  const half = 1.959963984540054 * Math.sqrt(Math.max(0, (onlyA + onlyB) / a.n - d * d) / a.n);
  return { d, low: d - half, high: d + half, onlyA, onlyB };
}

if (typeof module !== "undefined") module.exports = { whatIf, difference, wilson, probabilities, plurality };

// -- the page; texts are set as text, never as markup -----------------------------------------------------------

function show(data) {
  const find = (id) => document.getElementById(id);
  const make = (tag, text, kind) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };
  const percent = (x) => (Math.round(1000 * x + 1e-9) / 10).toFixed(1);
  const points = (x) => (x < 0 ? "−" : "+") + percent(Math.abs(x));
  const amount = (x) => (x >= 1000 ? Math.round(x).toLocaleString("en") : String(Number(x.toPrecision(3))));
  const everyone = data.experts.map((_, i) => i);
  const start = { method: "by_skill", kept: everyone, k: Math.min(3, everyone.length), threshold: data.threshold };
  const first = whatIf(data, start);
  let now = first, setting = start;

  data.experts.forEach((name, i) => {
    const label = make("label"), box = make("input");
    box.type = "checkbox"; box.checked = true; box.value = String(i);
    box.addEventListener("change", update);
    label.append(box, " " + name + " ", make("span", percent(data.ranking[i]), "about"));
    find("experts").append(label);
  });
  find("k").max = String(everyone.length);
  find("k").value = String(start.k);
  data.thresholds.forEach((value) => {
    const option = make("option", value === data.threshold ? value + " (chosen on validation)" : String(value));
    option.value = String(value); option.selected = value === data.threshold;
    find("threshold").append(option);
  });
  for (const id of ["k", "method", "threshold", "which"]) find(id).addEventListener("input", update);
  find("question").addEventListener("input", explain);
  find("reset").addEventListener("click", () => {
    find("method").value = start.method; find("k").value = String(start.k); find("which").value = "all";
    for (const box of find("experts").querySelectorAll("input")) box.checked = true;
    update();
  });

  function update() {
    const kept = [...find("experts").querySelectorAll("input")].filter((b) => b.checked).map((b) => Number(b.value));
    const method = find("method").value, inTurns = method.startsWith("sequential");
    for (const [id, hidden] of [["k-row", inTurns], ["threshold-row", !inTurns]])
      find(id).hidden = find(id).previousElementSibling.hidden = hidden;
    find("none").hidden = kept.length > 0;
    if (!kept.length) return;
    const k = Math.min(Number(find("k").value), kept.length);
    find("k-says").textContent = String(k);
    setting = { method, kept, k, threshold: Number(find("threshold").value) };
    const began = performance.now();
    now = whatIf(data, setting);
    find("took").textContent = "computed in " + Math.round(performance.now() - began) + " ms";
    const gained = difference(now, first);
    find("accuracy").textContent = percent(now.accuracy) + "% [" + percent(now.low) + ", " + percent(now.high) + "]";
    find("difference").textContent = !gained.onlyA && !gained.onlyB ? "the same questions right" : points(gained.d) + " points [" + points(gained.low) + ", " + points(gained.high) +
      "]: " + gained.onlyA + " questions won, " + gained.onlyB + " lost";
    find("calls").textContent = amount(now.calls);
    find("costs").textContent = Object.entries(now.costs).map(([name, value]) =>
      amount(value) + " " + name.replace("_", " ")).join(", ") || "not on record";
    find("range").style.left = 100 * now.low + "%";
    find("range").style.width = 100 * (now.high - now.low) + "%";
    find("dot").style.left = 100 * now.accuracy + "%";
    find("before").style.left = 100 * first.accuracy + "%";
    slots(kept);
    list();
  }

  function slots(kept) {
    const body = find("slots"), counts = everyone.map(() => 0), hits = everyone.map(() => 0);
    let total = 0;
    now.asked.forEach((asked, question) => asked.forEach((expert) => {
      counts[expert]++; total++;
      if (data.correct[question].includes(data.answer[question][expert])) hits[expert]++;
    }));
    body.replaceChildren(...ranked(kept, (expert) => counts[expert]).map((expert) => {
      const row = make("tr");
      const share = total ? percent(counts[expert] / total) : "–";
      const right = counts[expert] ? percent(hits[expert] / counts[expert]) : "–";
      row.append(make("td", data.experts[expert], "name"), make("td", percent(data.ranking[expert]), "number"),
        make("td", share, "number"), make("td", right, "number"));
      return row;
    }));
  }

  function list() {
    const select = find("question"), before = select.value, which = find("which").value;
    const wanted = data.questions.map((_, i) => i).filter((i) => which === "all" || (which === "wrong" && !now.correct[i])
      || (which === "changed" && now.correct[i] !== first.correct[i]));
    select.replaceChildren(...wanted.map((i) => {
      const option = make("option", (now.correct[i] ? "✓ " : "✗ ") + data.questions[i].id + " · " + data.questions[i].subject);
      option.value = String(i);
      return option;
    }));
    find("n-listed").textContent = wanted.length + " of " + now.n;
    if (wanted.includes(Number(before)) && before !== "") select.value = before;
    explain();
  }

  function explain() {
    const chosen = find("question").value, box = find("explained");
    box.hidden = chosen === "";
    if (chosen === "") return;
    const i = Number(chosen), about = data.questions[i], asked = now.asked[i];
    const inTurns = setting.method.startsWith("sequential");
    const chances = probabilities(data, i, setting.kept);
    find("text").textContent = about.text;
    find("skills").textContent = about.skills.join(", ") || "none: overall accuracy recruits";
    find("gold").textContent = about.gold;
    find("answer").textContent = (now.answer[i] < 0 ? "none" : data.said[i][now.answer[i]]) +
      (now.correct[i] ? ", right" : ", wrong");
    find("by").textContent = setting.method === "by_skill" ? "probability of a draw (%)"
      : setting.method === "top_k" ? "accuracy on validation (%)" : "expected accuracy (%)";
    const rest = ranked(setting.kept.filter((e) => !asked.includes(e)), (e) => data.ranking[e]);
    find("who").replaceChildren(...[...asked, ...rest].map((expert) => {
      const row = make("tr", undefined, asked.includes(expert) ? "" : "silent");
      const given = data.answer[i][expert];
      const why = setting.method === "by_skill" ? chances[setting.kept.indexOf(expert)]
        : inTurns ? expected(data, i, expert, setting.method === "sequential") : data.ranking[expert];
      const right = given >= 0 && data.correct[i].includes(given);
      row.append(make("td", data.experts[expert], "name"), make("td", percent(why), "number"),
        make("td", String(data.score[i][expert]), "number"), make("td", String(data.n[i][expert]), "number"),
        make("td", given < 0 ? "no answer" : data.said[i][given]), make("td", given < 0 ? "–" : right ? "right" : "wrong"),
        make("td", !asked.includes(expert) ? "not asked" : given >= 0 && given === now.answer[i] ? "won" : "asked"));
      return row;
    }));
  }

  update();
}

if (typeof document !== "undefined") show(JSON.parse(document.getElementById("data").textContent));
