import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Document, Newest } from "./api";
import { type Conflict, Journal, Saver } from "./saver";

const first: Document = { instruction: "one", objects: [], actions: [] };
let stored: Map<string, string>;
let server: { version: number; document: Document; operations: Set<string> };
let answers: ("lost" | "down" | "full")[]; // of the next requests
let seen: { statuses: string[]; conflicts: Conflict[]; merged: Newest[] };

const journal = (): Journal =>
  new Journal(7, { getItem: (key) => stored.get(key) ?? null, setItem: (key, value) => void stored.set(key, value), removeItem: (key) => void stored.delete(key) });
const newest = (): Newest => ({ ...server, state: "open", reason: null, annotator: null, by: "Bo", at: 0, fault: null }) as unknown as Newest;
const saver = (): Saver =>
  new Saver(7, { version: server.version, document: server.document }, journal(), {
    status: (status) => seen.statuses.push(status.state), saved: () => {}, merged: (now) => seen.merged.push(now), conflict: (one) => seen.conflicts.push(one),
  }); // prettier-ignore

beforeEach(() => {
  vi.useFakeTimers();
  stored = new Map();
  server = { version: 1, document: first, operations: new Set() };
  answers = [];
  seen = { statuses: [], conflicts: [], merged: [] };
  vi.stubGlobal("window", globalThis);
  vi.stubGlobal("fetch", async (_: string, options: { body: string }) => {
    const how = answers.shift();
    if (how === "down") throw new TypeError("no network");
    if (how === "full") return new Response(JSON.stringify({ error: "Nothing was saved" }), { status: 507 });
    const { version, operation, document } = JSON.parse(options.body);
    if (!server.operations.has(operation)) {
      if (version !== server.version) return new Response(JSON.stringify({ error: "stale", newest: newest() }), { status: 409 });
      server = { version: version + 1, document, operations: server.operations.add(operation) };
    }
    if (how === "lost") throw new TypeError("the answer got lost");
    return new Response(JSON.stringify(newest()));
  });
});
afterEach(() => vi.unstubAllGlobals());

test("saved within a second of the last change, and only then forgotten here", async () => {
  const one = saver();
  one.change({ ...first, instruction: "two" });
  one.change({ ...first, instruction: "three" });
  expect(journal().read()?.document.instruction).toBe("three");
  await vi.advanceTimersByTimeAsync(1000);
  expect([server.version, server.document.instruction, journal().read()]).toEqual([2, "three", null]);
  expect(seen.statuses.at(-1)).toBe("saved");
});

test.each(["down", "full", "lost"] as const)("a server that is %s gets the change once it is back", async (how) => {
  answers = [how, how];
  saver().change({ ...first, instruction: "two" });
  await vi.advanceTimersByTimeAsync(1000);
  expect([seen.statuses.at(-1), journal().read()?.document.instruction]).toEqual(["failed", "two"]);
  await vi.advanceTimersByTimeAsync(10_000);
  expect([server.version, server.document.instruction, journal().read()]).toEqual([2, "two", null]);
});

test("a new page sends what the crashed one left behind", async () => {
  answers = ["down"];
  const crashed = saver();
  crashed.change({ ...first, instruction: "two" });
  crashed.close();
  await vi.advanceTimersByTimeAsync(5000);
  expect(server.version).toBe(1);
  expect(saver().replay()?.instruction).toBe("two");
  await vi.advanceTimersByTimeAsync(1000);
  expect([server.version, server.document.instruction, journal().read()]).toEqual([2, "two", null]);
});

test("another's change is put together with mine, or asked about", async () => {
  const one = saver();
  server = { ...server, version: 2, document: { ...first, objects: [{ id: "cup", name: "cup", category: "cup" }] } };
  one.change({ ...first, instruction: "mine" });
  await vi.advanceTimersByTimeAsync(3000);
  expect(server.document).toEqual({ instruction: "mine", objects: [{ id: "cup", name: "cup", category: "cup" }], actions: [] });
  expect(seen.merged).toHaveLength(1);
  server = { ...server, version: 9, document: { ...server.document, instruction: "theirs" } };
  one.change({ ...server.document, instruction: "mine again" });
  await vi.advanceTimersByTimeAsync(3000);
  expect(seen.conflicts.map((found) => found.fields)).toEqual([["instruction"]]);
  expect(server.document.instruction).toBe("theirs");
  expect(journal().read()?.document.instruction).toBe("mine again");
  one.resolve(seen.conflicts[0]!.mine, seen.conflicts[0]!.theirs);
  await vi.advanceTimersByTimeAsync(1000);
  expect([server.version, server.document.instruction]).toEqual([10, "mine again"]);
});
