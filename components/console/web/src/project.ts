/** The parts of a page's address that may name a project. */
type Place = Readonly<Pick<Location, "hash" | "search">>;

/** Returns the name in a page's address, `/#name` or `?project=name`, else `demo`; it may be one that no project can have. */
export function nameIn({ hash, search }: Place): string {
  return decoded(hash.slice(1)) || new URLSearchParams(search).get("project") || "demo";
}

/** Returns the project that a page's address names; `undefined` if the server does not accept the name. */
export function projectOf(place: Place): string | undefined {
  const name = nameIn(place);
  return /^[A-Za-z0-9_-]{1,128}$/.test(name) ? name : undefined;
}

/** Decodes a hash, because browsers write some of its letters in percent encoding. */
function decoded(hash: string): string {
  try {
    return decodeURIComponent(hash);
  } catch {
    return hash;
  }
}
