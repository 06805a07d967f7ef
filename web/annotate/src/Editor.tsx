import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { type Action, ApiError, call, depthOf, type Distances, type Document, imageUrl, type Me, type Newest, type Quaternion, type Vector, type Video } from "./api";
import { Audit } from "./Audit";
import { Cloud } from "./Cloud";
import { Details } from "./Details";
import { type Command, commandOf, COMMANDS, keys, setKey } from "./keys";
import { at, type FrameKey, handChange, interpolated, newAction, placed, pointAt, project, smoothed, surface, withFrame } from "./model";
import { type Conflict, Journal, Saver, type Status } from "./saver";
import { Preview } from "./Preview";
import { Timeline } from "./Timeline";

const NUDGES: Record<string, [number, number]> = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, -1], ArrowDown: [1, 1] };
const STEPS = 200; // of undo

/** One video: its frames, actions and the hand's path, in the image and in 3D. */
export function Editor({ me, id, action: first }: { me: Me; id: number; action?: string | undefined }) {
  const [video, setVideo] = useState<Video | null>(null);
  const [error, setError] = useState("");
  useEffect(() => void call<Video>("GET", `videos/${id}`).then(setVideo, (wrong: Error) => setError(wrong.message)), [id]);
  if (error) return <p className="error">{error}</p>;
  return video && <Opened me={me} video={video} first={first} />;
}

function Opened({ me, video, first }: { me: Me; video: Video; first?: string | undefined }) {
  const [newest, setNewest] = useState<Newest>(video);
  const [document, setDocument] = useState<Document>(video.document);
  const [chosen, setChosen] = useState(first ?? video.document.actions[0]?.id ?? "");
  const action = document.actions.find((one) => one.id === chosen);
  const [frame, setFrame] = useState(action?.contact_frame ?? 0);
  const [status, setStatus] = useState<Status>({ state: "saved", text: `r${video.version} by ${video.by}` });
  const [conflict, setConflict] = useState<Conflict | null>(null);
  const [said, setSaid] = useState("");
  const [help, setHelp] = useState(false);
  const [mode, setMode] = useState<"translate" | "rotate">("translate");
  const [space, setSpace] = useState<"local" | "world">("world");
  const [view, setView] = useState(0);
  const [playing, setPlaying] = useState(false);
  const [live, setLive] = useState<Vector | null>(null); // of the gizmo while it is dragged
  const [image, setImage] = useState<HTMLImageElement | null>(null);
  const [depth, setDepth] = useState<Uint16Array | null>(null);
  const pointer = useRef<[number, number] | null>(null); // pixel of the image
  const search = useRef<HTMLInputElement>(null);
  const undone = useRef<{ back: Document[]; forward: Document[] }>({ back: [], forward: [] });
  const may = (role: Me["role"]): boolean => {
    const roles = ["annotator", "auditor", "acceptor", "admin"];
    return roles.indexOf(me.role) >= roles.indexOf(role);
  };
  const auditing = newest.state === "annotated" && may("auditor"); // what an auditor changes is measured, not saved
  const editable = newest.state === "open" || auditing;
  const [distances, setDistances] = useState<Distances | null>(null);
  const last = video.frames - 1;

  const saver = useRef<Saver | null>(null);
  useEffect(() => {
    const made = new Saver(video.id, video, new Journal(video.id), {
      status: setStatus,
      saved: setNewest,
      merged: (theirs) => (setNewest(theirs), setDocument(theirs.document), setSaid(`Put together with a change by ${theirs.by}.`)),
      conflict: setConflict,
    });
    saver.current = made;
    const left = made.replay();
    if (left) (setDocument(left), setSaid("A change that was not saved yet was found in this browser, and is sent."));
    return () => made.close();
  }, [video]);

  const change = useCallback(
    (next: Document) => {
      if (!editable) return setSaid(`This video is ${newest.state}: only open ones are changed.`);
      undone.current.back = [...undone.current.back.slice(-STEPS), document];
      undone.current.forward = [];
      setDocument(next);
      if (!auditing) saver.current?.change(next);
    },
    [document, editable, auditing, newest.state],
  );
  useEffect(() => {
    if (!auditing) return setDistances(null);
    let current = true;
    const timer = setTimeout(
      () =>
        call<Distances>("POST", `videos/${video.id}/audit`, { version: newest.version, document }).then(
          (found) => current && (setDistances(found), setSaid("")),
          (wrong: ApiError) => current && (setDistances(null), setSaid(wrong.message)),
        ),
      200,
    );
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [auditing, document, newest.version, video.id]);
  const step = (from: "back" | "forward", to: "back" | "forward"): void => {
    const next = undone.current[from].pop();
    if (!next || !editable) return;
    undone.current[to].push(document);
    setDocument(next);
    if (!auditing) saver.current?.change(next);
  };
  const replace = (next: Action): void =>
    change({ ...document, actions: document.actions.map((one) => (one.id === next.id ? next : one)) });
  const go = (to: number): void => setFrame(Math.min(Math.max(to, 0), last));
  const choose = (next: Action | undefined): void => {
    if (!next) return;
    setChosen(next.id);
    if (next.start_frame !== null) go(next.contact_frame ?? next.start_frame);
  };
  const place = (xyz_m: Vector | null, quat_xyzw?: Quaternion): void => {
    if (!action || !xyz_m) return setSaid(action ? "No depth is known there." : "Choose or add an action first (N).");
    if (action.start_frame !== null && (frame < action.start_frame || frame > (action.end_frame ?? last)))
      return setSaid("This frame is outside of the action: set its start (S) or end (F) first.");
    const point = { ...pointAt(action, frame, xyz_m), ...(quat_xyzw ? { quat_xyzw } : {}) };
    replace({ ...action, trajectory: placed(action.trajectory, point) });
  };
  const move = (verb: string): void => {
    const reason = ["return", "exclude", "reopen"].includes(verb) ? prompt("Why?") : null;
    if (reason === null && verb !== "submit" && verb !== "pass" && verb !== "withdraw" && verb !== "include") return;
    if (status.state !== "saved") return setSaid("Wait until the last change is saved.");
    const own = auditing && ["pass", "return"].includes(verb) ? { document } : {};
    call<Newest>("POST", `videos/${video.id}/move`, { version: newest.version, verb, reason, ...own }).then(
      (now) => {
        setNewest(now);
        setDocument(now.document);
        undone.current = { back: [], forward: [] }; // an auditor's own points end with the audit
        setSaid("");
        saver.current?.resume(now);
      },
      (wrong: ApiError) => setSaid(wrong.message),
    );
  };

  const run = (command: Command, event: KeyboardEvent): void => {
    const far = event.shiftKey ? 10 : 1;
    const index = document.actions.findIndex((one) => one.id === chosen);
    const point = action && at(action, frame);
    const set = (key: FrameKey): void => (action ? replace(withFrame(action, key, frame)) : setSaid("Add an action first (N)."));
    const todo: Record<Command, () => void> = {
      back: () => go(frame - far),
      forward: () => go(frame + far),
      hand: () => go(handChange(video.hands, frame, !event.shiftKey)),
      previous: () => choose(document.actions[Math.max(index - 1, 0)]),
      next: () => choose(document.actions[Math.min(index + 1, document.actions.length - 1)]),
      start: () => set("start_frame"),
      contact: () => set("contact_frame"),
      release: () => set("release_frame"),
      end: () => set("end_frame"),
      add: () => {
        const added = newAction(document, frame, video.hands);
        change({ ...document, actions: [...document.actions, added] });
        setChosen(added.id);
      },
      template: () => search.current?.focus(),
      place: () => pointer.current && depth && place(surface(video, depth, ...pointer.current)),
      gripper: () => {
        if (action && point)
          replace({ ...action, trajectory: placed(action.trajectory, { ...point, gripper: point.gripper ? 0 : 1, source: "manual" }) });
      },
      remove: () => action && point && replace({ ...action, trajectory: action.trajectory.filter((one) => one !== point) }),
      interpolate: () => action && replace({ ...action, trajectory: interpolated(action, frame) }),
      smooth: () => action && replace({ ...action, trajectory: smoothed(action.trajectory) }),
      mode: () => setMode(mode === "translate" ? "rotate" : "translate"),
      space: () => setSpace(space === "local" ? "world" : "local"),
      view: () => setView(view + 1),
      play: () => setPlaying(!playing),
      accept: () => move(newest.state === "annotated" ? "pass" : "submit"),
      reject: () => move("return"),
      undo: () => step("back", "forward"),
      redo: () => step("forward", "back"),
      help: () => setHelp(!help),
    };
    todo[command]();
  };
  const nudge = (event: KeyboardEvent): boolean => {
    const how = NUDGES[event.key];
    const point = action && at(action, frame);
    if (!how || !action || !point || event.ctrlKey) return false;
    const [axis, sign] = how;
    const step_m = sign * (event.shiftKey ? 0.01 : 0.001);
    const xyz_m = [...point.xyz_m] as Vector;
    if (event.altKey) for (const i of [0, 1, 2] as const) xyz_m[i] *= 1 - step_m / point.xyz_m[2]; // along the ray; up: away
    else xyz_m[axis as 0 | 1] += step_m;
    place(xyz_m, point.quat_xyzw);
    return true;
  };
  const pressed = useRef<(event: KeyboardEvent) => void>(() => {});
  pressed.current = (event) => {
    const target = event.target as HTMLElement;
    if (event.key === "Escape") return target.blur();
    if (target.matches("input, select, textarea")) return;
    const command = commandOf(event);
    if (command) run(command, event);
    if (command || nudge(event)) event.preventDefault();
  };
  useEffect(() => {
    const listener = (event: KeyboardEvent): void => pressed.current(event);
    addEventListener("keydown", listener);
    return () => removeEventListener("keydown", listener);
  }, []);

  useEffect(() => {
    let current = true;
    const picture = new Image();
    picture.onload = () => current && setImage(picture);
    picture.src = imageUrl(video.id, frame);
    const later = setTimeout(
      () => depthOf(video.id, frame).then((found) => current && setDepth(found), (wrong: Error) => current && setSaid(wrong.message)),
      playing ? 100 : 0, // while it plays, frames pass without their depth
    );
    for (let n = 1; n <= 5; n++) if (frame + n <= last) new Image().src = imageUrl(video.id, frame + n);
    return () => {
      current = false;
      clearTimeout(later);
    };
  }, [video, frame, last, playing]);
  useEffect(() => {
    if (!playing) return;
    const timer = setTimeout(() => (frame < last ? setFrame(frame + 1) : setPlaying(false)), 1000 / video.fps);
    return () => clearTimeout(timer);
  }, [playing, frame, last, video.fps, image]);

  const path = useMemo(() => action?.trajectory ?? [], [action]);
  const point = action && at(action, frame);
  const shown = live ?? point?.xyz_m ?? null;
  const verbs = [
    newest.state === "open" && "submit",
    newest.state === "annotated" && may("auditor") && "pass",
    newest.state === "annotated" && may("auditor") && "return",
    newest.state === "annotated" && "withdraw",
    (newest.state === "open" || newest.state === "annotated") && may("auditor") && "exclude",
    newest.state === "excluded" && may("auditor") && "include",
    (newest.state === "audited" || newest.state === "accepted") && may("admin") && "reopen",
  ].filter((verb) => verb !== false);

  return (
    <div className="editor">
      <header>
        <a href="#/">Videos</a> <b>{video.name}</b>
        <span className={`state ${newest.state}`}>{newest.state.replace("_", " ")}</span>
        {newest.reason && <span className="error">{newest.reason}</span>}
        <span className={`status ${status.state}`}>{status.text}</span>
        <span className="right">
          {verbs.map((verb) => (
            <button key={verb} disabled={verb === "pass" && !!distances?.fault} onClick={() => move(verb)}>
              {verb}
            </button>
          ))}
          <button onClick={() => setHelp(!help)}>keys</button> {me.name}, {me.role}
        </span>
      </header>
      {conflict && (
        <p className="conflict">
          {conflict.theirs.by} and you have changed: {conflict.fields.join(", ")}.
          <button onClick={() => answer(conflict.mine)}>keep mine</button>
          <button onClick={() => answer(conflict.theirs.document)}>take theirs</button> Either stays in the history.
        </p>
      )}
      <section className="views">
        <Preview
          video={video} image={image} path={path} point={shown} frame={frame}
          onPointer={(pixel) => (pointer.current = pixel)}
          onClick={(u, v) => depth && place(surface(video, depth, u, v))}
        />
        <div className="cloud">
          <Cloud
            video={video} depth={depth} image={image} path={path} point={point} mode={mode} space={space} view={view}
            editable={editable} onMove={(xyz_m) => setLive(xyz_m)}
            onMoved={(xyz_m, quat_xyzw) => (setLive(null), place(xyz_m, quat_xyzw))} onPick={(xyz_m) => place(xyz_m)}
          />
        </div>
      </section>
      <p className="numbers">
        <span data-testid="frame">
          frame {frame} / {last}
        </span>
        <span>{(frame / video.fps).toFixed(2)} s</span>
        <span data-testid="pose">
          {shown
            ? `x ${(1000 * shown[0]).toFixed(0)}, y ${(1000 * shown[1]).toFixed(0)}, z ${(1000 * shown[2]).toFixed(0)} mm at ${project(video, shown).map((value) => value.toFixed(1)).join(", ")} px`
            : "no pose in this frame: click the image, or P"}
        </span>
        {point && <span>{`gripper ${point.gripper ? "closed" : "open"}, ${point.source}, ${mode === "rotate" ? "turn" : "move"}, ${space === "local" ? "hand's axes" : "camera's axes"}`}</span>}
        <span className="error">{said}</span>
      </p>
      <Timeline video={video} actions={document.actions} chosen={chosen} frame={frame} onFrame={go} onChoose={setChosen} />
      {distances && <Audit distances={distances} />}
      <Details
        templates={me.templates} document={document} action={action} fault={newest.fault} weak={video.weak} search={search}
        editable={editable} onChoose={choose} onAction={replace} onDocument={change}
      />
      {help && <Help onClose={() => setHelp(false)} />}
    </div>
  );

  function answer(taken: Document): void {
    if (!conflict) return;
    setDocument(taken);
    setNewest(conflict.theirs);
    saver.current?.resolve(taken, conflict.theirs);
    setConflict(null);
  }
}

function Help({ onClose }: { onClose(): void }) {
  const [now, setNow] = useState(keys);
  return (
    <aside className="help">
      <h2>
        Keys <button onClick={onClose}>close</button>
      </h2>
      <p>Press another key in a field to change it. Arrows: 1 mm (Shift: 10 mm; Alt with up and down: along the ray).</p>
      <p>Shift and click in 3D: the pose on the surface. Double click: turn about that place.</p>
      <table>
        <tbody>
          {Object.entries(COMMANDS).map(([name, [, what]]) => (
            <tr key={name}>
              <td>
                <input
                  size={6} readOnly value={now[name as Command] === " " ? "Space" : now[name as Command]}
                  onKeyDown={(event) => {
                    if (["Shift", "Control", "Alt", "Meta", "Tab", "Escape"].includes(event.key)) return;
                    setKey(name as Command, event.key.length === 1 ? event.key.toLowerCase() : event.key);
                    setNow(keys());
                    event.preventDefault();
                  }}
                />
              </td>
              <td>{what}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </aside>
  );
}
