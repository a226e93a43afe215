import { LoroDoc } from "loro-crdt";
import init from "loro-crdt/web/loro_wasm.js";
import wasm from "loro-crdt/web/loro_wasm_bg.wasm";
import { connect, type Connection } from "loro-sync-client-web";
import { Board, PICTURE_HEIGHT } from "./board.js";
import { takeFiles } from "./dropping.js";
import { showFaults } from "./faults.js";
import { Generator } from "./generate.js";
import { ACCOUNT, DRAG } from "./nodes.js";
import { OpenDocument } from "./open.js";
import { projectOf } from "./project.js";
import { Copy, offerCopy } from "./rejected.js";
import { showStatus } from "./status.js";
import { bindText } from "./text.js";
import { GestureUndo } from "./undo.js";
import { Uploads } from "./uploads.js";
import { words } from "./words.js";

declare global {
  /** The open document and its connection, for the developer tools and the tests. */
  var loro: { readonly doc: LoroDoc; readonly connection: Connection } | undefined;
}

function element<Type extends HTMLElement = HTMLElement>(id: string): Type {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as Type;
}

const project = projectOf(location);
element<HTMLInputElement>("project").value = project ?? "";
element<HTMLFormElement>("project-form").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = element<HTMLInputElement>("project").value;
});
element<HTMLInputElement>("project").addEventListener("change", () => element<HTMLFormElement>("project-form").requestSubmit());
addEventListener("hashchange", () => location.reload());

try {
  if (project === undefined) throw new Error("A project's name has 1 to 128 letters, digits, - and _.");
  await open(project);
} catch (error) {
  element("connection").textContent = "Closed";
  element("connection").dataset["state"] = "closed";
  element("error").textContent = words(error);
  element("error").hidden = false;
  throw error;
}

async function open(project: string): Promise<void> {
  document.title = `${project} · Loro Sync`;
  await init({ module_or_path: wasm });
  const opened = new OpenDocument(new LoroDoc());
  const undo = new GestureUndo(opened.doc, [ACCOUNT, DRAG]);
  const room = `sync/${project}`;
  const connection = connect(room, opened.doc, {
    replaceDocument: (doc) => {
      undo.follow(doc);
      opened.replace(doc);
    },
  });
  opened.each((doc) => (globalThis.loro = { doc, connection }));

  showStatus(connection, {
    connection: element("connection"),
    saved: element("saved"),
    peers: element("peers"),
    error: element("error"),
  });
  const copy = new Copy(opened);
  offerCopy(connection, copy, project, {
    notice: element("rejected"),
    reason: element("rejected-reason"),
    download: element("download"),
    reload: element("reload"),
  });
  bindText(element<HTMLTextAreaElement>("text"), opened, undo);
  const generator = new Generator(opened, { project, saved: () => connection.whenSaved() });
  const board = new Board(
    opened,
    { board: element("board"), plane: element("plane"), hint: element("hint"), count: element("count") },
    (node) => generator.retry(node),
    undo,
  );
  const uploads = new Uploads(opened, { room, show: (name, at, letGo) => board.upload(name, at, letGo) });
  takeFiles(
    { board: element("board"), error: element("error") },
    (files, at) => uploads.add(files, at ? board.under(at) : board.free(PICTURE_HEIGHT)),
    words,
  );
  element("add-node").addEventListener("click", () => board.add());
  element("fit").addEventListener("click", () => board.fit());
  offerGeneration(generator, board);
  offerUndo(opened, undo);
  showFaults(element("error"));
  // The user may have signed in with another tab.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && connection.status.state === "denied") connection.reconnect();
  });
  addEventListener("beforeunload", (event) => {
    const { state, saved } = connection.status;
    const isAtRisk = saved.unsaved > 0 || state === "rejected";
    if ((isAtRisk && !copy.isCurrent()) || uploads.areUnsettled) event.preventDefault();
  });
}

function offerGeneration(generator: Generator, board: Board): void {
  const prompt = element<HTMLInputElement>("prompt");
  const form = element<HTMLFormElement>("generate-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = prompt.value.trim();
    // An empty field that is required would be marked as an error of the user, unless the form is new.
    form.reset();
    if (wanted !== "") void generator.generate(board.free(PICTURE_HEIGHT), wanted);
  });
}

/** Offers Loro's undo, which takes back only this user's edits. The browser's own would take back other users' edits, too. */
function offerUndo(opened: OpenDocument, undo: GestureUndo): void {
  const show = (): void => {
    element<HTMLButtonElement>("undo").disabled = !undo.canUndo;
    element<HTMLButtonElement>("redo").disabled = !undo.canRedo;
  };
  const act = (back: boolean): void => {
    if (back) undo.undo();
    else undo.redo();
    show();
  };
  element("undo").addEventListener("click", () => act(true));
  element("redo").addEventListener("click", () => act(false));
  addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    // Text in a form is not in the document, so the browser's own undo applies.
    const inForm = event.target instanceof Element && event.target.closest("form") !== null;
    if (!(event.ctrlKey || event.metaKey) || event.altKey || inForm) return;
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    act(key === "z" && !event.shiftKey);
  });
  opened.each((doc) => {
    doc.subscribe(show);
    show();
  });
}
