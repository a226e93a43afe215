import { resultUrl } from "loro-sync-client-web";

/** A node's picture or film. */
export interface Media {
  readonly kind: "image" | "video";
  readonly address: string;
}

/**
 * Returns the picture or film at an address, which may be relative to the server at `base`. Many users write a document, so
 * the page shows only http(s) addresses: no scripts, and no addresses that contain their content (`data:`).
 */
export function mediaOf(src: string | undefined, base: string): Media | undefined {
  const address = src === undefined ? undefined : resultUrl(src, base);
  if (address === undefined) return undefined;
  return { kind: /\.(mp4|m4v|webm|mov)$/i.test(new URL(address).pathname) ? "video" : "image", address };
}
