import { describe, expect, test } from "vitest";
import type { Action, Document, Waypoint } from "./api";
import { formOf, handChange, interpolated, merge, newAction, pointAt, project, sentenceOf, slerp, slotsFor, smoothed, surface, withFrame } from "./model";

const camera = { K: [600, 610, 320, 240] as [number, number, number, number], size_px: [640, 480] as [number, number], depth_unit_m: 0.001 };
const point = (frame: number, x: number, source: Waypoint["source"]): Waypoint => ({
  frame, xyz_m: [x, 0, 0.8], quat_xyzw: [0, 0, 0, 1], gripper: 0, width_m: 0.04, sigma_m: 0.01, source,
}); // prettier-ignore
const action = (fields: Partial<Action>): Action => ({ ...newAction({ instruction: "", objects: [], actions: [] }, 5), ...fields });

test("a surface is projected to its pixel", () => {
  const depth = new Uint16Array(640 * 480);
  depth[100 * 640 + 200] = 900;
  const found = surface(camera, depth, 200.3, 99.8)!;
  expect(found[2]).toBeCloseTo(0.9);
  expect(project(camera, found)[0]).toBeCloseTo(200.3);
  expect(project(camera, found)[1]).toBeCloseTo(99.8);
  expect(project(camera, [0.1, -0.05, 0.8])).toEqual([395, 201.875]); // as OpenCV's projectPoints in test_page.py
  expect(surface(camera, depth, 10, 10)).toBeNull();
  expect(surface(camera, depth, -3, 10)).toBeNull();
});

test("interpolation keeps what was set by hand and fills every frame between", () => {
  const path = [point(0, 0, "auto"), point(2, 0, "manual"), point(3, 9, "auto"), point(6, 4, "manual"), point(8, 7, "auto")];
  const filled = interpolated(action({ trajectory: path }), 4);
  expect(filled.map((one) => one.frame)).toEqual([0, 2, 3, 4, 5, 6, 8]);
  expect(filled.map((one) => one.xyz_m[0])).toEqual([0, 0, 1, 2, 3, 4, 7]);
  expect(filled[2]!.source).toBe("interpolated");
  expect(interpolated(action({ trajectory: path }), 7)).toBe(path);
});

test("smoothing moves only what nobody set by hand", () => {
  const path = [point(0, 0, "auto"), point(1, 4, "auto"), point(2, 0, "manual"), point(3, 0, "auto")];
  expect(smoothed(path).map((one) => one.xyz_m[0])).toEqual([0, 2, 0, 0]);
});

test("a half turn is halved, on the shorter way", () => {
  const half = slerp([0, 0, 0, 1], [0, 0, -1, 0], 0.5);
  expect(Math.abs(half[3])).toBeCloseTo(Math.SQRT1_2);
  expect(slerp([0, 0, 0, 1], [0, 0, 0, -1], 0.3)).toEqual([0, 0, 0, 1]);
});

test("a new pose is closed while something is held, and points outside of an action go", () => {
  const held = action({ start_frame: 0, contact_frame: 3, release_frame: 6, end_frame: 9, trajectory: [point(4, 0, "auto"), point(9, 0, "auto")] });
  expect([2, 3, 5, 6].map((frame) => pointAt(held, frame, [0, 0, 1]).gripper)).toEqual([0, 1, 1, 0]);
  expect(withFrame(held, "end_frame", 8).trajectory.map((one) => one.frame)).toEqual([4]);
});

test("sentences from slots", () => {
  const form = { words: "put the {object} on the {support}", slots: { object: { kind: "Thing" as const }, support: { kind: "Thing" as const } }, implied: {} };
  const templates = [{ id: "put_on", motion: [], forms: [form] }];
  const slots = slotsFor(form, { object: "cup_1", more: "x" });
  expect(slots).toEqual({ object: "cup_1", support: "" });
  expect(sentenceOf(form, slots, [{ id: "cup_1", name: "red cup", category: "cup" }])).toBe("Put the red cup on the ….");
  expect(formOf(templates, action({ template: "put_on", slots }))).toBe(form);
  expect(formOf(templates, action({ template: "put_on", slots: {} }))).toBeUndefined();
});

describe("two people's changes", () => {
  const base: Document = { instruction: "Tidy up.", objects: [], actions: [action({ id: "a1" }), action({ id: "a2" })] };
  const [a1, a2] = base.actions as [Action, Action];

  test("of different actions and fields are put together", () => {
    const mine = { ...base, actions: [{ ...a1, contact_frame: 7 }, a2] };
    const theirs = { ...base, instruction: "Clear the table.", actions: [{ ...a1, release_frame: 9 }, { ...a2, hand: "left" as const }, action({ id: "a3" })] };
    const { value, conflicts } = merge(base, mine, theirs);
    expect(conflicts).toEqual([]);
    expect(value.instruction).toBe("Clear the table.");
    expect(value.actions.map((one) => one.id)).toEqual(["a1", "a2", "a3"]);
    expect(value.actions[0]).toMatchObject({ contact_frame: 7, release_frame: 9 });
    expect(value.actions[1]!.hand).toBe("left");
  });
  test("of the same field are asked about", () => {
    const mine = { ...base, actions: [{ ...a1, contact_frame: 7 }, a2] };
    const theirs = { ...base, actions: [{ ...a1, contact_frame: 8 }, a2] };
    expect(merge(base, mine, theirs)).toEqual({ value: mine, conflicts: ["actions.a1.contact_frame"] });
  });
  test("of paths are put together frame by frame", () => {
    const mine = { ...base, actions: [{ ...a1, trajectory: [point(4, 1, "manual")] }, a2] };
    const theirs = { ...base, actions: [{ ...a1, trajectory: [point(2, 1, "manual")] }, a2] };
    const { value, conflicts } = merge(base, mine, theirs);
    expect([conflicts, value.actions[0]!.trajectory.map((one) => one.frame)]).toEqual([[], [2, 4]]);
  });
  test("a removal against a change is asked about, alone it is done", () => {
    const removed = { ...base, actions: [a2] };
    expect(merge(base, removed, base).value.actions).toEqual([a2]);
    expect(merge(base, removed, { ...base, actions: [{ ...a1, hand: "left" as const }, a2] }).conflicts).toEqual(["actions.a1"]);
  });
});

describe("hands that the pipeline saw", () => {
  const hands: [number, number][] = [[5, 20], [30, 42]];
  test("are gone to, forward and back, and nowhere from the last", () => {
    expect([0, 5, 20, 42].map((n) => handChange(hands, n, true))).toEqual([5, 20, 30, 42]);
    expect([50, 30, 5].map((n) => handChange(hands, n, false))).toEqual([42, 20, 5]);
    expect(handChange([], 7, true)).toBe(7);
  });
  test("end a new action that starts with them", () => {
    const empty = { instruction: "", objects: [], actions: [] };
    expect([5, 12, 20, 25].map((n) => newAction(empty, n, hands).end_frame)).toEqual([20, 20, null, null]);
  });
});
