// A histogram with two handles for each score, and choices for columns of texts.
import { byId, make, svg } from "./dom.js";
import { number, precise, say, meaningOf } from "./words.js";

const BARS = 48;
const STEPS = 200; // of a slider, from end to end; beyond both ends is "no bound"

/** Draw all thresholds; `changed()` is called when one has moved, `near(filter)` to show the clips around it. */
export function drawThresholds(choice, shown, changed, near) {
  const cards = choice.filters.filter((f) => f.given || shown.has(f)).map((f) => new Threshold(choice, f, changed, near));
  const others = choice.filters.filter((f) => !f.given && !shown.has(f));
  const add = make("select", { "aria-label": say("add") }, make("option", { value: "", textContent: say("add") }),
    ...others.map((f) => make("option", { value: choice.filters.indexOf(f), textContent: `${f.name} (${f.file})` })));
  add.onchange = () => {
    shown.add(choice.filters[add.value]);
    changed(true);
  };
  const where = choice.dataset.where ? [condition(choice, changed)] : [];
  byId("thresholds").replaceChildren(...cards.map((card) => card.element), ...where, ...choice.facets.map((facet) => drawFacet(facet, choice, changed)), others.length ? add : "");
  return cards;
}

function condition(choice, changed) {
  const box = make("input", { type: "checkbox", checked: choice.useWhere });
  box.onchange = () => {
    choice.useWhere = box.checked;
    choice.update();
    changed();
  };
  return make("label", { class: "card line" }, box, make("span", { textContent: say("useWhere", { where: choice.dataset.where }) }));
}

function drawFacet(facet, choice, changed) {
  const { column, chosen } = facet;
  const counts = new Uint32Array(column.names.length + 1);
  for (const code of column.values) counts[code]++;
  const boxes = column.names.map((name, at) => {
    const box = make("input", { type: "checkbox", checked: chosen.has(at + 1) });
    box.onchange = () => {
      chosen[box.checked ? "add" : "delete"](at + 1);
      choice.update();
      changed();
    };
    return make("label", { class: "chip" }, box, make("span", { textContent: name || "—" }), make("span", { class: "meaning", textContent: say("clips", { n: number(counts[at + 1]) }) }));
  });
  return make("details", { class: "card facet", open: chosen.size > 0 || boxes.length <= 4 },
    make("summary", { textContent: column.name, title: meaningOf(column) ?? column.file }), make("fieldset", {}, make("legend", { class: "hidden", textContent: column.name }), ...boxes));
}

class Threshold {
  constructor(choice, filter, changed, near) {
    Object.assign(this, { choice, filter, changed });
    const { name, column, file, missing } = filter;
    [this.from, this.to] = filter.range;
    this.whole = column.whole && this.to - this.from <= STEPS;
    this.step = this.whole ? 1 : (this.to - this.from) / STEPS || 1;
    this.bars = svg("g");
    this.shade = [svg("rect", { class: "out", y: 0, height: 40 }), svg("rect", { class: "out", y: 0, height: 40 })];
    const picture = svg("svg", { viewBox: `0 0 ${BARS} 40`, preserveAspectRatio: "none", class: "histogram", "aria-hidden": "true" }, this.bars, ...this.shade);
    this.sliders = ["least", "most"].map((end, at) => this.#slider(say(end, { name }), at));
    this.fields = ["least", "most"].map((end, at) => this.#field(say(end, { name }), at));
    const button = make("button", { type: "button", class: "small", textContent: say("near") });
    button.onclick = () => near(filter);
    const reset = make("button", { type: "button", class: "small", textContent: say("reset") });
    reset.onclick = () => this.#set(filter.given?.low ?? null, filter.given?.high ?? null);
    this.element = make("div", { class: "card threshold", role: "group", "aria-label": name },
      make("h3", { textContent: name, title: `${file}${column.meaning ? `: ${meaningOf(column)}` : ""}` }),
      make("p", { class: "meaning", textContent: meaningOf(column) ?? file }),
      make("div", { class: "plot" }, picture, ...this.sliders),
      make("div", { class: "line" }, ...this.fields, button, reset),
      missing ? make("p", { class: "meaning", textContent: say("noScore", { n: number(missing) }) }) : null);
    this.#count();
    this.draw();
  }

  /** A position left of 0 is no lower bound, right of STEPS no upper one. */
  #slider(label, at) {
    const last = this.whole ? this.to - this.from : STEPS;
    const slider = make("input", { type: "range", min: -1, max: last + 1, step: 1, "aria-label": label, class: at ? "high" : "low" });
    slider.oninput = () => {
      const place = Number(slider.value);
      const value = place < 0 || place > last ? null : this.#round(this.from + place * this.step);
      const none = at ? place > last : place < 0;
      const { low, high } = this.filter;
      const moved = none ? null : (value ?? (at ? this.from : this.to));
      if (at) this.#set(low !== null && moved !== null && moved < low ? moved : low, moved);
      else this.#set(moved, high !== null && moved !== null && moved > high ? moved : high);
    };
    slider.onkeydown = (event) => {
      const jump = { PageUp: 10, PageDown: -10 }[event.key];
      if (!jump) return;
      event.preventDefault();
      slider.value = Number(slider.value) + jump;
      slider.oninput();
    };
    return slider;
  }

  #field(label, at) {
    const field = make("input", { type: "number", step: "any", "aria-label": label, placeholder: say("none") });
    field.onchange = () => {
      const value = field.value === "" ? null : Number(field.value);
      this.#set(at ? this.filter.low : value, at ? value : this.filter.high);
    };
    return field;
  }

  /** As few digits as tell one step from the next. */
  #round(value) {
    const digits = Math.max(0, Math.ceil(-Math.log10(this.step)) + 1);
    return Number(value.toFixed(Math.min(digits, 12)));
  }

  #set(low, high) {
    this.choice.set(this.filter, low, high);
    this.draw();
    this.changed();
  }

  #count() {
    const counts = new Uint32Array(BARS);
    const scale = BARS / (this.to - this.from || 1);
    for (const v of this.filter.column.values) if (Number.isFinite(v)) counts[Math.min(BARS - 1, Math.floor((v - this.from) * scale))]++;
    const most = Math.max(...counts, 1);
    this.bars.replaceChildren(...Array.from(counts, (count, at) => {
      const height = count ? Math.max(1, 40 * Math.sqrt(count / most)) : 0;
      return svg("rect", { x: at + 0.06, width: 0.88, y: 40 - height, height });
    }));
  }

  /** Bring sliders, fields and shade to where the filter is. */
  draw() {
    const { low, high } = this.filter;
    const last = this.whole ? this.to - this.from : STEPS;
    const place = (value) => Math.min(last, Math.max(0, (value - this.from) / this.step));
    const at = [low === null ? -1 : place(low), high === null ? last + 1 : place(high)];
    [low, high].forEach((value, i) => {
      this.sliders[i].value = Math.round(at[i]);
      this.sliders[i].setAttribute("aria-valuetext", value === null ? say("none") : precise(value));
      this.fields[i].value = value ?? "";
    });
    const x = (value, otherwise) => (value === null ? otherwise : (BARS * (value - this.from)) / (this.to - this.from || 1));
    const [left, right] = [Math.min(BARS, Math.max(0, x(low, 0))), Math.min(BARS, Math.max(0, x(high, BARS)))];
    this.shade[0].setAttribute("width", left);
    this.shade[1].setAttribute("x", right);
    this.shade[1].setAttribute("width", BARS - right);
  }
}
