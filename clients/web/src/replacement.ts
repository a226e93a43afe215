import type { LoroDoc, PeerID, VersionVector } from "loro-crdt";
import { type Span, withoutDependents } from "./spans.js";

/** The most comparisons of spans for a peer. Operations that are not compared are made anew, although the server may have them. */
const COMPARISONS = 10_000;

/** Makes the document write as a new random peer. Loro commits what is pending first, as the old one. */
export function takeNewPeer(doc: LoroDoc): void {
  const other = another(doc);
  doc.setPeerId(other.peerIdStr);
  other.free();
}

/**
 * Makes a document with the same contents, in which the edits that the server cannot take are made anew under a new peer id.
 * Operations cannot be taken out of a document, so the new one has the history that is shared with the server, and on top of
 * it the difference to the old one's contents.
 *
 * @param state the server's whole document, in blobs
 * @param confirmed of each peer as which the document has written, the end of what the server is known to have of it. Later
 *   operations of these peers are compared with the server's.
 */
export function underNewPeer(doc: LoroDoc, state: readonly Uint8Array[], confirmed: ReadonlyMap<PeerID, number>): LoroDoc {
  const server = another(doc);
  // A detached document computes no state, so this takes next to no time.
  server.detach();
  for (const blob of state) server.import(blob);
  const shared = sharedVersion(doc, server, confirmed);
  const from = doc.vvToFrontiers(shared);
  // Loro cannot copy the past of a shallow document. The copy of the other one lacks the application's settings.
  const fresh = (doc.isShallow() ? server : doc).forkAt(from);
  fresh.applyDiff(doc.diff(from, doc.oplogFrontiers()));
  fresh.commit();
  for (const each of [shared, server]) each.free();
  // Updates that still wait for others are in no version.
  const waiting = doc.exportPendingUpdates?.();
  if (waiting) fresh.import(waiting);
  return fresh;
}

/** Finds the latest version of a document of which the server has each operation. */
function sharedVersion(doc: LoroDoc, server: LoroDoc, confirmed: ReadonlyMap<PeerID, number>): VersionVector {
  const theirs = server.oplogVersion();
  const mine = doc.oplogVersion();
  const all: Span[] = [];
  const unshared: Span["id"][] = [];
  for (const [peer, end] of mine.toJSON()) {
    const both = Math.min(end, theirs.get(peer) ?? 0);
    const known = confirmed.get(peer);
    const shared = known === undefined ? both : sharedEnd([doc, server], peer, Math.min(known, both), both);
    all.push({ id: { peer, counter: 0 }, len: end });
    if (shared < end) unshared.push({ peer, counter: shared });
  }
  const Version = mine.constructor as typeof VersionVector;
  for (const each of [mine, theirs]) each.free();
  return new Version(new Map(withoutDependents(doc, all, unshared).map(({ id, len }) => [id.peer, len])));
}

/**
 * Finds the end of the operations of a peer that are the same in two documents, as they are up to `start`. A span that differs is
 * halved until one operation does, because the same operations may be cut into pieces in another way.
 */
function sharedEnd(docs: readonly LoroDoc[], peer: PeerID, start: number, end: number): number {
  const spans: [number, number][] = [[start, end]];
  for (let turn = 0; spans.length > 0; turn += 1) {
    const [from, to] = spans.pop()!;
    if (from === to) continue;
    const [one, other] = docs.map((doc) => written(doc, peer, from, to));
    if (one === other) continue;
    if (to - from === 1 || turn === COMPARISONS) return from;
    const middle = Math.floor((from + to) / 2);
    spans.push([middle, to], [from, middle]);
  }
  return end;
}

/** Describes the operations of a peer from `start` to `end`. */
function written(doc: LoroDoc, peer: PeerID, start: number, end: number): string {
  const changes = doc.exportJsonInIdSpan({ peer, counter: start, length: end - start });
  const steps = changes.flatMap(({ id, lamport, deps, ops }) => {
    const counter = Number(id.split("@")[0]);
    // Each operation depends on the one before it.
    const others = deps.filter((dep) => dep !== `${counter - 1}@${peer}`).sort();
    return [...others, ...ops.map((op) => [op, lamport + op.counter - counter])];
  });
  return JSON.stringify(steps);
}

function another(doc: LoroDoc): LoroDoc {
  return new (doc.constructor as typeof LoroDoc)();
}
