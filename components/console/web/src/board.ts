import { isSameKept, keptWords } from "./kept.js";
import { type Media, mediaOf } from "./media.js";
import { type BoardNode, createNode, deleteNode, dragNode, dropNode, moveNode, type Position, readNodes, renameNode } from "./nodes.js";
import type { Holder, OpenDocument } from "./open.js";
import type { GestureUndo } from "./undo.js";
import { UploadCard } from "./upload-card.js";
import type { Showing } from "./uploads.js";
import { words } from "./words.js";

/** The time between two updates of a dragged node's position, in milliseconds. */
const DRAG_INTERVAL = 40;

/** The height of a node with a picture, in pixels. */
export const PICTURE_HEIGHT = 204;

/** The distance by which an arrow key moves a node, in pixels. */
const STEP = 12;

const STATUS_WORDS: Record<string, string> = {
  pending: "waiting",
  processing: "in progress",
  completed: "done",
  failed: "failed",
  cancelled: "cancelled",
};

/** Retries a node's task; rejects if that is not possible. */
export type Retry = (node: BoardNode) => Promise<void>;

/** The elements of the page that the board uses. */
export interface BoardElements {
  readonly board: HTMLElement;
  /** Moves and scales within the board; holds the nodes. */
  readonly plane: HTMLElement;
  readonly hint: HTMLElement;
  readonly count: HTMLElement;
}

/** Shows the document's nodes, and lets users create, drag, rename and delete them, and retry failed tasks. */
export class Board {
  readonly #open: OpenDocument;
  readonly #at: BoardElements;
  readonly #retry: Retry;
  readonly #undo: GestureUndo;
  readonly #cards = new Map<string, Card>();
  #view = { x: 0, y: 0, scale: 1 };
  #due = false;

  constructor(open: OpenDocument, elements: BoardElements, retry: Retry, undo: GestureUndo) {
    this.#open = open;
    this.#at = elements;
    this.#retry = retry;
    this.#undo = undo;
    this.#pan();
    elements.board.addEventListener("dblclick", (event) => {
      if (event.target === elements.board || event.target === elements.plane) this.add(this.under(event));
    });
    open.each((doc) => {
      doc.getMap("nodes").subscribe(() => this.#show());
      doc.getMap("tasks").subscribe(() => this.#show());
      this.#render();
    });
  }

  /** Adds a node and puts the caret into its label. */
  add(position = this.free()): void {
    const id = createNode(this.#open.doc, position, `Node ${this.#cards.size + 1}`);
    this.#render();
    this.#cards.get(id)?.edit();
  }

  /** Moves and scales the view so that every node is in it. */
  fit(): void {
    const nodes = [...this.#cards.values()].map(({ node, element }) => ({ ...node.position, element }));
    if (nodes.length === 0) return;
    const margin = 24;
    const left = Math.min(...nodes.map(({ x }) => x)) - margin;
    const top = Math.min(...nodes.map(({ y }) => y)) - margin;
    const right = Math.max(...nodes.map(({ x, element }) => x + element.offsetWidth)) + margin;
    const bottom = Math.max(...nodes.map(({ y, element }) => y + element.offsetHeight)) + margin;
    const { clientWidth, clientHeight } = this.#at.board;
    const scale = Math.max(0.1, Math.min(1, clientWidth / (right - left), clientHeight / (bottom - top)));
    this.#look({ x: -left * scale, y: -top * scale, scale });
  }

  /** Finds a place in view for a node of this height, a free one if there is one. */
  free(height = 60): Position {
    const { clientWidth, clientHeight } = this.#at.board;
    const { x, y, scale } = this.#view;
    const taken = [...this.#at.plane.children].map((card) => {
      const { offsetLeft, offsetTop, offsetHeight } = card as HTMLElement;
      return { x: offsetLeft, y: offsetTop, height: offsetHeight };
    });
    for (let top = 24; top + height < clientHeight / scale; top += 84) {
      for (let left = 24; left + 200 < clientWidth / scale; left += 214) {
        const place = rounded({ x: left - x / scale, y: top - y / scale });
        const isFree = taken.every(
          (other) => Math.abs(other.x - place.x) >= 200 || other.y + other.height + 8 <= place.y || place.y + height + 8 <= other.y,
        );
        if (isFree) return place;
      }
    }
    const turn = this.#cards.size % 12;
    return rounded({ x: 40 - x / scale + 18 * turn, y: 40 - y / scale + 18 * turn });
  }

  /** Shows a file that is on its way to the server; `letGo` is called if the user no longer wants it. */
  upload(name: string, at: Position, letGo: () => void): Showing {
    const card = new UploadCard(name, at, letGo);
    this.#at.plane.append(card.element);
    return card;
  }

  /** Returns the place on the plane of a node whose head is under the pointer. */
  under({ clientX, clientY }: MouseEvent): Position {
    const { left, top } = this.#at.board.getBoundingClientRect();
    const { x, y, scale } = this.#view;
    return rounded({ x: (clientX - left - x) / scale - 95, y: (clientY - top - y) / scale - 24 });
  }

  /** Renders the nodes in the next frame, which shows many changes together. A hidden page has no frames. */
  #show(): void {
    if (this.#due) return;
    this.#due = true;
    const render = (): void => {
      this.#due = false;
      this.#render();
    };
    if (document.hidden) setTimeout(render);
    else requestAnimationFrame(render);
  }

  #render(): void {
    const nodes = readNodes(this.#open.doc);
    const gone = new Set(this.#cards.keys());
    for (const node of nodes) {
      gone.delete(node.id);
      const card = this.#cards.get(node.id);
      if (card) {
        if (!isSame(card.node, node)) card.show(node);
      } else {
        const added = new Card(this.#open, node, { scale: () => this.#view.scale, retry: this.#retry, undo: this.#undo });
        this.#cards.set(node.id, added);
        this.#at.plane.append(added.element);
      }
    }
    for (const id of gone) {
      this.#cards.get(id)?.element.remove();
      this.#cards.delete(id);
    }
    this.#at.hint.hidden = nodes.length > 0;
    this.#at.count.textContent = nodes.length === 0 ? "" : nodes.length === 1 ? "1 node" : `${nodes.length} nodes`;
  }

  /** Moves the view when the user drags the background or turns the wheel; with Ctrl the wheel scales the view. */
  #pan(): void {
    const { board, plane } = this.#at;
    board.addEventListener("pointerdown", (event) => {
      if ((event.target !== board && event.target !== plane) || event.button !== 0) return;
      const { x, y } = this.#view;
      follow(board, event, (dx, dy) => this.#look({ ...this.#view, x: x + dx, y: y + dy }));
    });
    board.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const { x, y, scale } = this.#view;
        if (!event.ctrlKey) {
          this.#look({ x: x - event.deltaX, y: y - event.deltaY, scale });
          return;
        }
        const next = Math.min(2, Math.max(0.1, scale * Math.exp(-event.deltaY / 300)));
        const box = board.getBoundingClientRect();
        const [cx, cy] = [event.clientX - box.left, event.clientY - box.top];
        this.#look({ x: cx - ((cx - x) * next) / scale, y: cy - ((cy - y) * next) / scale, scale: next });
      },
      { passive: false },
    );
  }

  #look(view: { x: number; y: number; scale: number }): void {
    this.#view = view;
    const { board, plane } = this.#at;
    plane.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
    board.style.backgroundPosition = `${view.x}px ${view.y}px`;
    board.style.backgroundSize = `${24 * view.scale}px ${24 * view.scale}px`;
  }
}

/** The part of the board that a card needs. */
interface Surroundings {
  /** Returns the scale of the view. */
  readonly scale: () => number;
  readonly retry: Retry;
  readonly undo: GestureUndo;
}

/** A node on the board. */
class Card {
  readonly element = document.createElement("article");
  readonly #open: Holder;
  readonly #label = document.createElement("input");
  readonly #remove = document.createElement("button");
  readonly #status = document.createElement("span");
  readonly #error = document.createElement("p");
  readonly #retry = document.createElement("button");
  readonly #kept = document.createElement("p");
  /** Holds the picture, and its space while the picture is being made. */
  readonly #frame = document.createElement("div");
  #media: HTMLImageElement | HTMLVideoElement | undefined;
  #node: BoardNode;
  #dragged: Position | undefined;

  constructor(open: Holder, node: BoardNode, on: Surroundings) {
    this.#open = open;
    this.#node = node;
    this.element.className = "node";
    this.element.tabIndex = 0;
    this.element.dataset["testid"] = "node";
    this.element.dataset["id"] = node.id;
    this.#label.dataset["testid"] = "node-label";
    this.#label.setAttribute("aria-label", "Label");
    this.#remove.dataset["testid"] = "node-delete";
    this.#remove.type = "button";
    this.#remove.textContent = "×";
    this.#status.className = "node-status";
    this.#status.dataset["testid"] = "node-status";
    this.#error.className = "node-error";
    this.#error.dataset["testid"] = "node-error";
    this.#retry.className = "node-retry";
    this.#retry.dataset["testid"] = "node-retry";
    this.#retry.type = "button";
    this.#retry.textContent = "Try again";
    this.#frame.className = "node-frame";
    this.#kept.className = "node-kept";
    this.#kept.dataset["testid"] = "node-kept";
    const head = document.createElement("div");
    head.className = "node-head";
    head.append(this.#label, this.#remove);
    this.element.append(head, this.#status, this.#error, this.#retry, this.#frame, this.#kept);
    this.#listen(on);
    this.#retry.addEventListener("click", () => this.#tryAgain(on.retry));
    this.show(node);
  }

  get node(): BoardNode {
    return this.#node;
  }

  /** Puts the caret into the label. */
  edit(): void {
    this.#label.focus();
    this.#label.select();
  }

  /** Shows the node as it is now. */
  show(node: BoardNode): void {
    this.#node = node;
    const { x, y } = this.#dragged ?? node.position;
    this.element.style.left = `${x}px`;
    this.element.style.top = `${y}px`;
    this.element.setAttribute("aria-label", `Node ${node.label}`);
    this.#remove.setAttribute("aria-label", `Delete ${node.label}`);
    if (this.#label.value !== node.label) this.#label.value = node.label;
    // A prompt is usually longer than its line.
    this.#label.title = node.label;
    this.#status.hidden = node.status === undefined;
    this.#status.textContent = node.status === undefined ? "" : (STATUS_WORDS[node.status] ?? node.status);
    this.#status.dataset["status"] = node.status ?? "";
    const stopped = node.status === "failed" || node.status === "cancelled";
    this.#showError(stopped ? node.error : undefined);
    this.#retry.hidden = !stopped || (node.taskId === undefined && node.prompt === undefined);
    this.#showMedia(node);
    this.#kept.hidden = node.kept === undefined;
    this.#kept.textContent = node.kept === undefined ? "" : keptWords(node.kept);
  }

  #showError(error: string | undefined): void {
    this.#error.hidden = error === undefined;
    this.#error.textContent = error ?? "";
  }

  /** Retries the task. The document shows its progress; the card shows an error only if the retry is not possible. */
  async #tryAgain(retry: Retry): Promise<void> {
    this.#retry.disabled = true;
    await retry(this.#node).catch((error: unknown) => this.#showError(words(error)));
    this.#retry.disabled = false;
  }

  #showMedia({ status, src, label }: BoardNode): void {
    const busy = status === "pending" || status === "processing";
    const media = status === undefined || status === "completed" ? mediaOf(src, location.href) : undefined;
    this.#frame.hidden = !busy && !media;
    this.#frame.classList.toggle("busy", busy);
    if (media?.address !== this.#media?.dataset["src"]) {
      this.#media?.remove();
      this.#media = media && mediaElement(media);
      if (this.#media) this.#frame.append(this.#media);
    }
    if (this.#media instanceof HTMLImageElement) this.#media.alt = label;
    else this.#media?.setAttribute("aria-label", label);
  }

  #listen({ scale, undo }: Surroundings): void {
    this.#label.addEventListener("input", () => {
      undo.type(`label of ${this.#node.id}`, false);
      renameNode(this.#open.doc, this.#node.id, this.#label.value);
    });
    this.#label.addEventListener("blur", () => undo.endTyping());
    this.#remove.addEventListener("click", () => deleteNode(this.#open.doc, this.#node.id));
    this.element.addEventListener("keydown", (event) => {
      if (event.target === this.#label && event.key === "Enter") this.element.focus();
      if (event.target !== this.element) return;
      const { x, y } = this.#node.position;
      const steps: Record<string, Position> = {
        ArrowLeft: { x: x - STEP, y },
        ArrowRight: { x: x + STEP, y },
        ArrowUp: { x, y: y - STEP },
        ArrowDown: { x, y: y + STEP },
      };
      const step = steps[event.key];
      if (step) moveNode(this.#open.doc, this.#node.id, step);
      else if (event.key === "Delete" || event.key === "Backspace") deleteNode(this.#open.doc, this.#node.id);
      else if (event.key === "Enter") this.edit();
      else return;
      event.preventDefault();
    });
    this.element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || (event.target as Element).closest("input, button, video")) return;
      this.#drag(event, scale());
    });
  }

  #drag(event: PointerEvent, scale: number): void {
    const { x, y } = this.#node.position;
    let shared = 0;
    this.element.classList.add("dragged");
    follow(
      this.element,
      event,
      (dx, dy) => {
        this.#dragged = rounded({ x: x + dx / scale, y: y + dy / scale });
        this.show(this.#node);
        const now = performance.now();
        if (now - shared < DRAG_INTERVAL) return;
        shared = now;
        dragNode(this.#open.doc, this.#node.id, this.#dragged);
      },
      () => {
        const place = this.#dragged;
        this.#dragged = undefined;
        this.element.classList.remove("dragged");
        if (place) dropNode(this.#open.doc, this.#node.id, { x, y }, place);
      },
    );
  }
}

/** Calls `moved` with the pointer's distance from the place of `down`, until the user releases it. */
function follow(element: HTMLElement, down: PointerEvent, moved: (dx: number, dy: number) => void, done?: () => void): void {
  const over = new AbortController();
  const { signal } = over;
  element.setPointerCapture(down.pointerId);
  element.addEventListener("pointermove", (event) => moved(event.clientX - down.clientX, event.clientY - down.clientY), { signal });
  for (const name of ["pointerup", "pointercancel"] as const) {
    element.addEventListener(
      name,
      () => {
        over.abort();
        done?.();
      },
      { signal },
    );
  }
}

function isSame(a: BoardNode, b: BoardNode): boolean {
  return (
    a.position.x === b.position.x &&
    a.position.y === b.position.y &&
    a.label === b.label &&
    a.status === b.status &&
    a.src === b.src &&
    a.error === b.error &&
    a.taskId === b.taskId &&
    a.prompt === b.prompt &&
    isSameKept(a.kept, b.kept)
  );
}

function rounded({ x, y }: Position): Position {
  return { x: Math.round(x), y: Math.round(y) };
}

function mediaElement({ kind, address }: Media): HTMLImageElement | HTMLVideoElement {
  const media = document.createElement(kind === "video" ? "video" : "img");
  if (media instanceof HTMLVideoElement) {
    media.controls = media.muted = media.playsInline = true;
    media.preload = "metadata";
  } else {
    media.loading = "lazy";
  }
  media.dataset["src"] = address;
  media.dataset["testid"] = "node-media";
  // The address comes last, because the other attributes decide how it is loaded.
  media.src = address;
  return media;
}
