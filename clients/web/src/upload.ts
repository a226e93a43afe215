import { problemOf } from "./problem.js";
import { socketUrl } from "./protocol.js";
import { baseOf } from "./result.js";

/**
 * The longest time that an upload may take, in milliseconds. Each byte adds to it, at the rate below: this is the server's
 * rule.
 */
const PATIENCE = 180_000;
const BYTES_A_MILLISECOND = 40;

/** A picture or a film that the server has stored. */
export interface Upload {
  readonly id: string;
  /** The path at the server, for a node's `data.src` and for the `params` of a task. `resultUrl` returns the address. */
  readonly path: string;
  /** The media type by its first bytes, e.g. `image/png`. */
  readonly mediaType: string;
  /** The length in bytes. */
  readonly length: number;
}

/** The settings of an upload. */
export interface UploadOptions {
  /** Gives the upload up. */
  readonly signal?: AbortSignal;
  /** Sends the request; by default the platform's own `fetch`. */
  readonly fetch?: (address: URL, init: RequestInit) => Promise<Response>;
}

/** The reason why nothing was stored: `message` has the server's own words, if it gave any. */
export class UploadError extends Error {
  override readonly name = "UploadError";
  /** The status of the answer; `undefined` if there was none. */
  readonly status: number | undefined;
  /** The stable name of the problem, e.g. `urn:loro-sync:problem:quota`. */
  readonly type: string | undefined;

  constructor(message: string, status?: number, type?: string) {
    super(message);
    this.status = status;
    this.type = type;
  }
}

/**
 * Stores a picture or a film in a room's project. Write its `path` into a node, and never the content itself, because
 * each client loads the whole document. A `File` is sent as it is read. It may have 8 MiB, or with a bucket what the server's
 * operator has set.
 *
 * @param address the room's address, as for `connect`; a token in it is sent as a header
 * @throws UploadError if the server refuses it (415: neither picture nor film, 413: too large, 507: the quota is used up),
 *   or cannot be reached; TypeError if the address is not that of a room
 */
export async function upload(address: string | URL, content: Blob | Uint8Array<ArrayBuffer>, options: UploadOptions = {}): Promise<Upload> {
  const room = socketUrl(address);
  const [, project] = /\/sync\/([^/]+)$/.exec(room.pathname) ?? [];
  if (project === undefined) throw new TypeError(`${room.pathname} is not the path of a room: it must end with /sync/ and a project`);
  const token = room.searchParams.get("token");
  const target = new URL(`projects/${project}/assets`, baseOf(room));
  const answer = await send(options, target, {
    method: "POST",
    body: content,
    credentials: "include",
    ...(token && { headers: { authorization: `Bearer ${token}` } }),
  }, content instanceof Blob ? content.size : content.byteLength);
  if (!answer.ok) {
    const problem = await problemOf(answer);
    throw new UploadError(problem?.words ?? `the server answered ${answer.status}`, answer.status, problem?.type);
  }
  const told = (await answer.json().catch(() => undefined)) as Record<string, unknown> | undefined;
  const { id, path, media_type: mediaType, length } = told ?? {};
  if (typeof id !== "string" || typeof path !== "string" || typeof mediaType !== "string" || typeof length !== "number") {
    throw new UploadError("the server's answer names no upload", answer.status);
  }
  return { id, path, mediaType, length };
}

async function send({ signal, fetch: sent = fetch }: UploadOptions, target: URL, init: RequestInit, length: number): Promise<Response> {
  const patience = Math.round(PATIENCE + length / BYTES_A_MILLISECOND);
  const late = AbortSignal.timeout(patience);
  try {
    return await sent(target, { ...init, signal: signal ? AbortSignal.any([signal, late]) : late });
  } catch (error) {
    // The caller knows why it has given up.
    if (signal?.aborted) throw error;
    throw new UploadError(late.aborted ? `the upload did not end within ${Math.round(patience / 60_000)} minutes` : "the server cannot be reached");
  }
}
