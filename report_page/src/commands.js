// The commands that make the choice of the page so, for a POSIX shell.

/** @param {string} text @returns {string} one word of a shell */
export const quoted = (text) => (/^[A-Za-z0-9_./:=,+@%^-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const name = (column) => `"${column.replaceAll('"', '""')}"`;
const literal = (text) => `'${text.replaceAll("'", "''")}'`;
const place = (dataset, file) => (/^\/|:\/\//.test(file) ? file : `${dataset.folder}/${file}`);
const bound = (value) => (value === null ? "none" : String(value));

/** Whether bounds of a column are flags of the filter; those of the list's own columns are part of the condition. */
const isOwn = (dataset, filter) => filter.file === dataset.list.split("/").at(-1);
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

/** The line of filter_videos_by_motion_score.py. */
export function filterCommand(choice, marksFile, hasMarks) {
  const { dataset } = choice;
  const path = (file) => place(dataset, file);
  const on = choice.filters.filter((f) => choice.isOn(f));
  const length = choice.filters.find((f) => isLength(dataset, f));
  const flags = on.filter((f) => !isOwn(dataset, f));
  const words = ["python", "filter_videos_by_motion_score.py"];
  const flag = (key, value) => words.push(value.startsWith("-") ? quoted(`${key}=${value}`) : `${key} ${quoted(value)}`);
  flag("--video_metadata_path", dataset.list);
  flag("--saved_path", dataset.saved_path);
  flag("--min_seconds", length?.low === null || !length ? "-inf" : String(length.low));
  flag("--max_seconds", length?.high === null || !length ? "inf" : String(length.high));
  for (const f of flags) words.push(["--filter", path(f.file), f.name, bound(f.low), bound(f.high)].map(quoted).join(" "));
  const own = on.filter((f) => isOwn(dataset, f) && !isLength(dataset, f));
  const where = condition(choice, own);
  const filtered = new Set([...flags.map((f) => f.file), dataset.list.split("/").at(-1)]);
  const more = new Set([...(dataset.columns_from ?? []), ...usedFiles(choice, own)].filter((file) => !filtered.has(file)));
  if (where) for (const file of more) flag("--columns_from", path(file));
  if (where) flag("--where", where);
  if (hasMarks.drop) flag("--exclude", marksFile);
  if (hasMarks.star && choice.keepStars) flag("--include", marksFile);
  return words.join(" ");
}

/** The line of stage 2, which also computes the scores that are missing. */
export function stageCommand(choice, marksFile, hasMarks) {
  const { dataset } = choice;
  const words = Object.entries(dataset.variables).map(([key, value]) => `${key}=${quoted(value)}`);
  const on = choice.filters.filter((f) => choice.isOn(f));
  const variable = (key, value) => words.push(`${key}=${quoted(value)}`);
  const rest = [];
  for (const f of on) {
    const [low, high] = f.variables ?? [null, null];
    const none = isLength(dataset, f) ? ["-inf", "inf"] : ["none", "none"];
    if (low) variable(low, f.low === null ? none[0] : String(f.low));
    if (high) variable(high, f.high === null ? none[1] : String(f.high));
    if ((f.low !== null && !low) || (f.high !== null && !high)) rest.push({ ...f, low: low ? null : f.low, high: high ? null : f.high });
  }
  const where = condition(choice, rest);
  if (where) variable("WHERE", where);
  const staged = new Set(on.filter((f) => f.variables?.some(Boolean)).map((f) => f.file));
  const more = usedFiles(choice, rest).find((file) => !staged.has(file) && file !== dataset.list.split("/").at(-1)) ?? dataset.columns_from?.[0];
  if (where && more) variable("COLUMNS_FROM", place(dataset, more));
  if (hasMarks.drop) variable("EXCLUDE", marksFile);
  if (hasMarks.star && choice.keepStars) variable("INCLUDE", marksFile);
  return [...words, "sh stage_2_filter_data.sh"].join(" ");
}
