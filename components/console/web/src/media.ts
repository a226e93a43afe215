/** A node's picture or film. */
export interface Media {
  readonly kind: "image" | "video";
  readonly address: string;
}

/**
 * Returns the picture or film at an address, which may be relative to `base`. Many users write a document, so the page
 * shows only http(s) addresses: no scripts, and no addresses that contain their content (`data:`).
 */
export function mediaOf(src: string | undefined, base: string): Media | undefined {
  if (src === undefined || !URL.canParse(src, base)) return undefined;
  const { protocol, pathname, href } = new URL(src, base);
  if (protocol !== "https:" && protocol !== "http:") return undefined;
  return { kind: /\.(mp4|m4v|webm|mov)$/i.test(pathname) ? "video" : "image", address: href };
}
