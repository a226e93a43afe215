import type { LoroDoc } from "loro-crdt";
import { delayBefore } from "./backoff.js";
import { Heartbeat } from "./heartbeat.js";
import { decodeVersion, missingUpdates } from "./missing.js";
import { Outbox } from "./outbox.js";
import { describeClose, isFinal, joinUrl, MAX_MESSAGE, parseEvent, type ServerEvent, socketUrl } from "./protocol.js";
import { refusal } from "./refusal.js";
import { abandon, type SocketConstructor, socketConstructor, type SocketLike } from "./socket.js";

/** A connection that has been live for so long starts to count its attempts anew, in milliseconds. */
const STABLE = 5_000;

/**
 * - `connecting`: a socket is being opened.
 * - `syncing`: the room's state is on its way.
 * - `live`: edits go both ways as they are made.
 * - `offline`: the connection is lost, and the next attempt is due after `status.retryIn`. Edits are kept in the document.
 * - `closed`: over, by `close()` or because the server will not have us (`status.reason`).
 */
export type State = "connecting" | "syncing" | "live" | "offline" | "closed";

/** How a connection is. A new object at each change. */
export interface Status {
  readonly state: State;
  readonly saved: {
    /** The server has confirmed that every edit made here is stored. */
    readonly all: boolean;
    /** Edits (local commits) of which that is not known. */
    readonly unsaved: number;
    /** Those of them that the server has refused. They are offered again at the next join. */
    readonly refused: number;
  };
  /** Sockets in the room, this one among them; unknown while not live. */
  readonly peers: number | undefined;
  /** The room's rev, as last heard. */
  readonly rev: number | undefined;
  /** Why it is offline or closed, in words for a user. */
  readonly reason: string | undefined;
  /** While offline: milliseconds from the loss of the connection to the next attempt. */
  readonly retryIn: number | undefined;
}

/** Something that went wrong. Only if `final` is the connection over; otherwise it goes on. */
export interface SyncError {
  /**
   * The server's own code (`invalid_update`, …), or: `unreachable` (no connection could be opened), `refused` (the
   * server does not let this client in), `closed` (the server
   * ended it, and not for maintenance), `import_failed` (an update from the server could not be applied), `export_failed`
   * (what the server lacks could not be read from the document).
   */
  readonly code: string;
  /** In words for a user. */
  readonly message: string;
  readonly final: boolean;
  /** The server refused this frame: the edits in it are not saved. */
  readonly frame?: number;
}

/** Settings of a connection; all times in milliseconds. */
export interface Options {
  /** For platforms without one of their own: the class from the package `ws`. */
  readonly WebSocket?: SocketConstructor;
  /** Longest first wait before connecting again; doubles with each attempt. Default 500. */
  readonly minDelay?: number;
  /** Longest wait at all. Default 30,000. */
  readonly maxDelay?: number;
  /** A live connection that was quiet for so long is asked whether it is still there. Default 20,000. */
  readonly pingInterval?: number;
  /** And is given up if no frame comes for so long. Default 10,000. */
  readonly pingTimeout?: number;
  /** Longest wait for a socket to open, and for each next part of the first state. Default 60,000. */
  readonly syncTimeout?: number;
  /** For tests: a number in [0, 1). Default `Math.random`. */
  readonly random?: () => number;
}

interface Events {
  readonly status: Status;
  readonly error: SyncError;
}

/** A document's connection to its room; made by {@link connect}. */
export interface Connection {
  /** How it is now. */
  readonly status: Status;
  /** Calls `listener` at each change of the status, or at each error. Returns a function that ends it. */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void;
  /** Resolves when the document has the room's state; rejects if the connection is closed before. */
  whenSynced(): Promise<void>;
  /**
   * Commits, and resolves when the server has confirmed every edit made here. Rejects if the connection is closed before,
   * or if the server refuses an edit.
   */
  whenSaved(): Promise<void>;
  /**
   * Joins again. Needed only after the application has itself imported something into the document (from a
   * file, say): Loro does not report such changes as local edits, and a join finds what the server lacks.
   */
  resync(): void;
  /** Ends the connection for good. What is not saved by then may not be: await `whenSaved()` first. */
  close(): void;
}

/**
 * Connects a document to a room and keeps the two in step until `close()`: through lost connections, with
 * growing waits between attempts, and with edits that were made in between.
 *
 * @param address of the room, e.g. `wss://example.org/sync/my-project`; in browsers a path will do
 * @throws TypeError if the address is none, or there is no WebSocket
 */
export function connect(address: string | URL, doc: LoroDoc, options: Options = {}): Connection {
  return new RoomConnection(socketUrl(address), doc, options);
}

class RoomConnection implements Connection {
  readonly #base: URL;
  readonly #doc: LoroDoc;
  readonly #options: Required<Omit<Options, "WebSocket">>;
  readonly #WebSocket: SocketConstructor;
  readonly #outbox = new Outbox();
  readonly #listeners = { status: new Set<(status: Status) => void>(), error: new Set<(error: SyncError) => void>() };
  readonly #atClose: (() => void)[] = [];

  #socket: SocketLike | undefined;
  #heartbeat: Heartbeat | undefined;
  /** The opening of a socket, the next attempt, or the next part of the state: whatever is awaited. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #liveSince: number | undefined;
  /** The server has said what it has, on this socket: from here on local edits are sent as they are made. */
  #joined = false;
  /** The parts of the first state that have come. */
  #parts: Uint8Array[] = [];
  /** The server's word was heard at least once, so that "nothing unsaved" is known and not just assumed. */
  #known = false;
  #status: Status;

  constructor(base: URL, doc: LoroDoc, options: Options) {
    this.#base = base;
    this.#doc = doc;
    this.#WebSocket = socketConstructor(options.WebSocket);
    this.#options = {
      minDelay: options.minDelay ?? 500,
      maxDelay: options.maxDelay ?? 30_000,
      pingInterval: options.pingInterval ?? 20_000,
      pingTimeout: options.pingTimeout ?? 10_000,
      syncTimeout: options.syncTimeout ?? 60_000,
      random: options.random ?? Math.random,
    };
    this.#status = {
      state: "connecting",
      saved: { all: false, unsaved: 0, refused: 0 },
      peers: undefined,
      rev: undefined,
      reason: undefined,
      retryIn: undefined,
    };
    this.#atClose.push(doc.subscribeLocalUpdates((update) => this.#edited(update)));
    this.#watchNetwork();
    this.#open();
  }

  get status(): Status {
    return this.#status;
  }

  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    const listeners = this.#listeners[name] as Set<(event: Events[Name]) => void>;
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  whenSynced(): Promise<void> {
    return this.#when(() => this.#status.state === "live", false);
  }

  whenSaved(): Promise<void> {
    this.#doc.commit();
    return this.#when(() => this.#status.saved.all, true);
  }

  resync(): void {
    if (this.#status.state === "closed") return;
    this.#drop();
    this.#open();
  }

  close(): void {
    if (this.#status.state === "closed") return;
    this.#doc.commit();
    this.#end(undefined);
  }

  #open(): void {
    clearTimeout(this.#timer);
    let socket: SocketLike;
    try {
      socket = new this.#WebSocket(joinUrl(this.#base, this.#doc.oplogVersion().encode()));
    } catch (error) {
      this.#lost(1006, String(error));
      return;
    }
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.#awaitState();
      this.#update({ state: "syncing", reason: undefined });
    };
    socket.onmessage = ({ data }: { data: string | ArrayBuffer }) => {
      this.#heartbeat?.heard();
      if (typeof data === "string") this.#told(parseEvent(data));
      else this.#received(new Uint8Array(data));
    };
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }: { code: number; reason: string }) => {
      if (opened) {
        this.#lost(code, reason);
        return;
      }
      // A browser does not tell why: a server that is down and one that refuses look alike.
      this.#lost(code, "the server cannot be reached", "unreachable");
      void this.#askWhy();
    };
    this.#giveUpAfter(this.#options.syncTimeout, "the server did not answer");
    this.#update({ state: "connecting", retryIn: undefined });
  }

  /** Local edits, as they are committed. */
  #edited(update: Uint8Array): void {
    if (!this.#joined) {
      this.#outbox.keep();
    } else if (update.length > MAX_MESSAGE) {
      // A join sends in pieces what does not fit into one message.
      this.#outbox.keep();
      this.resync();
      return;
    } else {
      this.#send(update);
      this.#outbox.send(1);
    }
    this.#update({});
  }

  /** A blob from the server: a part of the first state, or an update. */
  #received(blob: Uint8Array): void {
    if (this.#status.state === "live") {
      this.#import(blob);
    } else {
      this.#parts.push(blob);
      this.#awaitState();
    }
  }

  /** What one bad update holds is lost to this client until it joins again, but the others still arrive. */
  #import(blob: Uint8Array): void {
    try {
      this.#doc.import(blob);
    } catch (error) {
      this.#report({ code: "import_failed", message: `an update could not be applied: ${String(error)}`, final: false });
    }
  }

  /**
   * The parts of the state go in together only where nothing was before: Loro does that by leaving the latest
   * version and coming back to it, at which an `UndoManager` forgets everything.
   */
  #importState(): void {
    const parts = this.#parts;
    this.#parts = [];
    if (parts.length > 1 && this.#doc.opCount() === 0) {
      try {
        this.#doc.importBatch(parts);
        return;
      } catch {
        // One of them is bad; the loop finds out which.
      }
    }
    for (const part of parts) this.#import(part);
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
        this.#update({ rev: event.rev });
        break;
      case "peers":
        this.#update({ peers: event.count });
        break;
      case "error": {
        const { code, message, frame } = event;
        if (frame !== undefined) this.#outbox.refuse(frame);
        this.#report({ code, message, final: false, ...(frame !== undefined && { frame }) });
        this.#update({});
        break;
      }
      case undefined:
        break;
    }
  }

  /** The server has told its version: send what it lacks. */
  #join(version: Uint8Array): void {
    this.#awaitState();
    // An edit that is not yet committed becomes one that waits, and goes out with the rest.
    this.#doc.commit();
    let updates: Uint8Array[];
    try {
      updates = missingUpdates(this.#doc, decodeVersion(this.#doc, version), MAX_MESSAGE);
    } catch (error) {
      this.#report({ code: "export_failed", message: `edits could not be sent: ${String(error)}`, final: false });
      this.#joined = true;
      return;
    }
    this.#joined = true;
    this.#known = true;
    for (const update of updates) this.#send(update);
    this.#outbox.sendAll(updates.length);
  }

  /** The first state is complete. */
  #synced(): void {
    clearTimeout(this.#timer);
    this.#importState();
    this.#liveSince = Date.now();
    this.#heartbeat = new Heartbeat({
      interval: this.#options.pingInterval,
      timeout: this.#options.pingTimeout,
      ping: () => this.#socket?.send("ping"),
      buffered: () => this.#socket?.bufferedAmount ?? 0,
      dead: () => this.#lost(1006, "the server does not answer any more"),
    });
    this.#update({ state: "live" });
  }

  /** Between the opening of a socket and `synced`, each frame buys time for the next. */
  #awaitState(): void {
    this.#giveUpAfter(this.#options.syncTimeout, "the server did not send the document");
  }

  #giveUpAfter(time: number, reason: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lost(1006, reason), time);
  }

  /** A socket that is just closing throws nothing in browsers; whatever else goes wrong ends in `onclose`. */
  #send(update: Uint8Array): void {
    this.#socket?.send(update);
  }

  /** The connection is gone, or could not be opened. */
  #lost(code: number, reason: string, error = "closed"): void {
    const words = describeClose(code, reason);
    this.#drop();
    if (isFinal(code)) {
      this.#report({ code: error, message: words, final: true });
      this.#end(words);
      return;
    }
    if (error === "unreachable" || [1003, 1007, 1008, 1009, 1011].includes(code)) {
      this.#report({ code: error, message: words, final: false });
    }
    if (this.#liveSince !== undefined && Date.now() - this.#liveSince >= STABLE) this.#attempt = 0;
    this.#liveSince = undefined;
    // An overloaded server asks for patience.
    if (code === 1013) this.#attempt = Math.max(this.#attempt, 2);
    const retryIn = delayBefore(this.#attempt, this.#options, this.#options.random);
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.#open(), retryIn);
    this.#update({ state: "offline", reason: words, retryIn });
  }

  /** Ends the connection if the server does not let this client in. */
  async #askWhy(): Promise<void> {
    const reason = await refusal(this.#base);
    // Meanwhile it may have been let in.
    if (reason === undefined || !["offline", "connecting"].includes(this.#status.state)) return;
    this.#report({ code: "refused", message: reason, final: true });
    this.#end(reason);
  }

  /** Lets go of the socket. What was on its way may not have arrived. */
  #drop(): void {
    clearTimeout(this.#timer);
    this.#heartbeat?.stop();
    this.#heartbeat = undefined;
    this.#joined = false;
    this.#parts = [];
    this.#outbox.lost();
    if (this.#socket) abandon(this.#socket);
    this.#socket = undefined;
    this.#update({ peers: undefined });
  }

  /** Over for good. */
  #end(reason: string | undefined): void {
    const socket = this.#socket;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.onerror = () => {};
      // A close frame goes out after everything that was sent before.
      socket.close(1000);
      this.#socket = undefined;
    }
    this.#drop();
    for (const undo of this.#atClose) undo();
    this.#update({ state: "closed", reason, retryIn: undefined });
    this.#listeners.status.clear();
    this.#listeners.error.clear();
  }

  /** In a browser: back on the network, or back in the foreground, is a reason to look at once. */
  #watchNetwork(): void {
    const look = (event: Event): void => {
      const { state } = this.#status;
      // An attempt that began on another network may hang for minutes.
      if (state === "connecting" && event.type === "online") this.resync();
      if (state === "offline") {
        this.#attempt = 0;
        this.#open();
      } else {
        this.#heartbeat?.probe();
      }
    };
    const listen = (target: EventTarget | undefined, name: string, listener: (event: Event) => void): void => {
      target?.addEventListener?.(name, listener);
      this.#atClose.push(() => target?.removeEventListener?.(name, listener));
    };
    const { window, document } = globalThis as { window?: EventTarget; document?: Document };
    listen(window, "online", look);
    listen(window, "offline", () => this.#heartbeat?.probe());
    listen(document, "visibilitychange", (event) => document?.visibilityState === "visible" && look(event));
  }

  #when(reached: () => boolean, refusals: boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop: (() => void)[] = [];
      const settle = (act: () => void): void => {
        for (const each of stop) each();
        act();
      };
      const look = (): void => {
        if (reached()) settle(resolve);
        else if (this.#status.state === "closed") settle(() => reject(new Error(this.#status.reason ?? "the connection is closed")));
      };
      stop.push(this.on("status", look));
      if (refusals) {
        stop.push(this.on("error", ({ frame, message }) => frame !== undefined && settle(() => reject(new Error(message)))));
      }
      look();
    });
  }

  /** Merges a change into the status and tells it, if it is one. */
  #update(change: Partial<Omit<Status, "saved">>): void {
    const before = this.#status;
    const { unsaved, refused } = this.#outbox;
    const saved = { all: this.#known && unsaved === 0, unsaved, refused };
    const after: Status = { ...before, ...change, saved: same(saved, before.saved) ? before.saved : saved };
    if (same(after, before)) return;
    this.#status = after;
    this.#tell(this.#listeners.status, after);
  }

  #report(error: SyncError): void {
    this.#tell(this.#listeners.error, error);
  }

  /** A listener that throws is reported as any uncaught error is, and harms no other, nor the connection. */
  #tell<Event>(listeners: Set<(event: Event) => void>, event: Event): void {
    for (const listener of [...listeners]) {
      try {
        listener(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

/** Whether two objects with the same keys have the same values. */
function same<Type extends object>(a: Type, b: Type): boolean {
  return (Object.keys(a) as (keyof Type)[]).every((key) => a[key] === b[key]);
}
