import type { LoroDoc, PeerID, VersionVector } from "loro-crdt";
import { Aside, QUARANTINED } from "./aside.js";
import { asOne, authors, mayTakeLong, shown, turn, waitingBytes } from "./importing.js";
import { Known } from "./known.js";
import { decodeVersion, type Missing, missingUpdates } from "./missing.js";
import type { Settings } from "./options.js";
import { Outbox } from "./outbox.js";
import { describeOversized } from "./oversized.js";
import { Own } from "./own.js";
import { MAX_MESSAGE, SMALL_MESSAGE, versionFrame } from "./protocol.js";
import { takeNewPeer, underNewPeer } from "./replacement.js";
import type { Status, SyncError } from "./status.js";
import { type Operation, Waiting } from "./waiting.js";
import { words } from "./words.js";

/** An error before it is decided whether it is final. */
export type Fault = Omit<SyncError, "final">;

/** The part of a connection that an exchange needs. */
export interface Line {
  /** Sends a binary frame; does nothing while there is no socket. */
  send(frame: Uint8Array): void;
  /** Handles a document that has all that the server has. */
  live(): void;
  /** Handles a sign of life, after a time in which no frame could be read. */
  awake(): void;
  /** Abandons the socket and joins again: at once, or after a wait if it has done so a moment ago. */
  joinAgain(): void;
  /** Joins again in a few seconds. Until then the connection goes on. */
  joinSoon(): void;
  /** Abandons the socket and joins again after a wait, because the server has refused edits. */
  retry(fault: Fault): void;
  /** Ends the connection, because edits cannot be saved. */
  reject(fault: Fault): void;
  /** Reports a fault after which the connection continues. */
  report(fault: Fault): void;
  /** Brings the status up to date. */
  update(): void;
  /** Says whether the connection has ended, or makes no further attempt by itself. */
  readonly isOver: boolean;
}

/** The exchange between a document and the server: which operations each has, and what is saved. It outlives each socket. */
export class Exchange {
  readonly #line: Line;
  readonly #replace: Settings["replaceDocument"];
  readonly #outbox = new Outbox();
  readonly #waiting = new Waiting();
  readonly #aside = new Aside();
  #doc: LoroDoc;
  /** The version that the server has or was sent, from its `joined` until the end of the socket. */
  #known: Known;
  #own: Own;
  /** Ends the subscription to the document's local edits. */
  #unsubscribe: () => void;
  /** Ends the subscription to its imports. */
  #unwatch: (() => void) | undefined;

  /** The number of sockets that are gone. If it changes during a call, the rest of the call has lost its purpose. */
  #lost = 0;
  /** The blobs that have arrived and are not imported yet. */
  #arrived: Uint8Array[] = [];
  /** Says whether an import waits until the browser has shown that it is coming, or that one goes on. */
  #isAnnounced = false;
  /** The length of the updates that waited for others before what has arrived was imported. */
  #waited = 0;
  /** Says whether the first state is on its way, complete but not imported, or imported. */
  #state: "partial" | "complete" | "imported" = "partial";
  /**
   * Says whether the server has operations that may be this document's or another client's. Its state is not imported before
   * the server has decided whose they are, because another client's operations under the same ids would spoil the document.
   */
  #isInDoubt = false;
  /** Says whether the server has reported that operations of this document have ids that another client has used. */
  #isDuplicate = false;
  /** The operations for which the client has joined again, because it has them and the server waits for them. */
  readonly #offeredFor = new Set<string>();
  /** Says whether an import or export is under way. Edits that subscribers make meanwhile are offered after it. */
  #busy = false;
  /** Says whether the server has refused edits once, and has not yet saved everything that was offered again. */
  #offeredAgain = false;
  /** The number of frames of this socket's join. Once they are saved, so is everything that was offered again. */
  #joinFrames = 0;
  /** Describes an operation that cannot be sent. The connection ends once everything else is saved. */
  #oversized: string | undefined;

  /** Follows the document's edits. Nothing is sent before the first {@link join}. */
  constructor(doc: LoroDoc, line: Line, replace: Settings["replaceDocument"]) {
    this.#doc = doc;
    this.#line = line;
    this.#replace = replace;
    this.#known = new Known(doc);
    this.#own = new Own(doc);
    this.#unsubscribe = doc.subscribeLocalUpdates(() => this.#edited());
    if (doc.opCount() > 0) this.#watch();
  }

  get doc(): LoroDoc {
    return this.#doc;
  }

  /** The operations that are saved by now. */
  get saved(): Status["saved"] {
    this.#waiting.look(this.#known.version);
    const { unsaved, refused } = this.#outbox;
    const { isOpen, operations } = this.#aside;
    const waitsFor = operations.length > 0 ? operations : this.#waiting.operations;
    const all = unsaved === 0 && waitsFor.length === 0 && !isOpen && this.#known.coversDocument();
    return { all, unsaved, refused, waitsFor };
  }

  /** Returns whether an import that may take seconds is announced or under way. */
  get importing(): boolean {
    return this.#isAnnounced;
  }

  /** Returns whether the server has decided on every frame that was sent. */
  get decidedAll(): boolean {
    return this.#outbox.decidedAll;
  }

  /** The first frame of a join: the document's version; an empty one if the server is to send its whole document. */
  get version(): Uint8Array {
    if (this.#isDuplicate) return new Uint8Array();
    const version = this.#doc.oplogVersion();
    const frame = versionFrame(version.encode());
    version.free();
    return frame;
  }

  /** Commits, and sends what the server lacks. */
  commit(): void {
    this.#doc.commit();
    this.#offer();
  }

  /**
   * Checks whether the document has grown by an import of the application. Loro does not report every import (not if the
   * document is detached, or shows no change), so each message of the server is an occasion to check.
   */
  look(): void {
    // An offer would commit what the application has not committed yet.
    if (this.#doc.getPendingTxnLength() === 0) this.#offer();
    this.#line.update();
  }

  /** Handles the server's version: sends what the server lacks. */
  join(version: Uint8Array): void {
    const lost = this.#lost;
    let theirs: VersionVector;
    try {
      theirs = decodeVersion(this.#doc, version);
    } catch {
      this.#line.retry({ code: "closed", message: "the server's version of the document cannot be read" });
      return;
    }
    if (isBehindItself(this.#doc, theirs)) takeNewPeer(this.#doc);
    // Commits, so that pending edits are sent with the rest.
    this.#doc.commit();
    if (this.#lost !== lost) return;
    this.#aside.joined(this.#doc, theirs);
    this.#isInDoubt = this.#own.compare(theirs);
    if (this.#isDuplicate) {
      // The server's document follows, and shows more than its version.
      theirs.free();
      return;
    }
    this.#known.hear(theirs);
    if (this.#known.coversDocument()) this.#outbox.sendAll(0);
    else this.#offer();
    if (this.#lost !== lost) return;
    this.#joinFrames = this.#outbox.frames;
    this.#settled(0);
  }

  /** Handles a blob from the server: a part of the first state, or an update. */
  received(blob: Uint8Array): void {
    this.#arrived.push(blob);
    if (this.#state === "imported") this.#takeIn();
  }

  /** Handles the end of the first state. */
  synced(): void {
    if (this.#state !== "partial") return;
    this.#state = "complete";
    this.#enter();
  }

  /** Handles the server's decision on all frames up to this one. Those that it has not refused are stored. */
  stored(frames: number): void {
    this.#outbox.decided(frames);
    this.#own.stored(frames);
    this.#settled(frames);
  }

  /** Handles the refusal of a frame. */
  refused(fault: Fault & { readonly frame: number }): void {
    this.#outbox.refuse(fault.frame);
    if (fault.code === QUARANTINED) {
      // Everything that is written from now on builds on it.
      this.#line.reject({ ...fault, message: unsavable(fault.message) });
      return;
    }
    if (fault.code !== "duplicate_peer") {
      this.turnedDown(fault);
      return;
    }
    // The server decides on frames in their order.
    this.#own.stored(fault.frame - 1);
    this.#isDuplicate = true;
    const told = { ...fault, message: `${fault.message}; a peer id must not be kept or shared` };
    if (this.#replace) this.turnedDown(told);
    else this.#line.reject({ ...told, message: unsavable(told.message) });
  }

  /** Handles edits that did not get through: offers them once more after a wait, and ends the connection the second time. */
  turnedDown(fault: Fault): void {
    if (this.#line.isOver) return;
    if (this.#offeredAgain) {
      this.#line.reject({ ...fault, message: unsavable(fault.message) });
    } else {
      this.#offeredAgain = true;
      this.#line.retry(fault);
    }
  }

  /** Handles updates that the server has moved aside. The next join shows whether the document has any of them. */
  movedAside(words: string): void {
    if (!this.#aside.told(words)) return;
    this.#line.update();
    if (this.#state === "imported") this.#line.joinSoon();
  }

  /** Handles the list of operations that the server waits for. Those that this document has are offered again, once each. */
  pending(waitsFor: readonly Operation[]): void {
    this.#waiting.told(waitsFor);
    if (waitsFor.length === 0) this.#offeredFor.clear();
    this.#line.update();
    const mine = this.#doc.oplogVersion();
    const found = waitsFor.filter(({ peer, counter }) => (mine.get(peer as `${number}`) ?? 0) > counter);
    mine.free();
    const ids = found.map(({ peer, counter }) => `${counter}@${peer}`).filter((id) => !this.#offeredFor.has(id));
    for (const id of ids) this.#offeredFor.add(id);
    if (ids.length > 0) this.#line.joinAgain();
  }

  /** Handles the end of a socket. Frames that were on their way may not have arrived. */
  lost(): void {
    this.#lost += 1;
    this.#known.forget();
    this.#own.lost();
    this.#outbox.lost();
    this.#waiting.lost();
    this.#aside.lost();
    this.#arrived = [];
    this.#state = "partial";
    this.#isInDoubt = false;
    this.#isAnnounced = false;
    this.#oversized = undefined;
  }

  /** Ends the subscriptions to the document. */
  end(): void {
    this.#unsubscribe();
    this.#unwatch?.();
  }

  /**
   * Follows the application's imports. In an empty document this begins after the first state: once a document has had a
   * subscriber, Loro makes an event of everything in a snapshot, which takes many times as long as the import.
   */
  #watch(): void {
    this.#unwatch ??= this.#doc.subscribe(({ by }) => by === "import" && this.look());
  }

  /** Handles a local edit that was committed. */
  #edited(): void {
    this.#own.wrote();
    // An earlier subscriber may have made an edit of its own, and this one was sent with it.
    if (this.#known.coversDocument()) return;
    this.#outbox.keep();
    this.#offer();
    this.#line.update();
  }

  /** Sends the operations that the document has and the server lacks. */
  #offer(): void {
    const theirs = this.#known.version;
    if (!theirs || this.#busy || this.#aside.isAgain || this.#oversized !== undefined || this.#known.coversDocument()) return;
    let missing: Missing;
    this.#busy = true;
    try {
      missing = missingUpdates(this.#doc, theirs, { piece: this.#offeredAgain ? SMALL_MESSAGE : MAX_MESSAGE, max: MAX_MESSAGE });
    } catch (error) {
      this.turnedDown({ code: "export_failed", message: words(error) });
      return;
    } finally {
      this.#busy = false;
    }
    const { updates, version, oversized } = missing;
    for (const update of updates) this.#line.send(update);
    if (oversized) {
      this.#outbox.sendPart(updates.length);
      this.#oversized = describeOversized(this.#doc, oversized, MAX_MESSAGE);
      this.#rejectOversized();
    } else {
      this.#outbox.sendAll(updates.length);
      this.#own.sent(this.#outbox.frames);
      this.#known.sent(version);
    }
  }

  /**
   * Returns whether a blob has operations of the document's own peers beyond those that are confirmed. They may be another
   * client's under the same ids.
   */
  #isContradicted(blob: Uint8Array): boolean {
    const unconfirmed = this.#own.unconfirmed();
    if (unconfirmed.size === 0) return false;
    const ends = authors(this.#doc, blob);
    return [...unconfirmed].some(([peer, confirmed]) => (ends.get(peer) ?? 0) > confirmed);
  }

  /** Imports the first state once it is complete, and the server has decided whose the operations in doubt are. */
  #enter(): void {
    if (this.#state !== "complete") return;
    if (this.#isDuplicate) this.#replaceDocument();
    else if (this.#aside.isAgain) this.#enterOrReject();
    else if (!this.#isInDoubt) this.#takeIn();
  }

  /** Ends the connection if the server has moved aside again what it had stored again; otherwise enters. */
  #enterOrReject(): void {
    const lost = this.#lost;
    const has = new Map<PeerID, number>();
    for (const blob of this.#arrived) for (const [peer, end] of authors(this.#doc, blob)) has.set(peer, Math.max(end, has.get(peer) ?? 0));
    if (this.#aside.isOut(has)) {
      this.#line.reject({ code: QUARANTINED, message: unsavable(this.#aside.words) });
      return;
    }
    this.#offer();
    if (this.#lost !== lost) return;
    this.#joinFrames = this.#outbox.frames;
    this.#enter();
  }

  /** Imports what has arrived. If that may take long, the application is notified first, and the browser shows it. */
  #takeIn(): void {
    if (this.#isAnnounced) return;
    this.#waited = waitingBytes(this.#doc);
    if (mayTakeLong(this.#arrived)) this.#importSoon();
    else this.#import();
  }

  /** Imports after the page has responded to the user, and the browser has shown what listeners write into it now. */
  #importSoon(): void {
    const lost = this.#lost;
    this.#isAnnounced = true;
    this.#line.update();
    void shown().then(() => this.#lost === lost && this.#import());
  }

  /** Imports what has arrived, in turns, between which the page responds. Each turn ends by sending the edits that react to it. */
  #import(): void {
    const lost = this.#lost;
    const isOver = turn();
    do {
      const blob = this.#arrived.shift();
      if (!blob) break;
      if (this.#isContradicted(blob)) {
        if (this.#state === "imported" || this.#outbox.isDecided(this.#joinFrames)) this.#line.joinAgain();
        else this.#doubt(blob);
        return;
      }
      const isFirst = this.#doc.opCount() === 0;
      this.#importOne(blob);
      if (this.#lost !== lost) return;
      if (isFirst && this.#arrived.length > 1) this.#arrived = asOne(this.#doc, this.#arrived);
    } while (!isOver());
    this.#line.awake();
    const isLast = this.#arrived.length === 0;
    // An import that waited may have been the application's, so the server may lack it. Join again to compare.
    if (isLast && waitingBytes(this.#doc) < this.#waited) this.#line.joinAgain();
    else this.#offer();
    if (this.#lost !== lost) return;
    if (!isLast) {
      this.#importSoon();
      return;
    }
    this.#isAnnounced = false;
    this.#watch();
    if (this.#state !== "imported") {
      this.#state = "imported";
      this.#line.live();
      if (this.#aside.isOpen) this.#line.joinSoon();
    }
    this.#line.update();
  }

  /** Leaves the rest of the first state until the server has decided on the operations that this document offered at the join. */
  #doubt(blob: Uint8Array): void {
    this.#arrived.unshift(blob);
    this.#isInDoubt = true;
    this.#isAnnounced = false;
    this.#line.update();
  }

  /** Imports a blob. If it is bad, this client lacks its contents until it joins again, but the others are applied. */
  #importOne(blob: Uint8Array): void {
    const lost = this.#lost;
    this.#busy = true;
    try {
      const { success } = this.#doc.import(blob);
      if (this.#lost !== lost) return;
      this.#known.received(success);
      this.#own.received(success);
      // Another client writes under the same peer id, and has written more than this document.
      if (success.has(this.#doc.peerIdStr)) takeNewPeer(this.#doc);
    } catch (error) {
      this.#line.report({ code: "import_failed", message: `an update could not be applied: ${String(error)}` });
    } finally {
      this.#busy = false;
    }
  }

  /** Continues with another document, in which the refused edits are made anew under a new peer id. */
  #replaceDocument(): void {
    let fresh: LoroDoc;
    // Edits that the user has made since the join are made anew, too.
    this.#doc.commit();
    try {
      fresh = underNewPeer(this.#doc, this.#arrived, this.#own.confirmed);
      this.#replace?.(fresh);
    } catch (error) {
      this.#line.reject({ code: "duplicate_peer", message: unsavable(`they could not be made anew: ${words(error)}`) });
      return;
    }
    if (this.#line.isOver) return;
    this.end();
    this.#doc = fresh;
    this.#known = new Known(fresh);
    this.#own = new Own(fresh);
    this.#unsubscribe = fresh.subscribeLocalUpdates(() => this.#edited());
    this.#unwatch = undefined;
    this.#watch();
    this.#waiting.forget();
    this.#isDuplicate = false;
    this.#line.joinAgain();
  }

  /** Handles the server's decision on this socket's first `frames` frames. */
  #settled(frames: number): void {
    if (frames >= this.#joinFrames) {
      this.#offeredAgain = false;
      this.#isInDoubt = false;
      if (frames > 0) this.#aside.stored();
      this.#enter();
    }
    this.#rejectOversized();
  }

  /** Ends the connection if an operation is too large, once everything else is saved. */
  #rejectOversized(): void {
    if (this.#oversized === undefined || !this.#outbox.decidedAll) return;
    this.#line.reject({ code: "too_large", message: this.#oversized });
  }
}

/** Returns whether a version has operations of the document's present peer that the document lacks. */
function isBehindItself(doc: LoroDoc, theirs: VersionVector): boolean {
  const mine = doc.oplogVersion();
  const peer = doc.peerIdStr;
  const isBehind = (theirs.get(peer) ?? 0) > (mine.get(peer) ?? 0);
  mine.free();
  return isBehind;
}

function unsavable(reason: string): string {
  return `edits made here cannot be saved: ${reason}`;
}
