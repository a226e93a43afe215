import assert from "node:assert/strict";
import { test } from "node:test";
import { nameIn, projectOf } from "../src/project.js";

test("the address names the project", () => {
  const cases: [string, string, string | undefined][] = [
    ["", "", "demo"],
    ["#", "", "demo"],
    ["#a-B_9", "", "a-B_9"],
    ["", "?project=p", "p"],
    ["#h", "?project=p", "h"],
    ["#no/way", "", undefined],
    ["#a%20b", "", undefined],
    [`#${"x".repeat(128)}`, "", "x".repeat(128)],
    [`#${"x".repeat(129)}`, "", undefined],
  ];
  for (const [hash, search, project] of cases) assert.equal(projectOf({ hash, search }), project, hash + search);
});

test("a name that no project can have is shown as it was written", () => {
  for (const [hash, name] of [
    ["#no/way", "no/way"],
    ["#a%20b", "a b"],
    ["#100%", "100%"],
    ["", "demo"],
  ] as const) {
    assert.equal(nameIn({ hash, search: "" }), name);
  }
});
