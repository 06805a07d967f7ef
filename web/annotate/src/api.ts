// What the server says and takes; see src/stvla_ros/annotate/server.py.

export type Vector = [number, number, number];
export type Quaternion = [number, number, number, number];
export type Slots = Record<string, string | number | string[]>;

export interface Waypoint {
  frame: number;
  xyz_m: Vector; // optical frame: x right, y down, z forward
  quat_xyzw: Quaternion;
  gripper: 0 | 1; // 0 open, 1 closed
  width_m: number;
  sigma_m: number;
  source: "manual" | "auto" | "interpolated" | "object";
}

export interface Action {
  id: string;
  template: string;
  slots: Slots;
  hand: "left" | "right";
  start_frame: number | null;
  contact_frame: number | null;
  release_frame: number | null;
  end_frame: number | null;
  trajectory: Waypoint[];
  motion?: Record<string, number | string | null>;
  [more: string]: unknown;
}

export interface Thing {
  id: string;
  name: string;
  category: string;
  [more: string]: unknown;
}

export interface Document {
  instruction: string;
  objects: Thing[];
  actions: Action[];
}

export interface Newest {
  version: number;
  state: string;
  reason: string | null;
  annotator: string | null;
  by: string;
  at: number;
  document: Document;
  fault: string | null;
}

/** How far an annotation is from an auditor's own, in frames and mm. */
export interface Distances {
  tolerance: { frames: number; contact_mm: number; path_mm: number };
  actions: {
    first: string; // id of the action
    frames: [start: number, contact: number, release: number, end: number];
    contact_mm: [contact: number, release: number] | null;
    path_max_mm: number | null;
    same_sentence: boolean;
    would_pass: boolean;
  }[];
  fault: string | null; // what is too far off
}

export interface Weak {
  route: string;
  reasons: string[];
  frames: [number, number][];
}

export interface Video extends Newest {
  id: number;
  name: string;
  frames: number;
  fps: number;
  size_px: [number, number];
  K: [number, number, number, number]; // fx, fy, cx, cy; the centre of the first pixel is (0, 0)
  depth_unit_m: number;
  weak: Record<string, Weak>;
  hands: [first: number, last: number][]; // where the pipeline saw one
}

export interface Row {
  id: number;
  name: string;
  task: number;
  version: number;
  state: string;
  reason: string | null;
  annotator: string | null;
  actions: number;
  to_person: number;
}

export interface Listed {
  videos: Row[];
  next: number | null;
  counts: Record<string, number>;
}

export interface SlotKind {
  kind: "Thing" | "Things" | "Choice" | "Whole" | "Words";
  values?: string[];
  least?: number;
  most?: number;
}

export interface Form {
  words: string;
  slots: Record<string, SlotKind>;
  implied: Record<string, string>;
}

export interface Template {
  id: string;
  motion: string[];
  forms: Form[];
}

export interface Me {
  name: string;
  role: "annotator" | "auditor" | "acceptor" | "admin";
  alone: boolean;
  templates: Template[];
}

export interface Plan {
  batch: number;
  sample: number;
  allowed: number;
  wanted: number;
  confidence: number;
  usual: number | null;
  accepts: Record<string, number>;
}

export interface Batch {
  id: number;
  at: number;
  by: string;
  plan: Plan;
  verdict: string | null;
  secret: string | null;
  sample: { video: number; name: string; action: string; good: number | null; reason: string | null; by: string | null }[];
}

export class ApiError extends Error {
  constructor(
    readonly status: number, // 0: no answer
    message: string,
    readonly newest?: Newest,
  ) {
    super(message);
  }
}

export async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(`api/${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
    });
  } catch {
    throw new ApiError(0, "The server does not answer.");
  }
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new ApiError(answer.status, value.error ?? `The server answered ${answer.status}.`, value.newest);
  return value as T;
}

export const imageUrl = (video: number, frame: number): string => `api/videos/${video}/frames/${frame}.jpg`;

export async function depthOf(video: number, frame: number): Promise<Uint16Array> {
  const answer = await fetch(`api/videos/${video}/depth/${frame}`);
  if (!answer.ok) throw new ApiError(answer.status, (await answer.json()).error);
  return new Uint16Array(await answer.arrayBuffer());
}
