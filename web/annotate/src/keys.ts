// Keys of the editor, which people may change; the changes are kept in this browser.

export const COMMANDS = {
  back: ["a", "one frame back (Shift: 10)"],
  forward: ["d", "one frame forward (Shift: 10)"],
  hand: ["h", "next frame where a hand comes or goes, as the pipeline saw it (Shift: the one before)"],
  previous: ["q", "previous action"],
  next: ["e", "next action"],
  start: ["s", "the action starts here: first frame with the hand in view"],
  contact: ["c", "first contact here"],
  release: ["r", "last contact here"],
  end: ["f", "the action ends here: last frame with the hand in view"],
  add: ["n", "new action that starts here, and ends where the hand leaves"],
  template: ["t", "search a template"],
  place: ["p", "put the hand's pose on the surface under the pointer"],
  gripper: ["g", "gripper open or closed"],
  remove: ["Delete", "take the pose of this frame away"],
  interpolate: ["i", "straight line between the poses set by hand around this frame"],
  smooth: ["m", "smooth what nobody set by hand"],
  mode: ["w", "gizmo: move or turn"],
  space: ["x", "gizmo: the hand's or the camera's axes"],
  view: ["0", "look from the camera"],
  play: [" ", "play"],
  accept: ["Enter", "submit, or pass the audit"],
  reject: ["b", "give back with a reason"],
  undo: ["z", "undo (Ctrl)"],
  redo: ["y", "redo (Ctrl)"],
  help: ["?", "this list"],
} as const;
export type Command = keyof typeof COMMANDS;

const STORED = "stvla-annotate:keys";

export function keys(): Record<Command, string> {
  const own = JSON.parse(localStorage.getItem(STORED) ?? "{}");
  return Object.fromEntries(Object.entries(COMMANDS).map(([name, [key]]) => [name, own[name] ?? key])) as Record<Command, string>;
}

export function setKey(command: Command, key: string): void {
  localStorage.setItem(STORED, JSON.stringify({ ...JSON.parse(localStorage.getItem(STORED) ?? "{}"), [command]: key }));
}

export function commandOf(event: KeyboardEvent): Command | null {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const found = Object.entries(keys()).find(([, wanted]) => wanted === key)?.[0] as Command | undefined;
  const controlled = found === "undo" || found === "redo";
  return found && (event.ctrlKey || event.metaKey) === controlled && !event.altKey ? found : null;
}
