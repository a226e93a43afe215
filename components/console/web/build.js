// Builds the page into ../dist: index.html, and in a folder beside it files whose names change with their content,
// so that browsers may keep them forever. Files that compress well are there compressed, too. The folder is not
// called assets, because that is the path of the tasks' results.
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "../dist");
const folder = "static";
const files = join(dist, folder);

await rm(dist, { recursive: true, force: true });
await mkdir(files, { recursive: true });
await build({
  absWorkingDir: here,
  entryPoints: { page: "src/main.ts", style: "src/style.css", icon: "src/icon.svg" },
  outdir: files,
  // Relative to the page, which may be below a path of a proxy.
  publicPath: folder,
  entryNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  loader: { ".wasm": "file", ".svg": "copy" },
  logLevel: "warning",
});

const names = await readdir(files);
let page = await readFile(join(here, "src/index.html"), "utf8");
page = page.replaceAll(/\{\{(\w+)(\.\w+)\}\}/g, (_, name, extension) => {
  const found = names.find((each) => each.startsWith(`${name}-`) && extname(each) === extension);
  if (!found) throw new Error(`the build made no ${name}${extension}`);
  return `${folder}/${found}`;
});
await writeFile(join(dist, "index.html"), page);

const quality = { [constants.BROTLI_PARAM_QUALITY]: 9, [constants.BROTLI_PARAM_LGWIN]: 22 };
for (const path of ["index.html", ...names.map((name) => join(folder, name))]) {
  const bytes = await readFile(join(dist, path));
  const [br, gz] = await Promise.all([promisify(brotliCompress)(bytes, { params: quality }), promisify(gzip)(bytes, { level: 9 })]);
  for (const [extension, compressed] of [["br", br], ["gz", gz]]) {
    if (compressed.length < bytes.length * 0.9) await writeFile(join(dist, `${path}.${extension}`), compressed);
  }
  console.log(`${basename(path).padEnd(32)} ${kib(bytes)}  br ${kib(br)}  gz ${kib(gz)}`);
}

function kib(bytes) {
  return `${(bytes.length / 1024).toFixed(1).padStart(8)} KiB`;
}
