// What a person has marked: clips to drop, with a reason, and stars. Kept by the browser, saved as JSON Lines.

export class Marks {
  #marks = new Map(); // number of a clip: {mark, reason}
  #given = new Map(); // the same, as they were when train.jsonl was made
  #undo = [];
  #listeners = [];

  /** @param {object} dataset whose clips are marked */
  constructor(dataset) {
    this.dataset = dataset;
    this.key = `reelset ${dataset.folder}/${dataset.name}`;
    this.stored = true;
    for (const [i, mark, reason] of dataset.marks.given) this.#given.set(i, { mark, ...(reason ? { reason } : {}) });
    this.#marks = new Map(this.#given);
    try {
      this.read(localStorage.getItem(this.key) ?? "");
      localStorage.setItem(this.key, localStorage.getItem(this.key) ?? "");
    } catch {
      this.stored = false;
    }
  }

  onChange(listener) { this.#listeners.push(listener); }
  all() { return this.#marks; }
  get(i) { return this.#marks.get(i) ?? null; }

  /** Mark a clip; the same mark again takes it away. */
  set(i, mark, reason = null) {
    const before = this.get(i);
    this.#undo.push([i, before]);
    const same = before?.mark === mark && (before.reason ?? null) === reason;
    this.#put(i, same ? null : { mark, ...(reason ? { reason } : {}) });
    this.#changed();
  }

  /** @returns {number|null} the clip whose mark is again what it was */
  undo() {
    if (!this.#undo.length) return null;
    const [i, before] = this.#undo.pop();
    this.#put(i, before);
    this.#changed();
    return i;
  }

  clear() {
    this.#marks.clear();
    this.#undo.length = 0;
    this.#changed();
  }

  #put(i, mark) {
    if (mark) this.#marks.set(i, mark);
    else this.#marks.delete(i);
  }

  /** The clips whose mark is another one than was given. */
  #changes() {
    const same = (a, b) => a?.mark === b?.mark && (a?.reason ?? null) === (b?.reason ?? null);
    return [...new Set([...this.#given.keys(), ...this.#marks.keys()])].filter((i) => !same(this.#given.get(i), this.#marks.get(i)));
  }

  isChanged() { return this.#changes().length > 0; }

  #changed() {
    try {
      localStorage.setItem(this.key, this.#lines(this.#changes().map((i) => [i, this.get(i) ?? { mark: null }])));
    } catch {
      this.stored = false;
    }
    this.#listeners.forEach((listener) => listener());
  }

  /** The marks as the filter takes them. */
  text() { return this.#lines([...this.#marks]); }

  #lines(marks) {
    const { paths } = this.dataset;
    return marks.sort(([a], [b]) => a - b).map(([i, mark]) => `${JSON.stringify({ video_path: paths.get(i), ...mark })}\n`).join("");
  }

  /** Take marks as `text` gives them; lines that are none, and clips that are not here, are ignored. */
  read(text) {
    const lines = text.split("\n").filter(Boolean);
    if (!lines.length) return;
    const numbers = new Map(Array.from({ length: this.dataset.count }, (_, i) => [this.dataset.paths.get(i), i]));
    for (const line of lines) {
      try {
        const { video_path: path, mark, reason } = JSON.parse(line);
        if (!numbers.has(path)) continue;
        if (["drop", "star"].includes(mark)) this.#put(numbers.get(path), { mark, ...(typeof reason === "string" ? { reason } : {}) });
        else if (mark === null) this.#put(numbers.get(path), null); // of those given, one that was taken away
      } catch {
        continue;
      }
    }
  }

  load(text) {
    this.read(text);
    this.#changed();
  }

  counts() {
    const counts = { drop: 0, star: 0, reasons: new Map() };
    for (const { mark, reason } of this.#marks.values()) {
      counts[mark]++;
      if (mark === "drop") counts.reasons.set(reason ?? "", (counts.reasons.get(reason ?? "") ?? 0) + 1);
    }
    return counts;
  }
}
