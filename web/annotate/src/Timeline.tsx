import type { Action, Video } from "./api";
import { FRAMES } from "./model";

interface Props {
  video: Video;
  actions: Action[];
  chosen: string;
  frame: number;
  onFrame(frame: number): void;
  onChoose(id: string): void;
}

const AROUND = 6;

/** Where a hand is seen, actions on one line, weak places below them, and small pictures of the frames around this one. */
export function Timeline({ video, actions, chosen, frame, onFrame, onChoose }: Props) {
  const last = video.frames - 1;
  const left = (n: number): string => `${(100 * n) / Math.max(last, 1)}%`;
  const handOf = (n: number): Action | undefined =>
    actions.find((action) => n >= (action.start_frame ?? Infinity) && n <= (action.end_frame ?? action.start_frame ?? -1));
  const seen = (n: number): boolean => video.hands.some(([from, to]) => n >= from && n <= to);
  const first = Math.min(Math.max(frame - AROUND, 0), Math.max(last - 2 * AROUND, 0));
  const strip = Array.from({ length: Math.min(2 * AROUND + 1, video.frames) }, (_, i) => first + i);
  return (
    <section className="timeline">
      <div
        className="bar"
        onClick={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          onFrame(Math.round(((event.clientX - box.left) / box.width) * last));
        }}
      >
        {video.hands.map(([from, to]) => (
          <div key={from} className="seen" title="a hand is in view" style={{ left: left(from), width: left(Math.max(to - from, 1)) }} />
        ))}
        {actions.map((action) => {
          const [start, end] = [action.start_frame ?? 0, action.end_frame ?? action.start_frame ?? 0];
          return (
            <div
              key={action.id} className={`action ${action.id === chosen ? "chosen" : ""}`} title={action.id}
              style={{ left: left(start), width: left(Math.max(end - start, 1)) }} onClick={() => onChoose(action.id)}
            >
              {action.id}
            </div>
          );
        })}
        {actions
          .filter((action) => action.id === chosen)
          .flatMap((action) =>
            FRAMES.map((key) => action[key] !== null && <i key={key} className={key} title={key} style={{ left: left(action[key]) }} />),
          )}
        {Object.values(video.weak).flatMap((weak, i) =>
          weak.frames.map(([from, to]) => (
            <div key={`${i}-${from}`} className="weak" title={weak.reasons.join("; ")} style={{ left: left(from), width: left(Math.max(to - from, 1)) }} />
          )),
        )}
        <b className="now" style={{ left: left(frame) }} />
      </div>
      <div className="strip">
        {strip.map((n) => (
          <figure key={n} className={`${n === frame ? "now" : ""} ${handOf(n) ? "hand" : ""} ${seen(n) ? "seen" : ""}`} onClick={() => onFrame(n)}>
            <img src={`api/videos/${video.id}/frames/${n}.jpg?thumb`} alt={`frame ${n}`} />
            <figcaption>
              {n} {FRAMES.filter((key) => handOf(n)?.[key] === n).map((key) => key.replace("_frame", "")).join(" ")}
            </figcaption>
          </figure>
        ))}
      </div>
    </section>
  );
}
