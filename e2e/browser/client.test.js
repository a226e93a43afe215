// The TypeScript client in a script, against the real server.
import assert from "node:assert/strict";
import test from "node:test";
import { LoroDoc } from "loro-crdt";
import { connect } from "loro-sync-client-web";
import { WebSocket } from "ws";
import { server, within } from "./browser.js";

const MIB = 1024 * 1024;

/** Reads the server's copy of a project into a new document. */
async function copy(project) {
  const response = await fetch(new URL(`/sync/${project}`, server));
  assert.equal(response.status, 200);
  const doc = new LoroDoc();
  doc.import(new Uint8Array(await response.arrayBuffer()));
  return doc;
}

/** Opens a document of a new project, and keeps it in sync with the server. */
async function joined(t) {
  const project = `client-${crypto.randomUUID()}`;
  const doc = new LoroDoc();
  const connection = connect(new URL(`/sync/${project}`, server), doc, { WebSocket });
  t.after(() => connection.close());
  await within("the state", connection.whenSynced());
  return { project, doc, connection };
}

test("I imported a file, and it is stored once the client calls it saved", async (t) => {
  const { project, doc, connection } = await joined(t);
  const file = new LoroDoc();
  file.getText("text").insert(0, "from the file");
  doc.import(file.export({ mode: "snapshot" }));
  connection.resync();
  await within("saved", connection.whenSaved());
  connection.close();
  assert.equal((await copy(project)).getText("text").toString(), "from the file");
});

test("I put a film into the document: everything else is saved, and the error names what is not", async (t) => {
  const { project, doc, connection } = await joined(t);
  doc.getText("text").insert(0, "before");
  doc.commit();
  doc.getMap("root").set("image", "x".repeat(17 * MIB));
  await assert.rejects(within("rejected", connection.whenSaved()), /"image" in the map "root" is too large to be saved/);
  assert.equal(connection.status.state, "rejected");
  assert.equal(connection.status.saved.all, false);
  const stored = await copy(project);
  assert.equal(stored.getText("text").toString(), "before");
  assert.equal(stored.getMap("root").get("image"), undefined);
});
