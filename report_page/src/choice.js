// Which clips are kept: the rule of filter_videos_by_motion_score.py, over columns of numbers and of choices.

const [PASSES, MISSING, BELOW, ABOVE] = [0, 1, 2, 3];

/** The bounds and facets that a person moves, and what they keep of a dataset. */
export class Choice {
  constructor(dataset, marks) {
    this.dataset = dataset;
    this.marks = marks;
    this.filters = dataset.columns
      .filter((column) => column.kind === "number")
      .map((column) => {
        const given = dataset.filters.find((f) => f.file === column.file && f.column === column.name);
        const finite = column.values.filter(Number.isFinite);
        return {
          column, file: column.file, name: column.name, slack: given?.slack ?? 0, variables: given?.variables ?? [null, null],
          low: given?.low ?? null, high: given?.high ?? null, given: given ?? null, range: extent(finite), missing: column.values.length - finite.length,
          results: new Uint8Array(dataset.count), needed: Boolean(given),
        };
      });
    const place = (f) => (f.given ? dataset.filters.indexOf(f.given) : Infinity);
    this.filters.sort((a, b) => place(a) - place(b) || 0);
    const isOnly = ({ name }) => dataset.columns.filter((c) => c.name === name).length === 1; // of its name, which is all that a condition has
    this.facets = dataset.columns.filter((c) => c.kind === "category" && isOnly(c)).map((column) => ({ column, chosen: new Set() }));
    this.useWhere = Boolean(dataset.where);
    this.keepStars = Boolean(dataset.marks.include);
    this.failed = new Int16Array(dataset.count); // -1: kept; the number of a filter; or one of the following
    this.filters.forEach((f) => this.#judge(f));
    this.update();
  }

  get WHERE() { return this.filters.length; }
  get EXCLUDED() { return this.filters.length + 1; }

  /** Whether a filter can drop a clip. */
  isOn(filter) {
    return filter.needed || filter.low !== null || filter.high !== null;
  }

  set(filter, low, high) {
    Object.assign(filter, { low, high });
    this.#judge(filter);
    this.update();
  }

  #judge({ column, low, high, slack, results }) {
    const least = low === null ? -Infinity : low - slack;
    const most = high === null ? Infinity : high + slack;
    const { values } = column;
    const spared = column.without_stills ? this.dataset.stills : null; // what has no such value, and is not held against it
    for (let i = 0; i < values.length; i++) {
      const v = values[i];
      results[i] = v !== v ? (spared?.[i] ? PASSES : MISSING) : v < least ? BELOW : v > most ? ABOVE : PASSES;
    }
  }

  /** Decide on every clip again; each is dropped by the first that fails it. */
  update() {
    const { failed, dataset } = this;
    failed.fill(-1);
    if (this.useWhere) for (let i = 0; i < failed.length; i++) if (!dataset.wherePasses[i]) failed[i] = this.WHERE;
    for (const { column, chosen } of this.facets) {
      if (!chosen.size) continue;
      const allowed = new Uint8Array(column.names.length + 1);
      for (const code of chosen) allowed[code] = 1;
      for (let i = 0; i < failed.length; i++) if (!allowed[column.values[i]]) failed[i] = this.WHERE;
    }
    for (let n = this.filters.length - 1; n >= 0; n--) {
      const filter = this.filters[n];
      if (!this.isOn(filter)) continue;
      const { results } = filter;
      for (let i = 0; i < failed.length; i++) if (results[i]) failed[i] = n;
    }
    for (const [i, mark] of this.marks.all()) {
      if (mark.mark === "drop") failed[i] = this.EXCLUDED;
      else if (this.keepStars) failed[i] = -1;
    }
    this.kept = 0;
    for (let i = 0; i < failed.length; i++) if (failed[i] < 0) this.kept++;
  }

  /** @returns {{name: string, dropped: number, seconds: number}[]} what each step drops, in order */
  steps() {
    const seconds = this.dataset.number("duration");
    const steps = [...this.filters, null, null].map(() => ({ dropped: 0, seconds: 0 }));
    let keptSeconds = 0;
    for (let i = 0; i < this.failed.length; i++) {
      const step = steps[this.failed[i]];
      const length = seconds && seconds[i] === seconds[i] ? seconds[i] : 0;
      if (step) {
        step.dropped++;
        step.seconds += length;
      } else keptSeconds += length;
    }
    const names = [...this.filters.map((f) => f.name), "where", "excluded"];
    const on = (n) => (n < this.filters.length ? this.isOn(this.filters[n]) : steps[n].dropped > 0);
    const order = [this.EXCLUDED, ...steps.keys()].filter((n, at, all) => all.indexOf(n) === at);
    return { keptSeconds, steps: order.filter(on).map((n) => ({ name: names[n], ...steps[n] })) };
  }

  /** @returns {[string, number][]} scores that clips lack which pass all filters before, and how many these are */
  lacking() {
    const counts = this.filters.map((f, n) => [f.name, this.failed.reduce((sum, failed, i) => sum + (failed === n && f.results[i] === MISSING), 0)]);
    return counts.filter(([, count]) => count);
  }

  /** Why a clip is dropped: [kind, filter], null where it is kept. */
  reason(i) {
    const n = this.failed[i];
    if (n < 0) return null;
    if (n === this.WHERE) return ["where", null];
    if (n === this.EXCLUDED) return ["excluded", null];
    return [{ [MISSING]: "missing", [BELOW]: "below", [ABOVE]: "above" }[this.filters[n].results[i]], this.filters[n]];
  }
}

function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  return low <= high ? [low, high] : [0, 1];
}
