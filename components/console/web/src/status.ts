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
    at.saved.dataset["saved"] = status.saved.all ? "yes" : status.saved.unsaved > 0 ? "no" : "unknown";
    at.saved.textContent = savedWords(status);
    at.peers.textContent = peersWords(status.peers);
    at.peers.dataset["count"] = String(status.peers ?? "");
  };
  connection.on("status", show);
  connection.on("error", ({ code, message, final }: SyncError) => {
    // The state says it already, for as long as it lasts.
    if (code === "unreachable") return;
    clearTimeout(hide);
    at.error.textContent = sentence(message);
    at.error.hidden = false;
    if (!final) hide = setTimeout(() => (at.error.hidden = true), ERROR_TIME);
  });
  show(connection.status);
}

function stateWords({ state, reason, retryIn }: Status): string {
  switch (state) {
    case "connecting":
      return "Connecting";
    case "syncing":
      return "Loading";
    case "live":
      return "Connected";
    case "offline":
      return retryIn !== undefined && retryIn >= 2_000 ? `Offline, trying again in ${Math.round(retryIn / 1_000)} s` : "Offline";
    case "closed":
      return reason ? sentence(reason) : "Closed";
  }
}

function savedWords({ state, saved }: Status): string {
  if (saved.all) return "All saved";
  if (saved.unsaved === 0) return "";
  if (state === "live" && saved.refused > 0) return `The server refused ${edits(saved.refused)}`;
  return state === "live" ? `Saving ${edits(saved.unsaved)}` : `${edits(saved.unsaved)} not saved yet`;
}

function edits(count: number): string {
  return count === 1 ? "1 edit" : `${count} edits`;
}

function peersWords(peers: number | undefined): string {
  if (peers === undefined) return "";
  return peers <= 1 ? "Only you are here" : `${peers} are here`;
}

function sentence(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1);
}
