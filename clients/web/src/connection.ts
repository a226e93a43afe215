import type { LoroDoc } from "loro-crdt";
import { delayBefore } from "./backoff.js";
import type { Connection, Events } from "./handle.js";
import { Heartbeat } from "./heartbeat.js";
import { importEach, waitingBytes } from "./importing.js";
import { Known } from "./known.js";
import { Listeners } from "./listeners.js";
import { type Missing, missingUpdates } from "./missing.js";
import { watchNetwork } from "./network.js";
import { type Options, type Settings, withDefaults } from "./options.js";
import { Outbox } from "./outbox.js";
import { ADVICE, describeOversized } from "./oversized.js";
import { describeClose, isCurable, isFinal, joinUrl, MAX_MESSAGE, parseEvent, type ServerEvent, SMALL_MESSAGE, socketUrl } from "./protocol.js";
import { refusal } from "./refusal.js";
import { abandon, hangUp, type SocketConstructor, socketConstructor, type SocketLike } from "./socket.js";
import type { Status, SyncError } from "./status.js";

/** The time for which a connection must be live before its attempts are counted from 0 again, in milliseconds. */
const STABLE = 5_000;

/**
 * The number of attempts in a row after which an answer that is not the sync server's own is believed. A proxy may give
 * such answers for a few seconds while the server behind it is replaced.
 */
const STRANGE_ANSWERS = 5;

/**
 * Connects a document to a room and keeps the two in step until `close()`. It survives lost connections, with
 * growing waits between attempts, and sends the edits that were made meanwhile.
 *
 * @param address the room's address, e.g. `wss://example.org/sync/my-project`; in browsers it may be relative to the page's
 * @throws TypeError if no WebSocket can ever be opened at the address, e.g. because it is not valid, or because a page
 *   that was loaded over https must not use `ws:`; or if the platform has no WebSocket
 */
export function connect(address: string | URL, doc: LoroDoc, options: Options = {}): Connection {
  return new RoomConnection(socketUrl(address), doc, options);
}

class RoomConnection implements Connection {
  readonly #base: URL;
  readonly #doc: LoroDoc;
  readonly #options: Settings;
  readonly #WebSocket: SocketConstructor;
  readonly #outbox = new Outbox();
  /** The version that the server has or was sent, from its `joined` until the end of the socket. */
  readonly #known: Known;
  readonly #listeners = new Listeners<Events>();
  readonly #atClose: (() => void)[] = [];

  #socket: SocketLike | undefined;
  #heartbeat: Heartbeat | undefined;
  /** Ends the wait for the opening of a socket, the next attempt, or the next part of the state. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #liveSince: number | undefined;
  /** The parts of the first state that have arrived. */
  #parts: Uint8Array[] = [];
  /** Whether an import or export is under way. Edits that subscribers make meanwhile are offered after it. */
  #busy = false;
  /** Whether the server has refused edits once, and has not yet saved everything that was offered again. */
  #offeredAgain = false;
  /** The number of frames of this connection's join. Once they are saved, so is everything that was offered again. */
  #joinFrames = 0;
  /** The number of answers in a row that another program than the sync server may have given. */
  #strange = 0;
  /** Describes an operation that cannot be sent. Everything else is on its way, and then the connection is over. */
  #oversized: string | undefined;
  #status: Status;

  constructor(base: URL, doc: LoroDoc, options: Options) {
    this.#base = base;
    this.#doc = doc;
    this.#known = new Known(doc);
    this.#WebSocket = socketConstructor(options.WebSocket);
    this.#options = withDefaults(options);
    this.#status = {
      state: "connecting",
      saved: { all: false, unsaved: 0, refused: 0 },
      peers: undefined,
      rev: undefined,
      reason: undefined,
      retryIn: undefined,
    };
    this.#atClose.push(
      doc.subscribeLocalUpdates(() => this.#edited()),
      doc.subscribe(({ by }) => by === "import" && this.#look()),
      watchNetwork({ back: (online) => this.#back(online), gone: () => this.#heartbeat?.probe() }),
    );
    try {
      this.#connect();
    } catch (error) {
      this.#end(String(error));
      throw new TypeError(`no WebSocket can be opened at ${base.origin}${base.pathname}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  get status(): Status {
    // The document may have grown without an event.
    this.#update({});
    return this.#status;
  }

  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    return this.#listeners.on(name, listener);
  }

  whenSynced(): Promise<void> {
    return this.#when(() => this.#status.state === "live");
  }

  whenSaved(): Promise<void> {
    this.#doc.commit();
    this.#offer();
    return this.#when(() => this.status.saved.all);
  }

  resync(): void {
    if (this.#isOver()) return;
    this.#drop();
    this.#open();
  }

  reconnect(): void {
    const { state } = this.#status;
    if (state !== "denied" && state !== "offline") return;
    this.#attempt = 0;
    this.#open();
  }

  close(): void {
    if (this.#status.state === "closed") return;
    this.#doc.commit();
    this.#offer();
    this.#end(this.#status.state === "rejected" ? this.#status.reason : undefined);
  }

  /** Tells whether the connection has ended, or makes no further attempt by itself. */
  #isOver(): boolean {
    return ["denied", "closed", "rejected"].includes(this.#status.state);
  }

  #open(): void {
    try {
      this.#connect();
    } catch (error) {
      this.#lost(1006, String(error));
    }
  }

  /** Opens a socket. Throws if the platform refuses the address. */
  #connect(): void {
    clearTimeout(this.#timer);
    const address = joinUrl(this.#base, this.#doc.oplogVersion().encode());
    const socket = new this.#WebSocket(address);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.#strange = 0;
      this.#awaitState();
      this.#update({ state: "syncing", reason: undefined });
    };
    socket.onmessage = ({ data }: { data: string | ArrayBuffer }) => {
      this.#heartbeat?.heard();
      if (typeof data === "string") this.#told(parseEvent(data));
      else this.#received(new Uint8Array(data));
      this.#look();
    };
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }: { code: number; reason: string }) => {
      if (opened) {
        this.#lost(code, reason);
        return;
      }
      // A browser does not say why: a server that is down and one that refuses look alike.
      this.#lost(code, "the server cannot be reached", "unreachable");
      void this.#askWhy(address);
    };
    this.#giveUpAfter(this.#options.syncTimeout, "the server did not answer");
    this.#update({ state: "connecting", retryIn: undefined, peers: undefined });
  }

  /** Handles a local edit that was committed. */
  #edited(): void {
    // An earlier subscriber may have made an edit of its own, and this one was sent with it.
    if (this.#known.coversDocument()) return;
    this.#outbox.keep();
    this.#offer();
    this.#update({});
  }

  /**
   * Checks whether the document has grown by an import of the application. Loro does not report every import (not if the
   * document is detached, or shows no change), so each message of the server is an occasion to check.
   */
  #look(): void {
    // An offer would commit what the application has not committed yet.
    if (this.#doc.getPendingTxnLength() === 0) this.#offer();
    this.#update({});
  }

  /** Sends the operations that the document has and the server lacks. */
  #offer(): void {
    const theirs = this.#known.version;
    if (!theirs || this.#busy || this.#oversized !== undefined || this.#known.coversDocument()) return;
    let missing: Missing;
    this.#busy = true;
    try {
      missing = missingUpdates(this.#doc, theirs, { piece: this.#offeredAgain ? SMALL_MESSAGE : MAX_MESSAGE, max: MAX_MESSAGE });
    } catch (error) {
      this.#turnedDown({ code: "export_failed", message: error instanceof Error ? error.message : String(error) });
      return;
    } finally {
      this.#busy = false;
    }
    const { updates, version, oversized } = missing;
    for (const update of updates) this.#send(update);
    if (oversized) {
      this.#outbox.sendPart(updates.length);
      this.#oversized = describeOversized(this.#doc, oversized, MAX_MESSAGE);
      this.#rejectOversized();
    } else {
      this.#outbox.sendAll(updates.length);
      this.#known.sent(version);
    }
  }

  /** Handles a blob from the server: a part of the first state, or an update. */
  #received(blob: Uint8Array): void {
    if (this.#status.state === "live") {
      this.#import([blob]);
    } else {
      this.#parts.push(blob);
      this.#awaitState();
    }
  }

  /** Imports blobs from the server, and then offers the edits with which the application reacted. */
  #import(blobs: Uint8Array[]): void {
    const waiting = waitingBytes(this.#doc);
    this.#busy = true;
    const imported = importEach(this.#doc, blobs, (error) => {
      this.#report({ code: "import_failed", message: `an update could not be applied: ${String(error)}`, final: false });
    });
    this.#busy = false;
    for (const { success } of imported) this.#known.received(success);
    // An import that waited may have been the application's, so the server may lack it. Join again to compare.
    if (waitingBytes(this.#doc) < waiting) this.resync();
    else this.#offer();
  }

  #told(event: ServerEvent | undefined): void {
    switch (event?.type) {
      case "joined":
        this.#join(event.version);
        this.#update({ rev: event.rev });
        break;
      case "synced":
        this.#synced();
        break;
      case "saved":
        this.#outbox.decided(event.frames);
        this.#settled(event.frames);
        this.#update({ rev: event.rev });
        break;
      case "peers":
        this.#update({ peers: event.count });
        break;
      case "error": {
        const { code, message, frame } = event;
        if (frame === undefined) {
          this.#report({ code, message, final: false });
        } else {
          this.#outbox.refuse(frame);
          this.#turnedDown({ code, message, frame });
        }
        break;
      }
      case undefined:
        break;
    }
  }

  /** Sends what the server lacks, now that it has sent its version. */
  #join(version: Uint8Array): void {
    const socket = this.#socket;
    this.#awaitState();
    // Commits, so that pending edits are sent with the rest.
    this.#doc.commit();
    if (this.#socket !== socket) return;
    try {
      this.#known.hear(version);
    } catch {
      this.#lost(1007, "the server's version of the document cannot be read");
      return;
    }
    if (this.#known.coversDocument()) this.#outbox.sendAll(0);
    else this.#offer();
    if (this.#socket !== socket) return;
    this.#joinFrames = this.#outbox.frames;
    this.#settled(0);
  }

  /** Goes live, because the first state is complete. */
  #synced(): void {
    const socket = this.#socket;
    clearTimeout(this.#timer);
    this.#import(this.#parts.splice(0));
    if (this.#socket !== socket) return;
    this.#liveSince = Date.now();
    this.#heartbeat = new Heartbeat({
      interval: this.#options.pingInterval,
      timeout: this.#options.pingTimeout,
      ping: () => this.#socket?.send("ping"),
      buffered: () => this.#socket?.bufferedAmount ?? 0,
      dead: () => this.#lost(1006, "the server no longer answers"),
    });
    this.#update({ state: "live" });
  }

  /** Handles the server's decision on this connection's first `frames` frames. */
  #settled(frames: number): void {
    if (frames >= this.#joinFrames) this.#offeredAgain = false;
    this.#rejectOversized();
  }

  /** Ends the connection if an operation is too large, once everything else is saved. */
  #rejectOversized(): void {
    if (this.#oversized === undefined || !this.#outbox.decidedAll) return;
    this.#reject({ code: "too_large", message: this.#oversized });
  }

  /** Handles a refusal of edits: offers them once more after a wait, and ends the connection at the second refusal. */
  #turnedDown(error: Omit<SyncError, "final">): void {
    if (this.#isOver()) return;
    if (this.#offeredAgain) {
      this.#reject({ ...error, message: `edits made here cannot be saved: ${error.message}` });
    } else {
      this.#offeredAgain = true;
      this.#retry(error.message);
      this.#report({ ...error, final: false });
    }
  }

  /** Restarts the timeout for the state: until `synced`, each frame allows time for the next one. */
  #awaitState(): void {
    this.#giveUpAfter(this.#options.syncTimeout, "the server did not send the document");
  }

  #giveUpAfter(time: number, reason: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lost(1006, reason), time);
  }

  /** Sends a frame. In browsers a socket that is closing throws nothing, and any other failure ends in `onclose`. */
  #send(update: Uint8Array): void {
    this.#socket?.send(update);
  }

  /** Handles a connection that is lost, or could not be opened. */
  #lost(code: number, reason: string, error = "closed"): void {
    const words = describeClose(code, reason);
    if (isFinal(code)) {
      this.#report({ code: error, message: words, final: true });
      this.#end(words);
    } else if (isCurable(code)) {
      this.#deny({ code: error, message: words });
    } else if (code === 1009 && !this.#outbox.decidedAll) {
      this.#turnedDown({ code: "too_large", message: `${words}; ${ADVICE}` });
    } else {
      // An overloaded server needs a longer wait.
      this.#retry(words, code === 1013 ? 2 : 0);
      if (error === "unreachable" || [1003, 1007, 1008, 1009, 1011].includes(code)) {
        this.#report({ code: error, message: words, final: false });
      }
    }
  }

  /** Connects again after a wait, which is at least that of attempt number `least`. */
  #retry(reason: string, least = 0): void {
    this.#drop();
    if (this.#liveSince !== undefined && Date.now() - this.#liveSince >= STABLE) this.#attempt = 0;
    this.#liveSince = undefined;
    this.#attempt = Math.max(this.#attempt, least);
    const retryIn = delayBefore(this.#attempt, this.#options, this.#options.random);
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#open(), retryIn);
    this.#update({ state: "offline", reason, retryIn, peers: undefined });
  }

  /** Finds out why no socket could be opened at this address, and stops if another attempt cannot help. */
  async #askWhy(address: string): Promise<void> {
    const found = await refusal(address);
    // Meanwhile the server may have let this client in.
    if (!["offline", "connecting"].includes(this.#status.state)) return;
    this.#strange = found && !found.certain ? this.#strange + 1 : 0;
    if (!found || (!found.certain && this.#strange < STRANGE_ANSWERS)) return;
    this.#strange = 0;
    if (found.curable) {
      this.#deny({ code: "refused", message: found.words });
    } else {
      this.#report({ code: "refused", message: found.words, final: true });
      this.#end(found.words);
    }
  }

  /** Stops until `reconnect()`, because the server does not let this client in. Edits stay in the document, and are counted. */
  #deny(error: Omit<SyncError, "final">): void {
    if (this.#isOver()) return;
    this.#drop();
    this.#liveSince = undefined;
    this.#update({ state: "denied", reason: error.message, retryIn: undefined, peers: undefined });
    this.#report({ ...error, final: true });
  }

  /** Abandons the socket. Frames that were on their way may not have arrived. */
  #drop(): void {
    clearTimeout(this.#timer);
    this.#heartbeat?.stop();
    this.#heartbeat = undefined;
    this.#known.forget();
    this.#parts = [];
    this.#oversized = undefined;
    this.#outbox.lost();
    if (this.#socket) abandon(this.#socket);
    this.#socket = undefined;
  }

  /** Closes the socket after everything that was sent. */
  #leave(): void {
    if (this.#socket) hangUp(this.#socket);
    this.#socket = undefined;
    this.#drop();
  }

  /** Stops, because edits cannot be saved. Later edits are still counted, so that they do not seem saved. */
  #reject(error: Omit<SyncError, "final">): void {
    if (this.#isOver()) return;
    this.#leave();
    this.#update({ state: "rejected", reason: error.message, retryIn: undefined, peers: undefined });
    this.#report({ ...error, final: true });
  }

  /** Ends the connection for good. */
  #end(reason: string | undefined): void {
    if (this.#status.state === "closed") return;
    this.#leave();
    for (const undo of this.#atClose) undo();
    this.#update({ state: "closed", reason, retryIn: undefined, peers: undefined });
    this.#listeners.clear();
  }

  /** Reacts to a browser that is back on the network, or in the foreground. */
  #back(online: boolean): void {
    const { state } = this.#status;
    // An attempt that began on another network may hang for minutes.
    if (state === "connecting" && online) this.resync();
    if (state === "offline") {
      this.#attempt = 0;
      this.#open();
    } else {
      this.#heartbeat?.probe();
    }
  }

  #when(reached: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const over = this.#isOver();
        if (!reached() && !over) return;
        stop();
        if (over) reject(new Error(this.#status.reason ?? "the connection is closed"));
        else resolve();
      };
      const stop = this.on("status", look);
      look();
    });
  }

  /** Merges a change into the status, and notifies the listeners if the status differs. */
  #update(change: Partial<Omit<Status, "saved">>): void {
    const before = this.#status;
    const { unsaved, refused } = this.#outbox;
    const saved = { all: unsaved === 0 && this.#known.coversDocument(), unsaved, refused };
    const after: Status = { ...before, ...change, saved: same(saved, before.saved) ? before.saved : saved };
    if (same(after, before)) return;
    this.#status = after;
    this.#listeners.tell("status", after);
  }

  #report(error: SyncError): void {
    this.#listeners.tell("error", error);
  }
}

/** Tells whether two objects with the same keys have the same values. */
function same<Type extends object>(a: Type, b: Type): boolean {
  return (Object.keys(a) as (keyof Type)[]).every((key) => a[key] === b[key]);
}
