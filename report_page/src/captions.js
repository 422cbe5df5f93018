// Captions that a person has edited. Kept by the browser, saved as the file that stage 3 takes as CAPTIONS_FROM.

export class Captions {
  #edits = new Map(); // number of a clip: its caption as edited, "" where stage 3 is to make it again
  #listeners = [];

  /** @param {object} dataset whose captions they are */
  constructor(dataset) {
    this.dataset = dataset;
    this.key = `reelset captions ${dataset.folder}/${dataset.name}`;
    this.stored = true;
    try {
      this.read(localStorage.getItem(this.key) ?? "");
    } catch {
      this.stored = false;
    }
  }

  onChange(listener) { this.#listeners.push(listener); }
  get count() { return this.#edits.size; }
  isEdited(i) { return this.#edits.has(i); }
  isPlaceholder(i) { return Boolean(this.dataset.placeholders?.[i]) && !this.#edits.has(i); }

  /** What is shown of a clip: its caption as the training set has it, or as it is edited. */
  shown(i) { return this.#edits.get(i) ?? this.dataset.captions?.get(i) ?? ""; }

  /** What is edited: the caption before the trigger word and its like are put around it, which stage 3 does again. */
  editable(i) { return this.#edits.get(i) ?? this.#answer(i); }

  #answer(i) { return this.dataset.answers?.get(i) || this.dataset.captions?.get(i) || ""; }

  set(i, text) {
    this.#put(i, text);
    this.#changed();
  }

  #put(i, text) {
    const line = text.split(/\s+/).filter(Boolean).join(" ");
    if (line === this.#answer(i)) this.#edits.delete(i);
    else this.#edits.set(i, line);
  }

  clear() {
    this.#edits.clear();
    this.#changed();
  }

  #changed() {
    try {
      localStorage.setItem(this.key, this.#lines(this.#edits));
    } catch {
      this.stored = false;
    }
    this.#listeners.forEach((listener) => listener());
  }

  #lines(captions) {
    return [...captions].sort(([a], [b]) => a - b).map(([i, caption]) => `${JSON.stringify({ video_path: this.dataset.paths.get(i), caption })}\n`).join("");
  }

  /** All captions that are not stage 3's: those edited here, and those that it was given before, which it would make again without them. */
  text() {
    const { given, count } = this.dataset;
    const captions = new Map();
    for (let i = 0; given && i < count; i++) if (given.get(i)) captions.set(i, given.get(i));
    for (const [i, caption] of this.#edits) captions.set(i, caption);
    return this.#lines([...captions].filter(([, caption]) => caption));
  }

  /** Take captions as `text` gives them; other lines, and clips that are not here, are ignored. */
  read(text) {
    const lines = text.split("\n").filter(Boolean);
    if (!lines.length) return;
    const numbers = new Map(Array.from({ length: this.dataset.count }, (_, i) => [this.dataset.paths.get(i), i]));
    for (const line of lines) {
      try {
        const { video_path: path, caption } = JSON.parse(line);
        if (numbers.has(path) && typeof caption === "string") this.#put(numbers.get(path), caption);
      } catch {
        continue;
      }
    }
  }

  load(text) {
    this.read(text);
    this.#changed();
  }

  /** Put a 1 into `into` where an edited caption holds `wanted`, in lower case. */
  matches(wanted, into) {
    for (const [i, caption] of this.#edits) if (caption.toLowerCase().includes(wanted)) into[i] = 1;
  }
}
