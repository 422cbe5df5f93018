// The clips: a grid of which only what is seen exists, and one clip in full.
import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";
import { byId, make } from "./dom.js";
import { duration, number, precise, REASONS, say, meaningOf } from "./words.js";

const CARD = { width: 176, height: 186, gap: 6, padding: 6 }; // the width is the least: cards share what a row leaves
const PICTURE = { width: 164, height: 104 };
const TAIL = 14; // letters of a long name that are always seen: -Scene-003.mp4
const FRAME_SECONDS = 0.45;

/** What is shown of a clip's thumbnail; nothing but images made by Reelset. */
export function picture(dataset, i, size = PICTURE) {
  const source = dataset.thumbnails?.get(i) ?? "";
  const box = make("span", { class: "picture" });
  if (!/^(data:image\/(webp|jpeg);base64,[A-Za-z0-9+/=]+$|([A-Za-z0-9_.~/-]|%[0-9A-F]{2})+\.(webp|jpg)$)/.test(source) || /^\/|:\/\//.test(source)) return box;
  const image = make("img", { alt: "", decoding: "async" });
  image.onload = () => {
    const ratio = image.naturalWidth / dataset.thumbnail_frames / image.naturalHeight;
    const width = Math.min(size.width, size.height * ratio);
    image.style.width = `${width}px`;
    image.style.height = `${width / ratio}px`;
  };
  image.onerror = () => image.remove();
  image.src = source;
  box.append(image);
  return box;
}

export const reasonText = (reason) => {
  if (!reason) return "";
  const [kind, filter] = reason;
  return filter ? say(kind, { name: filter.name, low: filter.low, high: filter.high }) : say(kind);
};

export class Gallery {
  /** @param {() => {choice: object, marks: object, list: Int32Array|number[]}} state what is shown */
  constructor(state, open) {
    this.state = state;
    this.open = open;
    this.focused = -1; // a place in the list
    this.scroller = byId("scroller");
    this.canvas = byId("canvas");
    this.cards = new Map();
    this.virtualizer = new Virtualizer({
      count: 0, getScrollElement: () => this.scroller, estimateSize: () => CARD.height, overscan: 3,
      observeElementRect, observeElementOffset, scrollToFn: elementScroll, onChange: () => this.draw(),
    });
    this.virtualizer._didMount();
    this.virtualizer._willUpdate();
    new ResizeObserver(() => this.draw()).observe(this.scroller);
    this.scroller.addEventListener("mouseover", (event) => this.#play(event.target.closest?.(".clip")));
    this.scroller.addEventListener("mouseleave", () => this.#play(null));
    this.scroller.addEventListener("focusin", (event) => {
      const card = event.target.closest?.(".clip");
      if (card) this.focused = Number(card.dataset.place);
      this.#play(card);
    });
    this.scroller.addEventListener("click", (event) => {
      const card = event.target.closest?.(".clip");
      if (card) this.open(Number(card.dataset.place));
    });
  }

  get columns() { return Math.max(1, Math.floor(this.scroller.clientWidth / CARD.width)); }
  get cardWidth() { return Math.floor(this.scroller.clientWidth / this.columns); }

  /** Draw what is seen; `anew` where cards are no longer true. */
  draw(anew = false) {
    const { list } = this.state();
    const { columns, cardWidth } = this;
    const rows = Math.ceil(list.length / columns);
    if (this.virtualizer.options.count !== rows) this.virtualizer.setOptions({ ...this.virtualizer.options, count: rows });
    this.virtualizer._willUpdate();
    this.canvas.style.height = `${this.virtualizer.getTotalSize()}px`;
    if (anew || this.drawnWidth !== cardWidth) {
      const hadFocus = this.canvas.contains(document.activeElement);
      this.canvas.replaceChildren();
      this.cards.clear();
      if (hadFocus) queueMicrotask(() => this.#card(this.focused)?.focus({ preventScroll: true }));
    }
    this.drawnWidth = cardWidth;
    const wanted = new Set();
    for (const row of this.virtualizer.getVirtualItems())
      for (let place = row.index * columns; place < Math.min(list.length, (row.index + 1) * columns); place++) {
        wanted.add(place);
        if (!this.cards.has(place)) this.cards.set(place, this.canvas.appendChild(this.#make(list[place], place)));
        const card = this.cards.get(place);
        card.style.width = `${cardWidth - CARD.gap}px`;
        card.style.transform = `translate(${(place % columns) * cardWidth}px, ${row.start}px)`;
      }
    for (const [place, card] of this.cards)
      if (!wanted.has(place)) {
        card.remove();
        this.cards.delete(place);
      }
    byId("scroller").classList.toggle("empty", !list.length);
    byId("scroller").classList.toggle("near", Boolean(this.state().near));
    this.canvas.dataset.empty = say("nothing");
  }

  #make(i, place) {
    const { choice, marks, captions, near } = this.state();
    const { dataset } = choice;
    const reason = choice.reason(i);
    const mark = marks.get(i);
    const path = dataset.paths.get(i);
    const caption = captions.shown(i).slice(0, 90);
    const why = reasonText(reason) || (caption && captions.isPlaceholder(i) ? `${say("placeholder")}: ${caption}` : caption);
    const passes = near ? !near.results[i] : !reason; // around a bound, its own two sides are shown
    const badge = mark ? make("span", { class: `badge ${mark.mark}`, role: "img", "aria-label": say(mark.mark === "star" ? "stars" : "markedDrop"), textContent: mark.mark === "star" ? "★" : "✕" }) : null;
    const length = dataset.number("duration")?.[i];
    return make("button", {
      type: "button", class: `clip ${passes ? "kept" : "dropped"}`, "data-place": place, tabIndex: place === Math.max(0, this.focused) ? 0 : -1,
      title: path,
    }, picture(dataset, i, { ...PICTURE, width: this.cardWidth - CARD.gap - 2 * CARD.padding }), badge,
    make("span", { class: "name", dir: "auto" }, ...shortened(path.split("/").at(-1))),
    near ? make("span", { class: "why value", textContent: `${near.name} ${precise(near.column.values[i])}` }) : make("span", { class: "why", textContent: why || (length === length && length !== undefined ? `${precise(length)} s` : "") }));
  }

  #card(place) { return this.cards.get(place); }

  #play(card) {
    if (this.playing === card) return;
    clearInterval(this.timer);
    this.playing?.querySelector("img")?.style.removeProperty("object-position");
    this.playing = card;
    const image = card?.querySelector("img");
    if (!image) return;
    const frames = this.state().choice.dataset.thumbnail_frames;
    let frame = 0;
    const step = () => {
      image.style.objectPosition = `${(100 * frame) / (frames - 1 || 1)}% 0`;
      frame = (frame + 1) % frames;
    };
    step();
    this.timer = setInterval(step, 1000 * FRAME_SECONDS);
  }

  /** Put the focus on a place of the list. */
  focus(place) {
    const { list } = this.state();
    if (!list.length) return;
    this.focused = Math.min(list.length - 1, Math.max(0, place));
    this.virtualizer.scrollToIndex(Math.floor(this.focused / this.columns), { align: "auto" });
    this.draw();
    const put = () => {
      for (const [at, card] of this.cards) card.tabIndex = at === this.focused ? 0 : -1;
      this.#card(this.focused)?.focus({ preventScroll: true });
    };
    put();
    requestAnimationFrame(() => {
      this.draw();
      put();
    });
  }
}

/** A name whose end is seen however narrow its card is. */
function shortened(name) {
  const letters = Array.from(name.replaceAll("\n", " "));
  if (letters.length <= TAIL) return [make("span", { textContent: name })];
  return [make("span", { class: "head", textContent: letters.slice(0, -TAIL).join("") }), make("span", { textContent: letters.slice(-TAIL).join("") })];
}

/** A clip in full, in the dialog. */
export function showClip(i, { choice, marks, captions, onMark, goTo }) {
  const { dataset } = choice;
  const dialog = byId("clip");
  const path = dataset.paths.get(i);
  const close = make("button", { type: "button", class: "close", "aria-label": say("close"), textContent: "✕" });
  close.onclick = () => dialog.close();
  const link = dataset.video_folder === null ? null : `${dataset.video_folder}/${dataset.paths.link(i)}`;
  const missing = make("p", { class: "missing", textContent: say("noPlay", { path }), hidden: link !== null });
  const video = link === null ? null : make("video", { controls: true, autoplay: true, muted: true, loop: true, playsInline: true, src: link, "aria-label": path });
  if (video) video.onerror = () => {
    video.hidden = true;
    missing.hidden = false;
  };
  const reason = choice.reason(i);
  const mark = marks.get(i);
  const marking = [["drop", "drop"], ["star", "star"]].map(([kind, word]) => {
    const button = make("button", { type: "button", "aria-pressed": String(mark?.mark === kind), textContent: say(word) });
    button.onclick = () => onMark(kind);
    return button;
  });
  const chosen = make("select", { "aria-label": say("why") }, make("option", { value: "", textContent: "—" }), ...REASONS.map((value, at) =>
    make("option", { value, textContent: say("reasons").split("|")[at], selected: mark?.reason === value })));
  chosen.onchange = () => onMark("drop", chosen.value || null);
  const source = dataset.sources?.get(i);
  const [start, end] = ["start_seconds", "end_seconds"].map((name) => dataset.number(name)?.[i]);
  const facts = [
    [say("why"), reasonText(reason) || say("isKept")], [say("source"), source], [say("span"), start === start && start !== undefined ? `${precise(start)} – ${precise(end)} s` : null],
  ].filter(([, value]) => value);
  const caption = make("textarea", { value: captions.editable(i), "aria-label": say("editCaption"), dir: "auto", spellcheck: true });
  caption.oninput = () => captions.set(i, caption.value);
  const values = dataset.columns.filter((c, at, all) =>
    c.kind !== "text" && !all.slice(0, at).some((o) => o.name === c.name && o.values[i] === c.values[i]) // duration is in several files
  ).map((column) => {
    const value = column.values[i];
    const shown = column.kind === "number" ? (value === value ? String(value) : "—") : column.names[value - 1] ?? "—";
    return make("tr", { title: meaningOf(column) }, make("th", { scope: "row", textContent: column.name }), make("td", { textContent: shown }));
  });
  const neighbours = source ? sameSource(dataset, i, source) : [];
  dialog.replaceChildren(close, make("h2", { id: "clip-title", dir: "auto", textContent: path }),
    make("div", { class: "clip-body" },
      make("div", {}, video ?? picture(dataset, i), missing, make("div", { class: "line" }, ...marking, chosen),
        make("dl", {}, ...facts.flatMap(([word, value]) => [make("dt", { textContent: word }), make("dd", { dir: "auto", textContent: value })])),
        make("h3", { textContent: say("caption") }), captions.isPlaceholder(i) ? make("p", { class: "meaning", textContent: say("placeholders") }) : null,
        dataset.answers?.get(i) ? make("p", { class: "meaning", dir: "auto", textContent: dataset.captions.get(i) }) : null, caption),
      make("div", {}, make("h3", { textContent: say("scores") }), make("table", { class: "values" }, make("tbody", {}, ...values)))),
    neighbours.length > 1 ? make("h3", { textContent: say("neighbours") }) : null,
    make("div", { class: "neighbours" }, ...(neighbours.length > 1 ? neighbours : []).map((other) => {
      const button = make("button", { type: "button", class: `clip ${choice.reason(other) ? "dropped" : "kept"}`, "aria-current": other === i ? "true" : undefined, "aria-label": say("play", { path: dataset.paths.get(other) }) }, picture(dataset, other, { width: 110, height: 70 }));
      button.onclick = () => goTo(other);
      return button;
    })));
  if (!dialog.open) dialog.showModal();
  return dialog;
}

/** The clips of a source in the order of time, at most thirty around one. */
function sameSource(dataset, i, source) {
  const same = [];
  for (let other = 0; other < dataset.count; other++) if (equal(dataset.sources.bytes(other), dataset.sources.bytes(i))) same.push(other);
  const at = same.indexOf(i);
  return same.slice(Math.max(0, at - 15), at + 15);
}

function equal(a, b) {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
