import type { LoroDoc } from "loro-crdt";
import { QUARANTINED } from "./aside.js";
import { Attempts } from "./backoff.js";
import { Exchange, type Fault, type Line } from "./exchange.js";
import type { Connection, Events } from "./handle.js";
import { Heartbeat } from "./heartbeat.js";
import { watchNetwork } from "./network.js";
import { type Options, type Settings, withDefaults } from "./options.js";
import { ADVICE } from "./oversized.js";
import { describeClose, isCurable, isFinal, joinUrl, parseEvent, type ServerEvent, socketUrl } from "./protocol.js";
import { refusal } from "./refusal.js";
import { Reporter } from "./reporter.js";
import { abandon, hangUp, type SocketConstructor, socketConstructor, type SocketLike } from "./socket.js";
import type { Status, SyncError } from "./status.js";
import { words } from "./words.js";

/**
 * The number of the attempt whose wait comes before a join that finds out what the server has moved aside. The wait is random,
 * because all clients of the room get the notice at the same moment, and by default at least 2 s, because a relay may send an
 * earlier state for as long.
 */
const COMPARISON = 3;

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
  readonly #options: Settings;
  readonly #WebSocket: SocketConstructor;
  readonly #exchange: Exchange;
  readonly #reporter = new Reporter();
  readonly #unwatch: () => void;

  #socket: SocketLike | undefined;
  #heartbeat: Heartbeat | undefined;
  /** Ends the wait for the opening of a socket, the next attempt, or the next part of the state. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Ends the wait before a join while the connection goes on. */
  #soon: ReturnType<typeof setTimeout> | undefined;
  readonly #attempts: Attempts;
  /** The number of answers in a row that another program than the sync server may have given. */
  #strange = 0;
  /** The reason why the server does not let this client in for now, in its words. */
  #why: string | undefined;

  constructor(base: URL, doc: LoroDoc, options: Options) {
    this.#base = base;
    this.#WebSocket = socketConstructor(options.WebSocket);
    this.#options = withDefaults(options);
    this.#attempts = new Attempts(this.#options, this.#options.random);
    this.#exchange = new Exchange(doc, this.#line(), options.replaceDocument);
    this.#unwatch = watchNetwork({ back: (online) => this.#back(online), gone: () => this.#heartbeat?.probe() });
    try {
      this.#connect();
    } catch (error) {
      this.#end(String(error));
      throw new TypeError(`no WebSocket can be opened at ${base.origin}${base.pathname}: ${words(error)}`);
    }
  }

  get doc(): LoroDoc {
    return this.#exchange.doc;
  }

  get status(): Status {
    // The document may have grown without an event.
    this.#update({});
    return this.#reporter.status;
  }

  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    return this.#reporter.on(name, listener);
  }

  whenSynced(): Promise<void> {
    return this.#reporter.when(() => this.#reporter.status.state === "live");
  }

  whenSaved(): Promise<void> {
    this.#exchange.commit();
    return this.#reporter.when(() => this.status.saved.all);
  }

  resync(): void {
    if (this.#reporter.isOver) return;
    this.#drop();
    this.#open();
  }

  reconnect(): void {
    const { state } = this.#reporter.status;
    if (state !== "denied" && state !== "offline") return;
    this.#attempts.reset();
    this.#open();
  }

  close(): void {
    if (this.#reporter.status.state === "closed") return;
    this.#exchange.commit();
    this.#end(this.#reporter.status.state === "rejected" ? this.#reporter.status.reason : undefined);
  }

  /** The part of this connection that the exchange needs. */
  #line(): Line {
    const reporter = this.#reporter;
    return {
      // In browsers a socket that is closing throws nothing, and any other failure ends in `onclose`.
      send: (frame) => this.#socket?.send(frame),
      live: () => this.#live(),
      awake: () => {
        this.#heartbeat?.heard();
        if (this.#reporter.status.state === "syncing") this.#awaitState();
      },
      joinAgain: () => this.#joinAgain(),
      joinSoon: () => {
        this.#soon ??= setTimeout(() => this.resync(), this.#attempts.beforeConnecting(COMPARISON));
      },
      retry: (fault) => {
        this.#retry(fault.message);
        this.#report({ ...fault, final: false });
      },
      reject: (fault) => this.#reject(fault),
      report: (fault) => this.#report({ ...fault, final: false }),
      update: () => this.#update({}),
      get isOver() {
        return reporter.isOver;
      },
    };
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
    const socket = new this.#WebSocket(joinUrl(this.#base));
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.#strange = 0;
      socket.send(this.#exchange.version);
      this.#awaitState();
      this.#why = undefined;
      this.#update({ state: "syncing", reason: undefined });
    };
    socket.onmessage = ({ data }: { data: string | ArrayBuffer }) => {
      this.#heartbeat?.heard();
      if (typeof data === "string") this.#told(parseEvent(data));
      else this.#received(new Uint8Array(data));
      this.#exchange.look();
    };
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }: { code: number; reason: string }) => {
      if (opened) {
        this.#lost(code, reason);
        return;
      }
      // A browser does not say why: a server that is down and one that refuses look alike.
      this.#lost(code, this.#why ?? "the server cannot be reached", "unreachable");
      void this.#askWhy();
    };
    this.#giveUpAfter(this.#options.syncTimeout, "the server did not answer");
    this.#update({ state: "connecting", retryIn: undefined, peers: undefined });
  }

  /** Handles a blob from the server: a part of the first state, or an update. */
  #received(blob: Uint8Array): void {
    if (this.#reporter.status.state === "syncing") this.#awaitState();
    this.#exchange.received(blob);
  }

  #told(event: ServerEvent | undefined): void {
    switch (event?.type) {
      case "joined":
        this.#awaitState();
        this.#exchange.join(event.version);
        this.#update({ rev: event.rev });
        break;
      case "synced":
        this.#awaitState();
        this.#exchange.synced();
        break;
      case "saved":
        this.#exchange.stored(event.frames);
        this.#update({ rev: event.rev });
        break;
      case "pending":
        this.#exchange.pending(event.waitsFor);
        break;
      case "peers":
        this.#update({ peers: event.count });
        break;
      case "error": {
        const { code, message, frame } = event;
        if (frame !== undefined) {
          this.#exchange.refused({ code, message, frame });
          break;
        }
        if (code === QUARANTINED) this.#exchange.movedAside(message);
        this.#report({ code, message, final: false });
        break;
      }
      case undefined:
        break;
    }
  }

  /** Goes live, because the first state is imported. */
  #live(): void {
    clearTimeout(this.#timer);
    this.#attempts.live();
    this.#heartbeat = new Heartbeat({
      interval: this.#options.pingInterval,
      timeout: this.#options.pingTimeout,
      ping: () => this.#socket?.send("ping"),
      buffered: () => this.#socket?.bufferedAmount ?? 0,
      dead: () => this.#lost(1006, "the server no longer answers"),
    });
    this.#update({ state: "live" });
  }

  /** Restarts the timeout for the state: until `synced`, each frame allows time for the next one. */
  #awaitState(): void {
    this.#giveUpAfter(this.#options.syncTimeout, "the server did not send the document");
  }

  #giveUpAfter(time: number, reason: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lost(1006, reason), time);
  }

  /** Handles a connection that is lost, or could not be opened. */
  #lost(code: number, reason: string, error = "closed"): void {
    const words = describeClose(code, reason);
    if (isFinal(code)) {
      this.#report({ code: error, message: words, final: true });
      this.#end(words);
    } else if (isCurable(code)) {
      this.#deny({ code: error, message: words });
    } else if (code === 1009 && !this.#exchange.decidedAll) {
      this.#exchange.turnedDown({ code: "too_large", message: `${words}; ${ADVICE}` });
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
    this.#openIn(this.#attempts.beforeConnecting(least), reason);
  }

  /** Joins again, because the server's operations and the document's do not fit together: at once, or after a wait if that did not help. */
  #joinAgain(): void {
    if (this.#reporter.isOver) return;
    const wait = this.#attempts.beforeJoining();
    if (wait === 0) this.resync();
    else this.#openIn(wait, "the server and this document have to be compared again");
  }

  /** Abandons the socket, and opens another one after this wait. */
  #openIn(retryIn: number, reason: string): void {
    this.#drop();
    this.#timer = setTimeout(() => this.#open(), retryIn);
    this.#update({ state: "offline", reason, retryIn, peers: undefined });
  }

  /** Finds out why no socket could be opened at this address, and stops if another attempt cannot help. */
  async #askWhy(): Promise<void> {
    const found = await refusal(this.#base);
    // Meanwhile the server may have let this client in.
    if (!["offline", "connecting"].includes(this.#reporter.status.state)) return;
    this.#why = found?.passing ? found.words : undefined;
    if (this.#why !== undefined) this.#update({ reason: this.#why });
    this.#strange = found && !found.certain ? this.#strange + 1 : 0;
    if (found?.passing) return;
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
  #deny(error: Fault): void {
    if (this.#reporter.isOver) return;
    this.#drop();
    this.#update({ state: "denied", reason: error.message, retryIn: undefined, peers: undefined });
    this.#report({ ...error, final: true });
  }

  /** Abandons the socket. Frames that were on their way may not have arrived. */
  #drop(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#soon);
    this.#soon = undefined;
    this.#heartbeat?.stop();
    this.#heartbeat = undefined;
    if (this.#socket) abandon(this.#socket);
    this.#socket = undefined;
    this.#exchange.lost();
  }

  /** Closes the socket after everything that was sent. */
  #leave(): void {
    if (this.#socket) hangUp(this.#socket);
    this.#socket = undefined;
    this.#drop();
  }

  /** Stops, because edits cannot be saved. Later edits are still counted, so that they do not seem saved. */
  #reject(error: Fault): void {
    if (this.#reporter.isOver) return;
    this.#leave();
    this.#update({ state: "rejected", reason: error.message, retryIn: undefined, peers: undefined });
    this.#report({ ...error, final: true });
  }

  /** Ends the connection for good. */
  #end(reason: string | undefined): void {
    if (this.#reporter.status.state === "closed") return;
    this.#leave();
    this.#exchange.end();
    this.#unwatch();
    this.#update({ state: "closed", reason, retryIn: undefined, peers: undefined });
    this.#reporter.clear();
  }

  /** Reacts to a browser that is back on the network, or in the foreground. */
  #back(online: boolean): void {
    const { state } = this.#reporter.status;
    // An attempt that began on another network may hang for minutes.
    if (state === "connecting" && online) this.resync();
    if (state === "offline") {
      this.#attempts.reset();
      this.#open();
    } else {
      this.#heartbeat?.probe();
    }
  }

  /** Merges a change into the status, together with what is saved and imported by now. */
  #update(change: Partial<Omit<Status, "saved" | "importing">>): void {
    const { saved, importing } = this.#exchange;
    this.#reporter.update({ ...change, saved, importing });
  }

  #report(error: SyncError): void {
    this.#reporter.report(error);
  }
}
