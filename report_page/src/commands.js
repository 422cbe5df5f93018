// The commands that make the choice of the page so, for a POSIX shell, in whatever folder it is.

/** @param {string} text @returns {string} one word of a shell */
export const quoted = (text) => (/^[A-Za-z0-9_./:=,+@%^-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const name = (column) => `"${column.replaceAll('"', '""')}"`;
const literal = (text) => `'${text.replaceAll("'", "''")}'`;
const place = (dataset, file) => (/^\/|:\/\//.test(file) ? file : `${dataset.folder}/${file}`);
const bound = (value) => (value === null ? "none" : String(value));
const listName = (dataset) => (dataset.list ?? "").split("/").at(-1);
const script = ({ about }, file) => quoted(`${about.project}/${file}`);
const assigned = (variables) => Object.entries(variables).map(([key, value]) => `${key}=${quoted(value)}`);

/** Whether bounds of a column are flags of the filter; those of the list's own columns are part of the condition. */
const isOwn = (dataset, filter) => filter.given?.own || filter.file === listName(dataset);
const isLength = (dataset, filter) => isOwn(dataset, filter) && filter.name === "duration";

function compared({ name: column, low, high }) {
  return [low !== null && `${name(column)} >= ${low}`, high !== null && `${name(column)} <= ${high}`].filter(Boolean);
}

/** SQL that is true for what facets, and filters that are no flags, keep; null where there are none. */
function condition(choice, filters) {
  const parts = filters.flatMap(compared);
  for (const { column, chosen } of choice.facets) {
    const isBoolean = column.names.every((value) => value === "true" || value === "false");
    const texts = [...chosen].sort((a, b) => a - b).map((code) => column.names[code - 1]);
    if (texts.length) parts.push(`${name(column.name)} IN (${texts.map(isBoolean ? String : literal).join(", ")})`);
  }
  if (choice.useWhere) parts.push(parts.length ? `(${choice.dataset.where})` : choice.dataset.where);
  return parts.length ? parts.join(" AND ") : null;
}

const usedFiles = (choice, filters) => [...filters.map((f) => f.file), ...choice.facets.filter((f) => f.chosen.size).map((f) => f.column.file)];

/** The files that --exclude and --include name: those that were given, until a mark is another one; null where there is nothing to do. */
export function marksFiles({ dataset, marks, keepStars }) {
  const { drop, star } = marks.counts();
  const { exclude, include } = marks.isChanged() ? { exclude: dataset.marks_file, include: dataset.marks_file } : dataset.marks;
  return { exclude: drop ? exclude : null, include: star && keepStars ? include ?? exclude : null };
}

/** The line of filter_videos_by_motion_score.py. */
export function filterCommand(choice) {
  const { dataset } = choice;
  const path = (file) => place(dataset, file);
  const on = choice.filters.filter((f) => choice.isOn(f));
  const length = choice.filters.find((f) => isLength(dataset, f));
  const flags = on.filter((f) => !isOwn(dataset, f));
  const words = [quoted(dataset.about.python), script(dataset, "filter_videos_by_motion_score.py")];
  const flag = (key, value) => words.push(value.startsWith("-") ? quoted(`${key}=${value}`) : `${key} ${quoted(value)}`);
  if (dataset.list === null) flag("--video_folder", dataset.videos);
  else flag("--video_metadata_path", dataset.list);
  flag("--saved_path", dataset.saved_path);
  flag("--min_seconds", length?.low === null || !length ? "-inf" : String(length.low));
  flag("--max_seconds", length?.high === null || !length ? "inf" : String(length.high));
  for (const f of flags) words.push(["--filter", path(f.file), f.name, bound(f.low), bound(f.high)].map(quoted).join(" "));
  const own = on.filter((f) => isOwn(dataset, f) && !isLength(dataset, f));
  const where = condition(choice, own);
  const filtered = new Set([...flags.map((f) => f.file), listName(dataset)]);
  const more = new Set([...(dataset.columns_from ?? []), ...usedFiles(choice, own)].filter((file) => !filtered.has(file)));
  if (where) for (const file of more) flag("--columns_from", path(file));
  if (where) flag("--where", where);
  const { exclude, include } = marksFiles(choice);
  if (exclude) flag("--exclude", exclude);
  if (include) flag("--include", include);
  return words.join(" ");
}

/** The line of stage 2, which also computes the scores that are missing. */
export function stageCommand(choice) {
  const { dataset } = choice;
  const variables = { ...dataset.about.variables["2"], ...dataset.variables };
  const on = choice.filters.filter((f) => choice.isOn(f));
  const rest = [];
  for (const f of on) {
    const [low, high] = f.variables ?? [null, null];
    const none = isLength(dataset, f) ? ["-inf", "inf"] : ["none", "none"];
    if (low === "MIN_SHORT_SIDE") variables[low] = String(Math.ceil(f.low ?? 0)); // whole pixels, 0 for no bound
    else if (low) variables[low] = f.low === null ? none[0] : String(f.low);
    if (high) variables[high] = f.high === null ? none[1] : String(f.high);
    if ((f.low !== null && !low) || (f.high !== null && !high)) rest.push({ ...f, low: low ? null : f.low, high: high ? null : f.high });
  }
  const where = condition(choice, rest);
  if (where) variables.WHERE = where;
  const staged = new Set(on.filter((f) => f.variables?.some(Boolean)).map((f) => f.file));
  const more = usedFiles(choice, rest).find((file) => !staged.has(file) && file !== listName(dataset)) ?? dataset.columns_from?.[0];
  if (where && more) variables.COLUMNS_FROM = place(dataset, more);
  const { exclude, include } = marksFiles(choice);
  if (exclude) variables.EXCLUDE = exclude;
  if (include) variables.INCLUDE = include;
  return [...assigned(variables), "sh", script(dataset, "stage_2_filter_data.sh")].join(" ");
}

/** The line of stage 3 that takes the captions as they are edited. */
export function captionsCommand({ dataset }) {
  const { DATASET_FOLDER, VIDEO_FOLDER, PRESET } = dataset.variables;
  const own = Object.entries({ DATASET_FOLDER, VIDEO_FOLDER, PRESET }).filter(([, value]) => value);
  const variables = { ...dataset.about.variables["3"], ...Object.fromEntries(own), CAPTIONS_FROM: dataset.captions_file };
  return [...assigned(variables), "sh", script(dataset, "stage_3_video_caption.sh")].join(" ");
}

/** The line that makes this page anew. */
export const refreshCommand = ({ dataset: { about } }) => [...assigned(about.refresh.variables), quoted(about.python), ...about.refresh.words.map(quoted)].join(" ");
