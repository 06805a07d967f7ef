// What an annotation is made of, without a browser: projection, paths, sentences, merging of two people's changes.
import type { Action, Document, Form, Quaternion, Slots, Template, Thing, Vector, Video, Waypoint } from "./api";

export const FRAMES = ["start_frame", "contact_frame", "release_frame", "end_frame"] as const;
export type FrameKey = (typeof FRAMES)[number];

type Camera = Pick<Video, "K" | "size_px" | "depth_unit_m">;

/** Pixel of a position in the camera's frame. */
export function project({ K: [fx, fy, cx, cy] }: Pick<Camera, "K">, [x, y, z]: Vector): [number, number] {
  return [(fx * x) / z + cx, (fy * y) / z + cy];
}

/** Position of the surface at a pixel; null where depth is unknown. */
export function surface(camera: Camera, depth: Uint16Array, u: number, v: number): Vector | null {
  const [width, height] = camera.size_px;
  const [column, row] = [Math.round(u), Math.round(v)];
  if (column < 0 || row < 0 || column >= width || row >= height) return null;
  const z = (depth[row * width + column] ?? 0) * camera.depth_unit_m;
  const [fx, fy, cx, cy] = camera.K;
  return z > 0 ? [((u - cx) * z) / fx, ((v - cy) * z) / fy, z] : null;
}

export function at(action: Action, frame: number): Waypoint | undefined {
  return action.trajectory.find((point) => point.frame === frame);
}

/** A path with one point replaced or added, in the order of frames. */
export function placed(path: Waypoint[], point: Waypoint): Waypoint[] {
  return [...path.filter((other) => other.frame !== point.frame), point].sort((a, b) => a.frame - b.frame);
}

/** A new point by hand: turned and opened like its neighbour, closed while something is held. */
export function pointAt(action: Action, frame: number, xyz_m: Vector): Waypoint {
  const near = [...action.trajectory].sort((a, b) => Math.abs(a.frame - frame) - Math.abs(b.frame - frame))[0];
  const held = action.contact_frame !== null && frame >= action.contact_frame && frame < (action.release_frame ?? Infinity);
  return {
    frame, xyz_m, quat_xyzw: near?.quat_xyzw ?? [0, 0, 0, 1], gripper: at(action, frame)?.gripper ?? (held ? 1 : 0),
    width_m: near?.width_m ?? 0.04, sigma_m: 0.003, source: "manual",
  }; // prettier-ignore
}

const mix = (a: Vector, b: Vector, t: number): Vector => [0, 1, 2].map((i) => a[i]! + t * (b[i]! - a[i]!)) as Vector;

export function slerp(a: Quaternion, b: Quaternion, t: number): Quaternion {
  let cosine = a.reduce((sum, value, i) => sum + value * b[i]!, 0);
  const sign = cosine < 0 ? -1 : 1;
  cosine = Math.min(Math.abs(cosine), 1);
  const angle = Math.acos(cosine);
  const [wa, wb] = angle < 1e-4 ? [1 - t, t] : [Math.sin((1 - t) * angle) / Math.sin(angle), Math.sin(t * angle) / Math.sin(angle)];
  const out = a.map((value, i) => wa * value + wb * sign * b[i]!);
  const length = Math.hypot(...out);
  return out.map((value) => value / length) as Quaternion;
}

/** Between the points set by hand around a frame, everything else on the straight line; a point for every frame. */
export function interpolated(action: Action, frame: number): Waypoint[] {
  const manual = action.trajectory.filter((point) => point.source === "manual");
  const before = manual.filter((point) => point.frame <= frame).at(-1);
  const after = manual.find((point) => point.frame > (before?.frame ?? Infinity));
  if (!before || !after) return action.trajectory;
  const between: Waypoint[] = [];
  for (let n = before.frame + 1; n < after.frame; n++) {
    const t = (n - before.frame) / (after.frame - before.frame);
    between.push({
      ...(at(action, n) ?? before), frame: n, xyz_m: mix(before.xyz_m, after.xyz_m, t),
      quat_xyzw: slerp(before.quat_xyzw, after.quat_xyzw, t), width_m: before.width_m + t * (after.width_m - before.width_m),
      sigma_m: Math.max(before.sigma_m, after.sigma_m), source: "interpolated",
    }); // prettier-ignore
  }
  const kept = action.trajectory.filter((point) => point.frame <= before.frame || point.frame >= after.frame);
  return [...kept, ...between].sort((a, b) => a.frame - b.frame);
}

/** Points that nobody set by hand, each moved to the mean of itself and its neighbours (1, 2, 1). */
export function smoothed(path: Waypoint[]): Waypoint[] {
  return path.map((point, i) => {
    const [a, b] = [path[i - 1], path[i + 1]];
    if (point.source === "manual" || !a || !b) return point;
    return { ...point, xyz_m: mix(point.xyz_m, mix(a.xyz_m, b.xyz_m, 0.5), 0.5) };
  });
}

export type Span = [first: number, last: number];

/** The next frame, or the one before, at which a hand comes into view or leaves it; the same frame where there is none. */
export function handChange(hands: Span[], frame: number, later: boolean): number {
  const changes = hands.flat().filter((n) => (later ? n > frame : n < frame));
  return changes.length ? (later ? Math.min(...changes) : Math.max(...changes)) : frame;
}

/** An action that starts at a frame; where a hand is in view, it lasts as long as the hand does. */
export function newAction(document: Document, frame: number, hands: Span[] = []): Action {
  let n = document.actions.length + 1;
  while (document.actions.some((action) => action.id === `a${n}`)) n++;
  return {
    id: `a${n}`, template: "", slots: {}, hand: "right", start_frame: frame, contact_frame: null, release_frame: null,
    end_frame: hands.find(([first, last]) => first <= frame && frame < last)?.[1] ?? null, trajectory: [], motion: {},
  }; // prettier-ignore
}

/** An action with one of its frames set; points outside of start and end are left out. */
export function withFrame(action: Action, key: FrameKey, frame: number): Action {
  const next = { ...action, [key]: frame };
  const [first, last] = [next.start_frame ?? -Infinity, next.end_frame ?? Infinity];
  return { ...next, trajectory: next.trajectory.filter((point) => point.frame >= first && point.frame <= last) };
}

export function formOf(templates: Template[], action: Action): Form | undefined {
  const keys = Object.keys(action.slots).sort().join();
  return templates
    .find((template) => template.id === action.template)
    ?.forms.find(
      (form) =>
        Object.keys({ ...form.slots, ...form.implied }).sort().join() === keys &&
        Object.entries(form.implied).every(([name, value]) => action.slots[name] === value),
    ); // prettier-ignore
}

/** Slots for another form; what fits is kept. */
export function slotsFor(form: Form, old: Slots): Slots {
  const kept = Object.entries(form.slots).map(([name, slot]) => [
    name, old[name] ?? (slot.kind === "Things" ? [] : slot.kind === "Whole" ? slot.least! : slot.kind === "Choice" ? slot.values![0]! : ""),
  ]); // prettier-ignore
  return { ...Object.fromEntries(kept), ...form.implied };
}

export function sentenceOf(form: Form, slots: Slots, objects: Thing[]): string {
  const name = (id: string): string => objects.find((thing) => thing.id === id)?.name ?? "…";
  const words = form.words.replace(/\{(\w+)\}/g, (_, key: string) => {
    const value = slots[key];
    const kind = form.slots[key]?.kind;
    if (kind === "Thing") return name(String(value));
    if (kind === "Things") return Array.isArray(value) && value.length ? value.map(name).join(" and the ") : "…";
    return value === "" || value === undefined ? "…" : String(value);
  });
  return `${words[0]!.toUpperCase()}${words.slice(1)}.`;
}

export interface Merged<T> {
  value: T;
  conflicts: string[]; // fields that both have changed differently; `mine` was kept
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const keyOf = (value: unknown): string | undefined =>
  isRecord(value) ? (value.id ?? value.frame)?.toString() : undefined;
const keyed = (value: unknown): value is Record<string, unknown>[] =>
  Array.isArray(value) && value.every((item) => keyOf(item) !== undefined);

/** Two changes of one value, put together field by field; lists of things with an id or a frame, entry by entry. */
export function merge<T>(base: T, mine: T, theirs: T, where = ""): Merged<T> {
  if (same(mine, theirs) || same(base, theirs)) return { value: mine, conflicts: [] };
  if (same(base, mine)) return { value: theirs, conflicts: [] };
  const lists = keyed(mine) && keyed(theirs) && (keyed(base) || base === undefined);
  if (!lists && !(isRecord(mine) && isRecord(theirs))) return { value: mine, conflicts: [where] };
  const entries = (value: unknown): [string, unknown][] =>
    Array.isArray(value) ? value.map((item) => [keyOf(item)!, item]) : Object.entries(isRecord(value) ? value : {});
  const [b, m, t] = [new Map(entries(base)), new Map(entries(mine)), new Map(entries(theirs))];
  const conflicts: string[] = [];
  const out: [string, unknown][] = [];
  for (const key of new Set([...m.keys(), ...t.keys()])) {
    const merged = merge(b.get(key), m.get(key), t.get(key), where ? `${where}.${key}` : key);
    conflicts.push(...merged.conflicts);
    if (merged.value !== undefined) out.push([key, merged.value]);
  }
  const value = lists ? out.map(([, item]) => item) : Object.fromEntries(out);
  if (lists) (value as { frame?: number }[]).sort((x, y) => (x.frame ?? 0) - (y.frame ?? 0)); // those with an id keep their order
  return { value: value as T, conflicts };
}
