/** What a node's address leads to, and how to show it. */
export interface Media {
  readonly kind: "image" | "video";
  readonly address: string;
}

/**
 * The picture or film at an address; a relative one is taken from `base`. A document is written by many, and of
 * their addresses only those that a server answers to are shown: no script, and nothing that carries its content within itself.
 */
export function mediaOf(src: string | undefined, base: string): Media | undefined {
  if (src === undefined || !URL.canParse(src, base)) return undefined;
  const { protocol, pathname, href } = new URL(src, base);
  if (protocol !== "https:" && protocol !== "http:") return undefined;
  return { kind: /\.(mp4|m4v|webm|mov)$/i.test(pathname) ? "video" : "image", address: href };
}
