/** The path of a result that the server keeps, below the address at which the server is reached. */
const KEPT = /\/assets\/asset_[a-z0-9]+(\.[a-z0-9]+)?$/;

/**
 * Returns the address of a task's result as this client reaches it; `undefined` if `src` is not an http(s) address, such
 * as the `null` of a task without a result. In a document, a result that the server keeps has a path alone
 * (`/assets/asset_…`), because each client may reach the server by another name, or below a path of a proxy. Documents of
 * earlier releases have the whole address that the server then had. If it leads to this machine or a private network, whose
 * names change, only its path counts.
 *
 * @param src the value of `data.src` in a node, or of `src` in the map `tasks`
 * @param server an address of the server, e.g. that of the room: `wss://example.org/canvas/sync/my-project`. In browsers it
 *   may be relative to the page's
 */
export function resultUrl(src: unknown, server: string | URL): string | undefined {
  if (typeof src !== "string" || src === "") return undefined;
  const page = globalThis.document?.baseURI;
  if (!URL.canParse(server, page)) return undefined;
  const base = baseOf(new URL(server, page));
  if (!URL.canParse(src, base)) return undefined;
  const url = new URL(src, base);
  if (url.protocol !== "http:" && url.protocol !== "https:") return undefined;
  const [kept] = KEPT.exec(url.pathname) ?? [];
  const isHere = src.startsWith("/") && url.host === base.host;
  return kept && (isHere || isLocal(url.hostname)) ? new URL(kept.slice(1), base).href : url.href;
}

/** Returns the server's own address, with a slash at its end, from an address on it: that of a room, of a file, or of a folder. */
export function baseOf(address: URL): URL {
  const base = new URL(address);
  base.protocol = base.protocol.replace("ws", "http");
  // The path of a folder may have a slash at its end or none.
  base.pathname = base.pathname.replace(/\/sync\/[^/]*$|\/[^/]*\.[^/]*$|\/?$/, "/");
  base.search = base.hash = "";
  return base;
}

/** Returns whether a name leads to this machine or a private network, and so to different servers on different machines. */
function isLocal(name: string): boolean {
  if (name.startsWith("[")) return !/^\[[23][0-9a-f]{3}:/.test(name);
  return (
    !name.includes(".") ||
    /\.(localhost|local|internal)$/.test(name) ||
    /^(0|10|127)\.|^192\.168\.|^169\.254\.|^172\.(1[6-9]|2\d|3[01])\.|^100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\./.test(name)
  );
}
