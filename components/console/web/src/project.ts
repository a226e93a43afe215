/**
 * Returns the project that a page's address names: `/#name` or `?project=name`, else `demo`; `undefined` if the server
 * does not accept the name.
 */
export function projectOf({ hash, search }: { readonly hash: string; readonly search: string }): string | undefined {
  const named = hash.slice(1) || new URLSearchParams(search).get("project") || "demo";
  return /^[A-Za-z0-9_-]{1,128}$/.test(named) ? named : undefined;
}
