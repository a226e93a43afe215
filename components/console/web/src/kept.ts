import { LoroMap } from "loro-crdt";

/** The service that keeps a result at its own address, and the time at which it deletes the result. */
export interface Kept {
  readonly service: string;
  /** The time at which the service deletes the result, in seconds since 1970. */
  readonly until: number;
}

/** The services by the beginnings of their task types. */
const SERVICES: readonly (readonly [string, string])[] = [
  ["kling", "Kling"],
  ["nano_banana", "Gemini"],
  ["fal", "fal"],
];

/**
 * Reads which service keeps the result `src` of a task, and until when, from the task's entry in the map `tasks`; `undefined` if
 * the entry names no end, or the node shows something else by now.
 */
export function keptBy(entry: unknown, src: string): Kept | undefined {
  const read = (key: string): unknown => {
    if (entry instanceof LoroMap) return entry.get(key);
    return typeof entry === "object" && entry !== null ? (entry as Record<string, unknown>)[key] : undefined;
  };
  const until = read("result_expires_at");
  if (typeof until !== "number" || !Number.isFinite(until) || read("src") !== src) return undefined;
  const type = String(read("task_type") ?? "");
  const [, service] = SERVICES.find(([beginning]) => type.startsWith(beginning)) ?? [];
  return { service: service ?? "its service", until };
}

/** Describes in words for a user until when the content is kept, in the user's own form of a date. */
export function keptWords({ service, until }: Kept, now = Date.now()): string {
  const day = new Date(until * 1_000).toLocaleDateString(undefined, { dateStyle: "medium" });
  return until * 1_000 > now ? `Kept by ${service} until ${day}` : `Was kept by ${service} until ${day}`;
}

/** Returns whether both are the same. */
export function isSameKept(a: Kept | undefined, b: Kept | undefined): boolean {
  return a?.service === b?.service && a?.until === b?.until;
}
