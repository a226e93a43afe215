import type { Connection, Status, SyncError } from "loro-sync-client-web";

/** The time for which the page shows an error that is not final, in milliseconds. */
const ERROR_TIME = 15_000;

/** The elements of the page that show the connection's status. */
export interface StatusElements {
  readonly connection: HTMLElement;
  readonly saved: HTMLElement;
  readonly peers: HTMLElement;
  readonly error: HTMLElement;
}

/** Keeps these elements up to date. */
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
    // The page shows a notice of its own for this state.
    if (status.state === "rejected") at.error.hidden = true;
  };
  connection.on("status", show);
  connection.on("error", ({ code, message, final }: SyncError) => {
    // The status shows these already, for as long as they last.
    if (code === "unreachable" || connection.status.state === "rejected") return;
    clearTimeout(hide);
    at.error.textContent = sentence(message);
    at.error.hidden = false;
    if (!final) hide = setTimeout(() => (at.error.hidden = true), ERROR_TIME);
  });
  show(connection.status);
}

/** Describes the state in words for the user. */
export function stateWords({ state, importing, reason, retryIn }: Pick<Status, "state" | "importing" | "reason" | "retryIn">): string {
  if (importing) return "Working: merging edits";
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
    case "denied":
    case "closed":
      return reason ? sentence(reason) : "Closed";
  }
}

/** Describes in words for the user whether edits are saved; empty while that is not known. */
export function savedWords({ state, saved }: Pick<Status, "state" | "saved">): string {
  if (saved.all) return "All saved";
  if (saved.unsaved === 0 && state === "rejected") return "Not saved";
  if (saved.unsaved === 0) return saved.waitsFor.length > 0 ? "Stored, but waiting for another client's edits" : "";
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

/** Capitalizes the first letter. */
export function sentence(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1);
}
