// Bundles src/ into utils/report/page.html, one file that needs nothing else. `npm ci && npm run build`
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const here = new URL(".", import.meta.url).pathname;
const sha = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
const bundle = async (entry, options) =>
  (await build({ entryPoints: [here + entry], bundle: true, minify: true, write: false, legalComments: "none", ...options })).outputFiles[0].text;

const script = (await bundle("src/main.js", { format: "esm", target: "es2022" })).replaceAll("</", "<\\/").trim();
const style = (await bundle("src/style.css", { loader: { ".css": "css" } })).trim();
const licence = readFileSync(here + "node_modules/@tanstack/virtual-core/package.json", "utf8");
const { name, version, license } = JSON.parse(licence);
const policy = [
  "default-src 'none'", `script-src ${sha(script)}`, `style-src ${sha(style)}`, "img-src 'self' file: data:", "media-src 'self' file:",
  "connect-src 'none'", "base-uri 'none'", "form-action 'none'",
].join("; ");
const page = readFileSync(here + "src/index.html", "utf8")
  .replace("<!-- POLICY -->", () => `<meta http-equiv="Content-Security-Policy" content="${policy}">`)
  .replace("<!-- STYLE -->", () => `<style>${style}</style>`)
  .replace("<!-- SCRIPT -->", () => `<!-- with ${name} ${version}, ${license} licence, Copyright (c) 2021-present Tanner Linsley -->\n<script type="module">${script}</script>`);
writeFileSync(here + "../utils/report/page.html", page);
console.log(`utils/report/page.html: ${page.length.toLocaleString()} characters`);
