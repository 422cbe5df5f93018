// The page: what is shown of which dataset, and what follows when a person moves something.
import { Choice } from "./choice.js";
import { Captions } from "./captions.js";
import { captionsCommand, filterCommand, marksFiles, refreshCommand, stageCommand } from "./commands.js";
import { open, report } from "./data.js";
import { byId, make, save } from "./dom.js";
import { drawFunnel } from "./funnel.js";
import { Gallery, showClip } from "./gallery.js";
import { Marks } from "./marks.js";
import { drawThresholds } from "./thresholds.js";
import { current, duration, number, REASONS, say, share, switchLanguage } from "./words.js";

const meta = report();
const views = []; // of each dataset: {dataset, choice, marks, captions, shown}
let at = 0; // the dataset that is shown
const shown = { which: "all", search: "", sort: "", falling: true, near: null };
let list = new Int32Array(0);
let found = null; // a byte a clip: whether the search finds it
let sorted = null; // the clips in the order that is chosen
let gallery;

const view = () => views[at];
const other = () => views[1 - at];

/** Whether a clip is kept in the other dataset too. */
function keptThere(i) {
  const there = view().dataset.match[i];
  return there >= 0 && other().choice.failed[there] < 0;
}

const WHICH = {
  all: () => () => true,
  kept: ({ choice }) => (i) => choice.failed[i] < 0,
  dropped: ({ choice }) => (i) => choice.failed[i] >= 0,
  stars: ({ marks }) => (i) => marks.get(i)?.mark === "star",
  markedDrop: ({ marks }) => (i) => marks.get(i)?.mark === "drop",
  onlyHere: ({ choice }) => (i) => choice.failed[i] < 0 && !keptThere(i),
  both: ({ choice }) => (i) => choice.failed[i] < 0 && keptThere(i),
};

/** The clips to show, as their numbers. */
function listed() {
  const { choice, dataset } = view();
  if (shown.near) return nearest(shown.near);
  const belongs = WHICH[shown.which](view());
  const order = sorted ?? (sorted = inOrder(dataset));
  const kept = new Int32Array(dataset.count);
  let count = 0;
  for (const i of order) if ((!found || found[i]) && belongs(i)) kept[count++] = i;
  return kept.subarray(0, count);
}

function inOrder(dataset) {
  const order = Int32Array.from({ length: dataset.count }, (_, i) => i);
  const column = dataset.columns.find((c) => `${c.file}:${c.name}` === shown.sort);
  if (!column) return order;
  const sign = shown.falling ? -1 : 1;
  const { values } = column;
  const rank = (i) => (values[i] === values[i] ? sign * values[i] : Infinity);
  return order.sort((a, b) => rank(a) - rank(b) || a - b);
}

/** The clips around the bounds of a filter, by turns below and above each, the nearest first. */
function nearest(filter) {
  const { values } = filter.column;
  const ends = [filter.low, filter.high].filter((value) => value !== null);
  const far = (i) => Math.min(...(ends.length ? ends : [filter.range[0]]).map((end) => Math.abs(values[i] - end)));
  const sides = [[], []];
  for (let i = 0; i < values.length; i++) if (values[i] === values[i]) sides[filter.results[i] ? 1 : 0].push([far(i), i]);
  const [kept, dropped] = sides.map((side) => side.sort((a, b) => a[0] - b[0] || a[1] - b[1]).slice(0, 60).map(([, i]) => i));
  return Int32Array.from({ length: 2 * Math.max(kept.length, dropped.length) }, (_, n) => (n % 2 ? dropped : kept)[n >> 1] ?? -1).filter((i) => i >= 0);
}

/** Everything that depends on the choice. */
function update(anew = false) {
  const { choice, dataset, marks } = view();
  if (anew) drawThresholds(choice, view().shown, (more) => update(more === true), showNear);
  byId("funnel").replaceChildren(...(views.length > 1 ? [drawFunnel(choice), make("h3", { textContent: say("compared", { name: other().dataset.name }) }), drawFunnel(other().choice)] : [drawFunnel(choice)]));
  const { keptSeconds } = choice.steps();
  byId("summary").textContent = say("summary", { kept: number(choice.kept), count: number(dataset.count), share: share(choice.kept / Math.max(1, dataset.count)), hours: duration(keptSeconds) });
  drawCommands(choice);
  drawMarks(marks);
  drawCaptions();
  list = listed();
  byId("shown").textContent = shown.near ? say("nearNote", { name: shown.near.name, bounds: `${shown.near.low ?? "−∞"} … ${shown.near.high ?? "∞"}` }) : say("showing", { n: number(list.length) });
  gallery.draw(true);
}

function showNear(filter) {
  shown.near = filter;
  drawControls();
  update();
  byId("gallery").scrollIntoView({ block: "nearest" });
}

function drawCommands(choice) {
  const { marks, dataset } = choice;
  const lacking = choice.lacking();
  const isRead = marks.isChanged() && Object.values(marksFiles(choice)).some(Boolean);
  byId("commands").replaceChildren(
    ...[["filterLine", filterCommand], ["refreshLine", refreshCommand], ["stageLine", stageCommand]].flatMap(([word, command]) => [make("p", { textContent: say(word) }), copyable(command(choice), word)]),
    make("p", { class: "meaning", textContent: say("reload") }),
    ...lacking.map(([name, count]) => make("p", { class: "meaning", textContent: say("lacking", { n: number(count), name }) })),
    isRead ? make("p", { class: "meaning", textContent: say("saveFirst", { path: dataset.marks_file }) }) : "");
}

/** What of `kept` a person saves, loads and forgets: `words` are those of the buttons, `name` of the file. */
function storeButtons(kept, name, words) {
  const [saving, loading, forgetting] = words;
  const button = (word, act) => Object.assign(make("button", { type: "button", class: "small", textContent: say(word) }), { onclick: act });
  const file = make("input", { type: "file", accept: ".jsonl,.json,.txt", class: "hidden", id: `${name}-file`, tabIndex: -1, "aria-label": say(loading) });
  file.onchange = async () => kept.load(await file.files[0].text());
  const buttons = [button(saving, () => save(`${name}.jsonl`, kept.text())), button(loading, () => file.click()), button(forgetting, () => kept.clear()), file];
  return [make("div", { class: "line" }, ...buttons), kept.stored ? "" : make("p", { class: "meaning", textContent: say("noStorage") })];
}

function drawCaptions() {
  const { captions, choice, dataset } = view();
  byId("captions").replaceChildren(
    make("p", { textContent: say("edited", { n: number(captions.count) }) }),
    dataset.placeholders ? make("p", { class: "meaning", textContent: say("placeholders") }) : "",
    make("p", { class: "meaning", textContent: say("captionsLine", { path: dataset.captions_file }) }), copyable(captionsCommand(choice), "captionsLine"),
    ...storeButtons(captions, "captions", ["saveCaptions", "loadCaptions", "clearCaptions"]));
}

function copyable(text, id) {
  const code = make("code", { id, tabIndex: 0, textContent: text });
  const button = make("button", { type: "button", class: "small", textContent: say("copy") });
  button.onclick = async () => {
    getSelection().selectAllChildren(code); // where there is no clipboard, it can be copied by hand
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      document.execCommand("copy");
    }
    button.textContent = say("copied");
    setTimeout(() => (button.textContent = say("copy")), 1500);
  };
  return make("div", { class: "command" }, code, button);
}

function drawMarks(marks) {
  const { drop, star, reasons } = marks.counts();
  const { choice } = view();
  const words = Object.fromEntries(REASONS.map((reason, n) => [reason, say("reasons").split("|")[n]]));
  const stars = make("input", { type: "checkbox", checked: choice.keepStars, id: "keep-stars" });
  stars.onchange = () => {
    choice.keepStars = stars.checked;
    choice.update();
    update();
  };
  byId("marks").replaceChildren(
    make("p", { textContent: say("marked", { drop: number(drop), star: number(star) }) }),
    reasons.size ? make("ul", { class: "reasons" }, ...[...reasons].map(([reason, count]) => make("li", { textContent: `${words[reason] ?? (reason || "—")} ${number(count)}` }))) : "",
    make("label", { class: "line" }, stars, make("span", { textContent: say("keepStars") })),
    ...storeButtons(marks, "marks", ["saveMarks", "loadMarks", "clearMarks"]));
}

function drawControls() {
  const { dataset } = view();
  const names = ["all", "kept", "dropped", "stars", "markedDrop", ...(views.length > 1 ? ["onlyHere", "both"] : [])];
  const words = { kept: "keptClips", dropped: "droppedClips" };
  const choices = names.map((which) => {
    const button = make("button", { type: "button", "aria-pressed": String(!shown.near && shown.which === which), "data-which": which, textContent: say(words[which] ?? which, { name: dataset.name }) });
    button.onclick = () => {
      Object.assign(shown, { which, near: null });
      drawControls();
      update();
    };
    return button;
  });
  const search = make("input", { type: "search", id: "search", placeholder: say("search"), "aria-label": say("search"), value: shown.search });
  search.oninput = () => {
    shown.search = search.value;
    shown.near = null;
    find();
    update();
  };
  const columns = dataset.columns.filter((c) => c.kind !== "text");
  const sort = make("select", { id: "sort", "aria-label": say("sort") }, make("option", { value: "", textContent: say("order") }),
    ...columns.map((c) => make("option", { value: `${c.file}:${c.name}`, textContent: c.name, selected: shown.sort === `${c.file}:${c.name}` })));
  const direction = make("button", { type: "button", id: "direction", textContent: say(shown.falling ? "falling" : "rising") });
  const resort = () => {
    sorted = null;
    shown.near = null;
    direction.textContent = say(shown.falling ? "falling" : "rising");
    update();
  };
  sort.onchange = () => {
    shown.sort = sort.value;
    resort();
  };
  direction.onclick = () => {
    shown.falling = !shown.falling;
    resort();
  };
  byId("controls").replaceChildren(make("div", { class: "choices", role: "group", "aria-label": say("gallery") }, ...choices), search, make("span", { class: "line" }, sort, direction));
}

function find() {
  const wanted = shown.search.trim().toLowerCase();
  const { paths, captions } = view().dataset;
  found = wanted ? paths.matches(wanted) : null;
  if (found && captions) captions.matches(wanted, found);
  if (found) view().captions.matches(wanted, found);
}

function openClip(place) {
  const i = list[place];
  gallery.focused = place;
  const again = () => showClip(i, { choice: view().choice, marks: view().marks, captions: view().captions, onMark: (kind, reason = null) => { mark(kind, reason, i); again(); }, goTo: (clip) => {
    const there = list.indexOf(clip);
    if (there >= 0) openClip(there);
    else showOther(clip);
  } });
  again();
}

function showOther(clip) {
  shown.which = "all";
  Object.assign(shown, { near: null, search: "" });
  find();
  drawControls();
  update();
  openClip(list.indexOf(clip));
}

function mark(kind, reason, i = list[Math.max(0, gallery.focused)]) {
  if (i !== undefined) view().marks.set(i, kind, reason);
}

function onKey(event) {
  const typing = event.target.closest?.("input, select, textarea") && event.target.type !== "checkbox";
  const dialog = byId("clip").open;
  if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
  const { key } = event;
  if (key === "j" || key === "k") {
    const place = Math.min(list.length - 1, Math.max(0, gallery.focused + (key === "j" ? 1 : -1)));
    if (dialog) openClip(place);
    else gallery.focus(place);
  } else if (key === "x") mark("drop", null);
  else if (key === "s") mark("star", null);
  else if (/^[1-6]$/.test(key)) mark("drop", REASONS[key - 1]);
  else if (key === "u") {
    const clip = view().marks.undo();
    const place = clip === null ? -1 : list.indexOf(clip);
    if (place >= 0 && !dialog) gallery.focus(place);
  } else if (key === "/") byId("search").focus();
  else if (key === "?") showKeys();
  else return;
  event.preventDefault();
  if (dialog && /^[xsu1-6]$/.test(key)) openClip(Math.max(0, gallery.focused));
}

function showKeys() {
  const dialog = byId("keys");
  const close = make("button", { type: "button", class: "close", "aria-label": say("close"), textContent: "✕" });
  close.onclick = () => dialog.close();
  dialog.replaceChildren(close, make("h2", { id: "keys-title", textContent: say("help") }),
    make("dl", {}, ...say("keys").split("\n").flatMap((row) => row.split("|").map((text, n) => make(n ? "dd" : "dt", { textContent: text })))));
  if (!dialog.open) dialog.showModal();
}

/** Everything that has words. */
function draw() {
  document.documentElement.lang = current() === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word);
  byId("language").textContent = say("language");
  byId("title").textContent = views.map(({ dataset }) => dataset.name).join(" / ");
  document.title = `${byId("title").textContent} – Reelset`;
  const datasets = byId("datasets");
  datasets.hidden = views.length < 2;
  datasets.setAttribute("aria-label", say("dataset"));
  datasets.replaceChildren(...views.map(({ dataset }, n) => {
    const button = make("button", { type: "button", "aria-pressed": String(n === at), textContent: `${"AB"[n]}: ${dataset.name}` });
    button.onclick = () => {
      at = n;
      Object.assign(shown, { near: null, sort: "" });
      sorted = null;
      find();
      draw();
    };
    return button;
  }));
  drawControls();
  update(true);
}

function setTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

for (const dataset of await Promise.all(meta.datasets.map(open))) {
  dataset.about = meta;
  const marks = new Marks(dataset);
  const choice = new Choice(dataset, marks);
  const captions = new Captions(dataset);
  views.push({ dataset, choice, marks, captions, shown: new Set() });
  captions.onChange(drawCaptions);
  marks.onChange(() => {
    choice.update();
    update();
  });
}
gallery = new Gallery(() => ({ choice: view().choice, marks: view().marks, captions: view().captions, near: shown.near, list }), openClip);
byId("language").onclick = () => {
  switchLanguage();
  draw();
};
byId("theme").onclick = setTheme;
byId("help").onclick = showKeys;
byId("clip").addEventListener("close", () => {
  byId("clip").replaceChildren(); // the video ends
  gallery.draw(true); // its caption may be another one
  gallery.focus(gallery.focused);
});
document.addEventListener("keydown", onKey);
draw();
document.documentElement.dataset.ready = "true";
