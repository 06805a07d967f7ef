// The scene in 3D: depth is a texture that the vertex shader unprojects; all positions are in the camera's optical frame.
import { Canvas, useThree } from "@react-three/fiber";
import { useEffect, useMemo, useRef } from "react";
import * as THREE from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
import { TransformControls } from "three/examples/jsm/controls/TransformControls.js";
import type { Quaternion, Vector, Video, Waypoint } from "./api";

const VERTEX = `
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D depth;
uniform sampler2D colour;
uniform vec4 K;
uniform float unit, height_px;
uniform ivec2 size;
uniform int stride;
uniform mat4 modelViewMatrix, projectionMatrix;
out vec3 rgb;
void main() {
  int columns = size.x / stride;
  ivec2 pixel = stride * ivec2(gl_VertexID % columns, gl_VertexID / columns);
  float z = unit * float(texelFetch(depth, pixel, 0).r);
  vec3 at = vec3((vec2(pixel) - K.zw) / K.xy * z, z);
  gl_Position = z > 0.0 ? projectionMatrix * modelViewMatrix * vec4(at, 1.0) : vec4(2.0, 2.0, 2.0, 1.0);
  float side = float(stride) * z / K.x; // of the surface that a pixel sees
  gl_PointSize = clamp(side * projectionMatrix[1][1] * 0.5 * height_px / max(gl_Position.w, 0.01) + 0.7, 1.0, 24.0);
  rgb = texture(colour, (vec2(pixel) + 0.5) / vec2(size)).rgb;
}`;
const FRAGMENT = `
precision highp float;
in vec3 rgb;
out vec4 colour;
void main() { colour = vec4(rgb, 1.0); }`;

const STRIDE = 2;
const MOVING = 4; // coarser while something moves
const NEAR_PX = 8;

interface Props {
  video: Video;
  depth: Uint16Array | null;
  image: HTMLImageElement | null;
  path: Waypoint[];
  point: Waypoint | undefined; // of this frame: it has the gizmo
  mode: "translate" | "rotate";
  space: "local" | "world";
  view: number; // changes: look from the camera again
  editable: boolean;
  onMove(xyz_m: Vector, quat_xyzw: Quaternion): void; // while the gizmo is dragged
  onMoved(xyz_m: Vector, quat_xyzw: Quaternion): void; // when it is let go
  onPick(xyz_m: Vector): void; // Shift and click on the cloud
}

export function Cloud(props: Props) {
  const [, height] = props.video.size_px;
  const fov = (2 * Math.atan(height / 2 / props.video.K[1]) * 180) / Math.PI;
  return (
    <Canvas
      frameloop="demand"
      dpr={1}
      camera={{ fov, near: 0.01, far: 30, up: [0, -1, 0], position: [0, 0, 0] }}
      onCreated={({ gl }) => gl.setClearColor("#15181c")}
    >
      <Scene {...props} />
    </Canvas>
  );
}

function Scene({ video, depth, image, path, point, mode, space, view, editable, onMove, onMoved, onPick }: Props) {
  const { camera, gl, scene, size, invalidate } = useThree();
  const [width, height] = video.size_px;
  const live = useRef({ onMove, onMoved, onPick, depth });
  live.current = { onMove, onMoved, onPick, depth };

  const cloud = useMemo(() => {
    const texture = new THREE.DataTexture(new Uint16Array(width * height), width, height, THREE.RedIntegerFormat, THREE.UnsignedShortType);
    texture.internalFormat = "R16UI";
    texture.unpackAlignment = 2;
    texture.needsUpdate = true; // without content, another kind of texture would be bound
    const material = new THREE.RawShaderMaterial({
      glslVersion: THREE.GLSL3,
      vertexShader: VERTEX,
      fragmentShader: FRAGMENT,
      uniforms: {
        depth: { value: texture },
        colour: { value: new THREE.Texture() },
        K: { value: new THREE.Vector4(...video.K) },
        unit: { value: video.depth_unit_m },
        size: { value: [width, height] },
        height_px: { value: 1 },
        stride: { value: STRIDE },
      },
    });
    const points = new THREE.Points(new THREE.BufferGeometry(), material); // no attribute: vertices are numbers of pixels
    points.frustumCulled = false;
    points.raycast = () => {}; // else every move of the pointer tests every point
    return { texture, material, points };
  }, [video, width, height]);

  const stride = (step: number): void => {
    cloud.material.uniforms.stride!.value = step;
    cloud.points.geometry.setDrawRange(0, Math.floor(width / step) * Math.floor(height / step));
    invalidate();
  };

  useEffect(() => {
    scene.add(cloud.points);
    stride(STRIDE);
    return () => {
      scene.remove(cloud.points);
      cloud.points.geometry.dispose();
      cloud.material.dispose();
      cloud.texture.dispose();
    };
  }, [cloud]);

  useEffect(() => {
    if (depth) {
      (cloud.texture.image as { data: Uint16Array }).data.set(depth);
      cloud.texture.needsUpdate = true;
    }
    if (image) {
      const colour = new THREE.Texture(image);
      colour.flipY = false;
      colour.generateMipmaps = false;
      colour.minFilter = THREE.LinearFilter;
      colour.needsUpdate = true;
      (cloud.material.uniforms.colour!.value as THREE.Texture).dispose();
      cloud.material.uniforms.colour!.value = colour;
    }
    invalidate();
  }, [cloud, depth, image]);

  useEffect(() => {
    cloud.material.uniforms.height_px!.value = size.height;
    invalidate();
  }, [cloud, size.height]);

  const controls = useMemo(() => {
    const orbit = new OrbitControls(camera, gl.domElement);
    const gizmo = new TransformControls(camera, gl.domElement);
    const hand = new THREE.Object3D();
    gizmo.setSize(0.8);
    orbit.enableDamping = false;
    return { orbit, gizmo, hand };
  }, [camera, gl]);

  useEffect(() => {
    const { orbit, gizmo, hand } = controls;
    scene.add(hand, gizmo.getHelper());
    const pose = (): [Vector, Quaternion] => [hand.position.toArray() as Vector, hand.quaternion.toArray() as Quaternion];
    const drag = (event: { value: unknown }): void => {
      orbit.enabled = !event.value;
      stride(event.value ? MOVING : STRIDE);
      if (!event.value) live.current.onMoved(...pose());
    };
    const coarse = (): void => stride(MOVING);
    const fine = (): void => stride(STRIDE);
    const moved = (): void => live.current.onMove(...pose());
    const redraw = (): void => invalidate();
    gizmo.addEventListener("dragging-changed", drag);
    gizmo.addEventListener("objectChange", moved);
    gizmo.addEventListener("change", redraw);
    orbit.addEventListener("change", redraw);
    orbit.addEventListener("start", coarse);
    orbit.addEventListener("end", fine);
    const picked = (event: MouseEvent): Vector | null => {
      const box = gl.domElement.getBoundingClientRect();
      const known = live.current.depth;
      return known && nearest(video, known, camera, box, event.clientX - box.left, event.clientY - box.top);
    };
    const centre = (event: MouseEvent): void => {
      const found = picked(event);
      if (found) orbit.target.set(...found);
      orbit.update();
    };
    const click = (event: MouseEvent): void => {
      const found = event.shiftKey ? picked(event) : null;
      if (found) live.current.onPick(found);
    };
    gl.domElement.addEventListener("dblclick", centre);
    gl.domElement.addEventListener("click", click);
    return () => {
      gl.domElement.removeEventListener("dblclick", centre);
      gl.domElement.removeEventListener("click", click);
      gizmo.detach();
      scene.remove(hand, gizmo.getHelper());
      gizmo.dispose();
      orbit.dispose();
    };
  }, [controls]);

  useEffect(() => {
    const { gizmo, hand } = controls;
    if (point && editable) {
      hand.position.set(...point.xyz_m);
      hand.quaternion.set(...point.quat_xyzw);
      gizmo.attach(hand);
    } else gizmo.detach();
    gizmo.setMode(mode);
    gizmo.setSpace(space);
    invalidate();
  }, [controls, point, mode, space, editable]);

  useEffect(() => {
    const known = depth ? [...depth].filter((_, i) => i % 997 === 0).filter((z) => z > 0).sort((a, b) => a - b) : [];
    const middle = (known[known.length >> 1] ?? 800) * video.depth_unit_m;
    camera.position.set(0, 0, 0);
    camera.up.set(0, -1, 0);
    controls.orbit.target.set(0, 0, middle);
    controls.orbit.update();
    invalidate();
  }, [controls, view, depth === null]);

  const line = useMemo(() => {
    const geometry = new THREE.BufferGeometry().setFromPoints(path.map((one) => new THREE.Vector3(...one.xyz_m)));
    return new THREE.Line(geometry, new THREE.LineBasicMaterial({ color: "#ffb000", depthTest: false }));
  }, [path]);
  useEffect(() => {
    scene.add(line);
    invalidate();
    return () => {
      scene.remove(line);
      line.geometry.dispose();
    };
  }, [line]);
  return null;
}

/** The nearest surface within some pixels of a place on the screen. */
function nearest(video: Video, depth: Uint16Array, camera: THREE.Camera, box: DOMRect, x: number, y: number): Vector | null {
  const [width, height] = video.size_px;
  const [fx, fy, cx, cy] = video.K;
  const matrix = new THREE.Matrix4().multiplyMatrices(camera.projectionMatrix, camera.matrixWorldInverse);
  const at = new THREE.Vector3();
  let best: Vector | null = null;
  let least = Infinity;
  for (let v = 0; v < height; v += 2)
    for (let u = 0; u < width; u += 2) {
      const z = depth[v * width + u]! * video.depth_unit_m;
      if (z === 0) continue;
      at.set(((u - cx) * z) / fx, ((v - cy) * z) / fy, z).applyMatrix4(matrix);
      if (at.z > 1 || at.z > least) continue;
      const off = Math.hypot(((at.x + 1) / 2) * box.width - x, ((1 - at.y) / 2) * box.height - y);
      if (off < NEAR_PX) [best, least] = [[((u - cx) * z) / fx, ((v - cy) * z) / fy, z], at.z];
    }
  return best;
}
