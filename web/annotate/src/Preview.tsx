import { useEffect, useRef, useState } from "react";
import type { Vector, Video, Waypoint } from "./api";
import { project } from "./model";

interface Props {
  video: Video;
  image: HTMLImageElement | null;
  path: Waypoint[];
  point: Vector | null; // of this frame, also while it is dragged
  frame: number;
  onPointer(pixel: [number, number] | null): void;
  onClick(u: number, v: number): void;
}

const COLOURS = { manual: "#ff3d7f", auto: "#ffb000", interpolated: "#ffe08a", object: "#4fc3f7" };

/** The image with the projection of the path and of the pose in work. */
export function Preview({ video, image, path, point, frame, onPointer, onClick }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, height] = video.size_px;
  const [at, setAt] = useState<[number, number] | null>(null);
  useEffect(() => {
    const context = canvas.current!.getContext("2d")!;
    context.clearRect(0, 0, width, height);
    if (image) context.drawImage(image, 0, 0, width, height);
    const pixel = (xyz_m: Vector): [number, number] => {
      const [u, v] = project(video, xyz_m);
      return [u + 0.5, v + 0.5]; // a canvas has its first pixel's corner at (0, 0)
    };
    context.lineWidth = 2;
    context.strokeStyle = "#ffb000a0";
    context.beginPath();
    for (const one of path) context.lineTo(...pixel(one.xyz_m));
    context.stroke();
    for (const one of path) {
      context.fillStyle = COLOURS[one.source];
      context.beginPath();
      context.arc(...pixel(one.xyz_m), one.source === "manual" ? 4 : 2, 0, 7);
      context.fill();
    }
    if (point && point[2] > 0) {
      const [u, v] = pixel(point);
      context.strokeStyle = "#00ff66";
      context.lineWidth = 2;
      context.beginPath();
      context.arc(u, v, 9, 0, 7);
      for (const [x, y] of [[-16, 0], [16, 0], [0, -16], [0, 16]] as const) {
        context.moveTo(u + x / 2, v + y / 2);
        context.lineTo(u + x, v + y);
      }
      context.stroke();
    }
  }, [video, image, path, point, width, height]);
  const pixelOf = (event: React.MouseEvent): [number, number] => {
    const box = canvas.current!.getBoundingClientRect();
    const scale = Math.min(box.width / width, box.height / height); // object-fit: contain, from the top left
    return [(event.clientX - box.left) / scale - 0.5, (event.clientY - box.top) / scale - 0.5];
  };
  const move = (pixel: [number, number] | null): void => (setAt(pixel), onPointer(pixel));
  return (
    <div className="preview">
      <canvas
        ref={canvas} width={width} height={height} data-frame={frame} data-testid="preview"
        onMouseMove={(event) => move(pixelOf(event))} onMouseLeave={() => move(null)}
        onClick={(event) => onClick(...pixelOf(event))}
      />
      {at && <small>{at.map((value) => value.toFixed(0)).join(", ")}</small>}
    </div>
  );
}
