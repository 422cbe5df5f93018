// The funnel as a table: what came in, what each step dropped, what is left.
import { make } from "./dom.js";
import { duration, number, say } from "./words.js";

/** @param {import("./choice.js").Choice} choice */
export function drawFunnel(choice) {
  const { dataset } = choice;
  const most = Math.max(1, dataset.count, ...dataset.steps.map((step) => step.count));
  const { steps, keptSeconds } = choice.steps();
  const rows = [];
  for (const step of dataset.steps) rows.push(...given(step, step.name === "clips" ? "step-clips" : step.name, most));
  for (const { file, failures } of dataset.score_failures) rows.push(failed(file, failures));
  for (const { name, dropped, seconds } of steps)
    rows.push(line(["where", "excluded"].includes(name) ? say(name) : name, "", dropped ? say("dropped", { n: number(dropped) }) : "0", duration(seconds), "drop", dropped / most));
  rows.push(line(say("kept"), number(choice.kept), "", duration(keptSeconds), "kept", choice.kept / most));
  for (const step of dataset.after) rows.push(...given(step, step.name, most));
  const head = make("tr", {}, ...["column", "n", "lost", "length"].map((key) => make("th", { scope: "col", textContent: say(key) })));
  return make("table", { class: "funnel" }, make("thead", {}, head), make("tbody", {}, ...rows));
}

function given(step, word, most) {
  const rows = [line(say(word), number(step.count), "", duration(step.seconds), "", step.count / most)];
  for (const [reason, count] of step.notes)
    rows.push(step.name === "captioned" ? line(say("placeholders"), number(count), "", "", "note", 0) : line(step.name === "shots" ? say("noClip") : reason, "", say("dropped", { n: number(count) }), "", "note", 0));
  if (step.failures.length) rows.push(failed("", step.failures));
  return rows;
}

function line(name, count, dropped, length, kind, part) {
  const bar = make("span", { class: "bar", "aria-hidden": "true" });
  bar.style.width = `${Math.min(100, 100 * part)}%`;
  const head = make("th", { scope: "row" }, bar, make("span", { textContent: name }));
  return make("tr", { class: kind }, head, ...[count, dropped, length].map((text) => make("td", { textContent: text })));
}

function failed(file, failures) {
  const groups = failures.map(({ error, count, examples }) =>
    make("details", {},
      make("summary", { textContent: (file ? `${file}: ` : "") + say("failed", { n: number(count), error }) }),
      make("ul", {}, ...examples.map(({ video_path: path, message }) => make("li", {}, make("b", { textContent: path }), ` ${message}`)))));
  return make("tr", { class: "failures" }, make("td", { colSpan: 4 }, ...groups));
}
