// The report's data: JSON about it, and its columns, which are gzipped bytes in base64.

/** @returns {object} what Python says of the datasets; docs/report.md has its form */
export const report = () => JSON.parse(document.getElementById("report").textContent);

/** @param {number} number @returns {Promise<Uint8Array>} a block's bytes */
async function bytes(number) {
  const element = document.getElementById(`block-${number}`);
  const text = atob(element.textContent);
  element.remove(); // its text is not needed again
  const packed = Uint8Array.from(text, (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Texts that stay bytes until one is asked for. */
export class Texts {
  constructor(data, count) {
    this.ends = new Uint32Array(data.buffer, 0, count + 1);
    this.data = data.subarray(4 * (count + 1));
    this.count = count;
    this.decoder = new TextDecoder("utf-8", { fatal: true });
    this.lowered = []; // chunks of texts in lower case, for searching
  }

  bytes(i) {
    return this.data.subarray(this.ends[i], this.ends[i + 1]);
  }

  /** A text; bytes that are no UTF-8 become U+DC80 to U+DCFF, as Python has them. */
  get(i) {
    const part = this.bytes(i);
    try {
      return this.decoder.decode(part);
    } catch {
      return [...runs(part, this.decoder)].join("");
    }
  }

  /** A relative link's path, percent-encoded from the bytes. */
  link(i) {
    let link = "";
    for (const byte of this.bytes(i)) {
      const char = String.fromCharCode(byte);
      link += /[A-Za-z0-9_.~/-]/.test(char) ? char : `%${byte.toString(16).padStart(2, "0").toUpperCase()}`;
    }
    return link;
  }

  /** @returns {Uint8Array} 1 where the text holds `wanted` (in lower case) */
  matches(wanted, into = new Uint8Array(this.count)) {
    const size = 4096;
    for (let begin = 0; begin < this.count; begin += size) {
      const end = Math.min(this.count, begin + size);
      const chunk = (this.lowered[begin / size] ??= Array.from({ length: end - begin }, (_, i) => this.get(begin + i).toLowerCase()));
      for (let i = begin; i < end; i++) if (chunk[i - begin].includes(wanted)) into[i] = 1;
    }
    return into;
  }
}

function* runs(part, decoder) {
  for (let at = 0; at < part.length; ) {
    let length = part[at] < 0x80 ? 1 : part[at] < 0xe0 ? 2 : part[at] < 0xf0 ? 3 : 4;
    let text = null;
    try {
      text = decoder.decode(part.subarray(at, at + length));
    } catch {
      [text, length] = [String.fromCharCode(0xdc00 + part[at]), 1];
    }
    yield text;
    at += length;
  }
}

const KINDS = {
  number: (data) => new Float64Array(data.buffer),
  category: (data) => new Uint16Array(data.buffer),
  text: (data, count) => new Texts(data, count),
};

/** A dataset with its blocks decoded. */
export async function open(dataset) {
  const { count } = dataset;
  const columns = await Promise.all(
    dataset.columns.map(async (column) => ({ ...column, names: column.values, values: KINDS[column.kind](await bytes(column.block), count) })),
  );
  const block = async (number) => (number === null || number === undefined ? null : bytes(number));
  const blocks = [dataset.kept, dataset.where_passes, dataset.match, dataset.placeholders, dataset.stills];
  const [kept, wherePasses, match, placeholders, stills] = await Promise.all(blocks.map(block));
  const text = (name) => columns.find((c) => c.kind === "text" && c.name === name)?.values ?? null;
  return {
    ...dataset, columns, kept, wherePasses, placeholders, stills,
    match: match && new Int32Array(match.buffer),
    paths: text("video_path"), sources: text("source_path"), captions: text("caption"), answers: text("caption_answer"), given: text("caption_given"), thumbnails: text("thumbnail"),
    number: (name) => columns.find((c) => c.kind === "number" && c.name === name)?.values ?? null,
  };
}
