import type { Connection } from "loro-sync-client-web";
import type { Holder } from "./open.js";
import { sentence } from "./status.js";

/** The elements of the page that are shown once edits cannot be saved. */
export interface RejectedElements {
  readonly notice: HTMLElement;
  readonly reason: HTMLElement;
  readonly download: HTMLElement;
  readonly reload: HTMLElement;
}

/** A user's copy of a document, as a file to keep. */
export class Copy {
  readonly #open: Holder;
  #operations: number | undefined;

  constructor(open: Holder) {
    this.#open = open;
  }

  /** Exports a Loro snapshot: everything in the document, with its history. */
  take(): Uint8Array<ArrayBuffer> {
    const snapshot = new Uint8Array(this.#open.doc.export({ mode: "snapshot" }));
    this.#operations = this.#open.doc.opCount();
    return snapshot;
  }

  /** Returns whether the last exported copy has everything that is in the document now. */
  isCurrent(): boolean {
    return this.#operations === this.#open.doc.opCount();
  }
}

/**
 * Shows a notice once the server has finally refused edits: it gives the reason, and offers the user's own copy as a file,
 * and a reload of the server's document.
 */
export function offerCopy(connection: Connection, copy: Copy, name: string, at: RejectedElements): void {
  const show = (): void => {
    const { state, reason } = connection.status;
    at.notice.hidden = state !== "rejected";
    if (reason !== undefined) at.reason.textContent = sentence(reason);
  };
  connection.on("status", show);
  at.download.addEventListener("click", () => download(copy.take(), `${name}.loro`));
  at.reload.addEventListener("click", () => location.reload());
  show();
}

/** The time that a browser may take to read a file that it is to save, in milliseconds. */
const SAVING = 60_000;

/** Makes the browser save bytes as a file. */
function download(bytes: Uint8Array<ArrayBuffer>, name: string): void {
  const address = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), SAVING);
}
