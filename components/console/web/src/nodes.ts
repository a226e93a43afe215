import { LoroMap, type LoroDoc, type Value } from "loro-crdt";
import { newId } from "./id.js";
import { type Kept, keptBy } from "./kept.js";

/** The origin of commits that record the state of a task. They are not a user's edits, so undo skips them. */
export const ACCOUNT = "task";

/** The origin of the commits during a drag. They are not undone one by one: {@link dropNode} records the whole way. */
export const DRAG = "drag";

/** A place on the board, in CSS pixels. */
export interface Position {
  readonly x: number;
  readonly y: number;
}

/** A node as the board shows it. */
export interface BoardNode {
  readonly id: string;
  readonly position: Position;
  readonly label: string;
  /** The status of the task that makes its content, if there is one. */
  readonly status: string | undefined;
  /** The address of its content. */
  readonly src: string | undefined;
  /** The reason why the task failed. */
  readonly error: string | undefined;
  /** The id of the task that makes its content. */
  readonly taskId: string | undefined;
  /** The prompt of that task. */
  readonly prompt: string | undefined;
  /** The service that keeps the content, and until when; `undefined` if it stays. */
  readonly kept: Kept | undefined;
}

/**
 * Reads the nodes of a document, in the order of their ids. A node is a Loro map and its `data` another one, so that a
 * move, a new label and a task's progress never overwrite each other. Programs may also write a node as a plain value.
 */
export function readNodes(doc: LoroDoc): BoardNode[] {
  const nodes = doc.getMap("nodes").toJSON() as Record<string, unknown>;
  const tasks = doc.getMap("tasks");
  return Object.entries(nodes)
    .map(([id, value]) => readNode(id, value, tasks))
    .filter((node) => node !== undefined)
    .sort((a, b) => (a.id < b.id ? -1 : 1));
}

function readNode(id: string, value: unknown, tasks: LoroMap): BoardNode | undefined {
  if (!isRecord(value)) return undefined;
  const position = isRecord(value["position"]) ? value["position"] : {};
  const data = isRecord(value["data"]) ? value["data"] : {};
  const [src, taskId] = [string(data["src"]), string(data["taskId"])];
  return {
    id,
    position: { x: finite(position["x"]), y: finite(position["y"]) },
    label: string(data["label"]) ?? "",
    status: string(data["status"]),
    src,
    error: string(data["error"]),
    taskId,
    prompt: string(data["prompt"]),
    kept: taskId === undefined || src === undefined ? undefined : keptBy(tasks.get(taskId), src),
  };
}

/**
 * Puts a new node on the board, with `more` values in its data; returns its id. Its maps are mergeable: if another client makes
 * one under the same key at the same time, both have the same map, and neither loses what it wrote.
 */
export function createNode(doc: LoroDoc, position: Position, label: string, more: Record<string, Value> = {}): string {
  const id = newId();
  const node = doc.getMap("nodes").ensureMergeableMap(id);
  node.set("id", id);
  node.set("position", { ...position });
  const data = node.ensureMergeableMap("data");
  for (const [key, value] of Object.entries({ ...more, label })) data.set(key, value);
  doc.commit();
  return id;
}

/** Moves a node; does nothing if it was deleted. */
export function moveNode(doc: LoroDoc, id: string, position: Position): void {
  change(doc, id, ["position"], { ...position });
  doc.commit();
}

/** Shows a node on its way while it is dragged; does nothing if it was deleted. */
export function dragNode(doc: LoroDoc, id: string, position: Position): void {
  change(doc, id, ["position"], { ...position });
  doc.commit({ origin: DRAG });
}

/**
 * Ends a drag, so that one undo takes the node back to where the drag began, whatever other users have done meanwhile. An
 * undo restores what stood there before the recorded commit, so the node is put back first; no page shows that.
 */
export function dropNode(doc: LoroDoc, id: string, from: Position, to: Position): void {
  dragNode(doc, id, from);
  moveNode(doc, id, to);
}

/** Changes the label of a node; does nothing if it was deleted. */
export function renameNode(doc: LoroDoc, id: string, label: string): void {
  change(doc, id, ["data", "label"], label);
  doc.commit();
}

/** Records the state of a node's task in its data; does nothing if the node was deleted. */
export function setData(doc: LoroDoc, id: string, values: Record<string, Value>): void {
  for (const [key, value] of Object.entries(values)) change(doc, id, ["data", key], value);
  doc.commit({ origin: ACCOUNT });
}

/** Deletes a node from the board. */
export function deleteNode(doc: LoroDoc, id: string): void {
  doc.getMap("nodes").delete(id);
  doc.commit();
}

/** Sets one value of a node, in the innermost Loro map on its path. A plain value there is replaced as a whole. */
function change(doc: LoroDoc, id: string, path: string[], value: Value): void {
  let map = doc.getMap("nodes") as LoroMap;
  const keys = [id, ...path];
  while (keys.length > 1) {
    const inner = map.get(keys[0] as string);
    if (inner === undefined) {
      if (map.parent() === undefined) return;
      map = map.ensureMergeableMap(keys.shift() as string);
      continue;
    }
    if (!(inner instanceof LoroMap)) {
      const key = keys.shift() as string;
      map.set(key, changed(inner, keys, value));
      return;
    }
    map = inner;
    keys.shift();
  }
  map.set(keys[0] as string, value);
}

function changed(plain: unknown, [key, ...rest]: string[], value: Value): Value {
  if (key === undefined) return value;
  const record = isRecord(plain) ? (plain as Record<string, Value>) : {};
  return { ...record, [key]: changed(record[key], rest, value) };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function finite(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

function string(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
