import type { Connection, Status, SyncError } from "loro-sync-client-web";

/** How long an error that does not last stays on the page, in milliseconds. */
const ERROR_TIME = 15_000;

/** Elements of the page that tell how the connection is. */
export interface StatusElements {
  readonly connection: HTMLElement;
  readonly saved: HTMLElement;
  readonly peers: HTMLElement;
  readonly error: HTMLElement;
}

/** Keeps the page's words on the connection up to date. */
export function showStatus(connection: Connection, at: StatusElements): void {
  let hide: ReturnType<typeof setTimeout> | undefined;
  const show = (status: Status): void => {
    at.connection.dataset["state"] = status.state;
    at.connection.textContent = stateWords(status);
    at.connection.title = status.reason ?? "";
    at.saved.dataset["saved"] = status.saved.all ? "yes" : savedWords(status) === "" ? "unknown" : "no";
    at.saved.textContent = savedWords(status);
    at.peers.textContent = peersWords(status.peers);
    at.peers.dataset["count"] = String(status.peers ?? "");
    // A notice of its own says what there is to say.
    if (status.state === "rejected") at.error.hidden = true;
  };
  connection.on("status", show);
  connection.on("error", ({ code, message, final }: SyncError) => {
    // The state says it already, for as long as it lasts.
    if (code === "unreachable" || connection.status.state === "rejected") return;
    clearTimeout(hide);
    at.error.textContent = sentence(message);
    at.error.hidden = false;
    if (!final) hide = setTimeout(() => (at.error.hidden = true), ERROR_TIME);
  });
  show(connection.status);
}

/** The state, in words for the user. */
export function stateWords({ state, reason, retryIn }: Pick<Status, "state" | "reason" | "retryIn">): string {
  switch (state) {
    case "connecting":
      return "Connecting";
    case "syncing":
      return "Loading";
    case "live":
      return "Connected";
    case "offline":
      return retryIn !== undefined && retryIn >= 2_000 ? `Offline, trying again in ${Math.round(retryIn / 1_000)} s` : "Offline";
    case "rejected":
      return "Stopped";
    case "closed":
      return reason ? sentence(reason) : "Closed";
  }
}

/** What is saved, in words for the user; empty while that is not known. */
export function savedWords({ state, saved }: Pick<Status, "state" | "saved">): string {
  if (saved.all) return "All saved";
  if (saved.unsaved === 0) return state === "rejected" ? "Not saved" : "";
  if (state === "rejected") return `${edits(saved.unsaved)} not saved`;
  return state === "live" ? `Saving ${edits(saved.unsaved)}` : `${edits(saved.unsaved)} not saved yet`;
}

function edits(count: number): string {
  return count === 1 ? "1 edit" : `${count} edits`;
}

function peersWords(peers: number | undefined): string {
  if (peers === undefined) return "";
  return peers <= 1 ? "Only you are here" : `${peers} are here`;
}

/** Words, as a sentence begins. */
export function sentence(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1);
}
