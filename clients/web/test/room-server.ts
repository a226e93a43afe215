import { createServer, type Server } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { decodeImportBlobMeta, LoroDoc, VersionVector } from "loro-crdt";
import { type WebSocket, WebSocketServer } from "ws";
import { withoutDependents } from "../src/spans.js";

/** The ways in which a server differs from the usual one. */
export interface Faults {
  /** The port on which it listens; by default the system picks one. */
  readonly port?: number;
  /** The largest message that it accepts, in bytes. After a larger one it closes with 1009. */
  readonly maxMessage?: number;
}

/** A client's socket, as the server sees it. */
interface Member {
  readonly socket: WebSocket;
  readonly url: URL;
  /** The version that the client had when it joined; `undefined` before its first frame. */
  version: VersionVector | undefined;
  /** Says whether an update was refused because of its ids. */
  isDuplicate: boolean;
  /** The number of frames with an update, so without the version's. */
  frames: number;
}

/**
 * A room in memory that speaks the server's raw protocol, with the faults that the tests need. Every address leads to
 * the same room.
 */
export class RoomServer {
  /** The document that is "on disk". */
  doc = new LoroDoc();
  readonly members = new Set<Member>();
  /** The addresses of all joins so far. */
  readonly joins: URL[] = [];
  /** The first frames of all joins so far. */
  readonly versions: Uint8Array[] = [];
  /** Decides on a binary frame: store it, refuse it with an error frame, or leave it undecided. */
  decide: (frame: number, update: Uint8Array) => "store" | "refuse" | "ignore" = () => "store";
  /** The contents of a refusal. */
  refusal = { code: "invalid_update", message: "not a Loro update" };
  /** Returns the blobs to send in place of the room's state. */
  state: ((version: VersionVector) => Uint8Array[]) | undefined;
  /** Returns a version that the server has reached, to be sent in place of the latest one. */
  version: (() => VersionVector) | undefined;
  /** Says whether updates are refused if the document has other operations under the same ids. */
  refusesDuplicates = false;
  /** Says whether the server sends its decisions. */
  confirms = true;
  /** Says whether the server answers the text "ping". */
  answersPings = true;
  /** Says whether the server answers a join at all. */
  answersJoins = true;
  /** The code with which the server closes each new socket at once. */
  closesNew: { code: number; reason?: string } | undefined;
  /** The addresses that were requested by plain HTTP. */
  readonly asked: URL[] = [];
  /** The answer to upgrades and to plain HTTP, if the server refuses them. */
  refuses: { status: number; type: string; detail?: string } | undefined;
  /** The number of upgrades that were asked for, including those refused. */
  upgrades = 0;

  readonly #http: Server;
  readonly #connections: Socket[] = [];
  readonly #sockets: WebSocketServer;

  private constructor(http: Server, maxMessage: number) {
    this.#http = http;
    http.on("connection", (socket) => this.#connections.push(socket));
    http.on("upgrade", () => (this.upgrades += 1));
    http.on("request", (request, response) => {
      this.asked.push(new URL(request.url ?? "/", this.address));
      const { status, ...problem } = this.refuses ?? { status: 404, type: "about:blank" };
      response.writeHead(status, { "content-type": "application/problem+json" }).end(JSON.stringify({ ...problem, status }));
    });
    this.#sockets = new WebSocketServer({
      server: http,
      maxPayload: maxMessage,
      verifyClient: (_info: unknown, decide: (ok: boolean, status?: number) => void) => decide(!this.refuses, this.refuses?.status),
    });
    this.#sockets.on("connection", (socket, request) => this.#accept(socket, new URL(request.url ?? "/", this.address)));
  }

  /** Starts a server, by default on a port that the system picks. */
  static async start({ port = 0, maxMessage = 16 * 1024 * 1024 }: Faults = {}): Promise<RoomServer> {
    const http = createServer();
    const server = new RoomServer(http, maxMessage);
    await new Promise<void>((resolve) => http.listen(port, "127.0.0.1", resolve));
    return server;
  }

  get port(): number {
    return (this.#http.address() as AddressInfo).port;
  }

  /** The bytes received over all connections so far, including those outside of messages. */
  get bytesReceived(): number {
    return this.#connections.reduce((sum, { bytesRead }) => sum + bytesRead, 0);
  }

  get address(): string {
    return `ws://127.0.0.1:${this.port}/sync/test`;
  }

  /** Cuts every connection, as a crash does. */
  cut(): void {
    for (const { socket } of this.members) socket.terminate();
    this.members.clear();
  }

  /** Closes every connection with a code. */
  closeAll(code: number, reason = ""): void {
    for (const { socket } of this.members) socket.close(code, reason);
  }

  /** Sends a binary frame to every member but one. */
  broadcast(bytes: Uint8Array, except?: Member): void {
    for (const member of this.members) if (member !== except) member.socket.send(bytes);
  }

  /** Sends an event to every member. */
  tell(event: object): void {
    for (const { socket } of this.members) socket.send(JSON.stringify(event));
  }

  /** Stops listening and cuts every connection. */
  async stop(): Promise<void> {
    this.cut();
    this.#sockets.close();
    this.#http.closeAllConnections();
    await new Promise<void>((resolve) => this.#http.close(() => resolve()));
  }

  #accept(socket: WebSocket, url: URL): void {
    this.joins.push(url);
    if (this.closesNew) {
      socket.close(this.closesNew.code, this.closesNew.reason);
      return;
    }
    const member: Member = { socket, url, version: undefined, isDuplicate: false, frames: 0 };
    this.members.add(member);
    // A message that is too large causes an error here, after which the socket closes with 1009.
    socket.on("error", () => {});
    socket.on("close", () => {
      this.members.delete(member);
      this.tell({ type: "peers", count: this.members.size });
    });
    socket.on("message", (data: Buffer, binary) => {
      if (binary && member.version) this.#take(member, new Uint8Array(data));
      else if (binary) this.#join(member, new Uint8Array(data));
      else if (this.answersPings) socket.send("pong");
    });
  }

  #join(member: Member, version: Uint8Array): void {
    this.versions.push(version);
    if (member.url.searchParams.get("version") !== "frame") throw new Error("the client has not said that a version comes");
    member.version = version.length === 0 ? new VersionVector(null) : VersionVector.decode(version);
    if (!this.answersJoins) return;
    const { socket } = member;
    const mine = Buffer.from((this.version?.() ?? this.doc.oplogVersion()).encode()).toString("base64url");
    socket.send(JSON.stringify({ type: "joined", rev: 0, version: mine }));
    const blobs = this.state?.(member.version) ?? [this.doc.export({ mode: "update", from: member.version })];
    for (const blob of blobs) socket.send(blob);
    socket.send(JSON.stringify({ type: "synced" }));
    this.tell({ type: "peers", count: this.members.size });
  }

  #take(member: Member, update: Uint8Array): void {
    member.frames += 1;
    const frame = member.frames;
    const decision = this.decide(frame, update);
    if (decision === "ignore") return;
    // An update that builds on a duplicate may have ids that follow those of the other client, and is refused with it.
    if (this.refusesDuplicates) member.isDuplicate ||= isDuplicate(this.doc, update);
    const refusal = member.isDuplicate ? DUPLICATE : decision === "refuse" ? this.refusal : undefined;
    if (!refusal) {
      this.doc.import(update);
      this.broadcast(update, member);
    }
    if (!this.confirms) return;
    if (refusal) member.socket.send(JSON.stringify({ type: "error", ...refusal, frame }));
    member.socket.send(JSON.stringify({ type: "saved", frames: frame, rev: frame }));
  }
}

const DUPLICATE = { code: "duplicate_peer", message: "another client has written as the same peer" };

/** Returns whether a document has other operations under the ids of those in an update. */
function isDuplicate(doc: LoroDoc, update: Uint8Array): boolean {
  const { partialStartVersionVector: start, partialEndVersionVector: end } = decodeImportBlobMeta(update, false);
  const ends = doc.oplogVersion();
  const shared = [...start.toJSON()].filter(([peer, counter]) => (ends.get(peer) ?? 0) > counter);
  if (shared.length === 0) return false;
  const all = [...ends.toJSON()].map(([peer, len]) => ({ id: { peer, counter: 0 }, len }));
  const before = withoutDependents(doc, all, shared.map(([peer, counter]) => ({ peer, counter })));
  const copy = doc.forkAt(doc.vvToFrontiers(new VersionVector(new Map(before.map(({ id, len }) => [id.peer, len])))));
  copy.import(update);
  return shared.some(([peer, counter]) => {
    const length = Math.min(ends.get(peer) ?? 0, end.get(peer) ?? 0) - counter;
    const [theirs, mine] = [copy, doc].map((each) => each.exportJsonInIdSpan({ peer, counter, length }).flatMap(({ ops }) => ops));
    return JSON.stringify(theirs) !== JSON.stringify(mine);
  });
}
