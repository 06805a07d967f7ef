"""Frames as the files of other data sets, in the layouts that their own tools read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import yaml

from stvla_ros.data.recording import RecordingWriter
from stvla_ros.files import write_image
from stvla_ros.geometry.se3 import inverse, pose
from stvla_ros.types import RgbdFrame

SERIAL, MASTER = "932122060861", "840412060917"
T_MASTER_TAG = pose(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]), [0.1, -0.2, 0.9])


def raw(frame: RgbdFrame, unit_m: float) -> np.ndarray:
    """(H, W) uint16 depth, 0: unknown."""
    return np.rint(np.nan_to_num(frame.depth_m) / unit_m).astype(np.uint16)


def write_depth(path: Path, depth: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), depth)


def write_color(path: Path, frame: RgbdFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        write_image(path, frame.rgb)
    else:
        assert cv2.imwrite(str(path), frame.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])


def write_film(path: Path, images: Sequence[np.ndarray], fps: int, pix_fmt: str, codec: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=fps)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for i, image in enumerate(images):
            shown = av.VideoFrame.from_ndarray(image, format="gray16le" if image.ndim == 2 else "rgb24")
            shown.pts, shown.time_base = i, Fraction(1, fps)
            file.mux(stream.encode(shown))
        file.mux(stream.encode(None))


def write_depth_film(path: Path, images: Sequence[np.ndarray], fps: int) -> None:
    write_film(path, images, fps, "gray16le", "ffv1")


def write_color_film(path: Path, frames: Sequence[RgbdFrame], fps: int) -> None:
    write_film(path, [frame.rgb for frame in frames], fps, "yuv420p", "mpeg4")


def dex_ycb(root: Path, frames: Sequence[RgbdFrame]) -> Path:
    """Poses of cameras and tag are in the frame of a camera; the tag's is our base frame."""
    sequence = root / "20200709-subject-01" / "20200709_141841"
    folder, camera = sequence / SERIAL, frames[0].camera
    for i, frame in enumerate(frames):
        write_color(folder / f"color_{i:06d}.jpg", frame)
        write_depth(folder / f"aligned_depth_to_color_{i:06d}.png", raw(frame, 0.001))
        np.savez(folder / f"labels_{i:06d}.npz", seg=np.zeros((4, 4), np.uint8))
    meta = {"serials": [MASTER, SERIAL], "num_frames": len(frames), "extrinsics": "20200702_151821", "ycb_ids": [1, 11],
            "ycb_grasp_ind": 0, "mano_sides": ["left"], "mano_calib": ["20200709-subject-01_left"]}  # fmt: skip
    (sequence / "meta.yml").write_text(yaml.safe_dump(meta))
    K, calibration = camera.K, root / "calibration"
    lens = {"color": {"fx": float(K[0, 0]), "fy": float(K[1, 1]), "ppx": float(K[0, 2]), "ppy": float(K[1, 2])}}
    (calibration / "intrinsics").mkdir(parents=True)
    (calibration / "intrinsics" / f"{SERIAL}_640x480.yml").write_text(yaml.safe_dump(lens))
    poses = {name: T[:3].ravel().tolist() for name, T in (
        ("apriltag", T_MASTER_TAG), (MASTER, np.eye(4)), (SERIAL, T_MASTER_TAG @ camera.T_base_camera))}  # fmt: skip
    (calibration / "extrinsics_20200702_151821").mkdir()
    (calibration / "extrinsics_20200702_151821" / "extrinsics.yml").write_text(
        yaml.safe_dump({"master": MASTER, "extrinsics": poses})
    )
    return folder


def h2o(root: Path, frames: Sequence[RgbdFrame]) -> Path:
    folder, camera = root / "subject1" / "h1" / "0" / "cam0", frames[0].camera
    for name in ("rgb", "depth", "cam_pose", "hand_pose"):
        (folder / name).mkdir(parents=True)
    for i, frame in enumerate(frames):
        write_color(folder / "rgb" / f"{i:06d}.png", frame)
        write_depth(folder / "depth" / f"{i:06d}.png", raw(frame, 0.001))
        np.savetxt(folder / "cam_pose" / f"{i:06d}.txt", frame.camera.T_base_camera.reshape(1, 16))
    K = camera.K
    numbers = [K[0, 0], K[1, 1], K[0, 2], K[1, 2], camera.width_px, camera.height_px]
    (folder / "cam_intrinsics.txt").write_text(" ".join(repr(float(n)) for n in numbers))
    return folder


def hoi4d(root: Path, frames: Sequence[RgbdFrame], decoded: bool = False) -> Path:
    folder = root / "HOI4D_release" / "ZY20210800004" / "H4" / "C8" / "N14" / "S71" / "s03" / "T2"
    if decoded:
        for i, frame in enumerate(frames):
            write_color(folder / "align_rgb" / f"{i:05d}.jpg", frame)
            write_depth(folder / "align_depth" / f"{i:05d}.png", raw(frame, 0.001))
    else:
        write_color_film(folder / "align_rgb" / "image.mp4", frames, 15)
        write_depth_film(folder / "align_depth" / "depth_video.avi", [raw(f, 0.001) for f in frames], 15)
    lines = []
    for i, frame in enumerate(frames):
        T = inverse(frames[0].camera.T_base_camera) @ frame.camera.T_base_camera
        lines += [f"{i} {i} {i + 1}", *(" ".join(f"{v:.10f}" for v in row) for row in T)]
    (folder / "3Dseg").mkdir(parents=True)
    (folder / "3Dseg" / "output.log").write_text("\n".join(lines) + "\n")
    lens = root / "camera_params" / "ZY20210800004" / "intrin.npy"
    lens.parent.mkdir(parents=True)
    np.save(lens, frames[0].camera.K)
    return folder


def taco(root: Path, frames: Sequence[RgbdFrame]) -> Path:
    place = Path("(stir, spoon, bowl)") / "20231105_019"
    folder = root / "Egocentric_RGB_Videos" / place
    write_color_film(folder / "color.mp4", frames, 30)
    depth = root / "Egocentric_Depth_Videos" / place / "egocentric_depth.avi"
    write_depth_film(depth, [raw(frame, 0.00025) for frame in frames], 30)
    camera = root / "Egocentric_Camera_Parameters" / place
    camera.mkdir(parents=True)
    np.savetxt(camera / "egocentric_intrinsic.txt", frames[0].camera.K)
    np.save(camera / "egocentric_frame_extrinsic.npy", np.stack([inverse(f.camera.T_base_camera) for f in frames]))
    return folder


def open3d(root: Path, frames: Sequence[RgbdFrame]) -> Path:
    """As Open3D's recorder for RealSense cameras leaves it, with the rate that it does not write."""
    for i, frame in enumerate(frames):
        write_color(root / "color" / f"{i:06d}.jpg", frame)
        write_depth(root / "depth" / f"{i:06d}.png", raw(frame, 0.001))
    camera = frames[0].camera
    lens = {"width": camera.width_px, "height": camera.height_px, "intrinsic_matrix": camera.K.T.ravel().tolist(),
            "fps": 30}  # fmt: skip
    (root / "camera_intrinsic.json").write_text(json.dumps(lens))
    return root


def recording(root: Path, frames: Sequence[RgbdFrame]) -> Path:
    writer = RecordingWriter(root / "recording", instruction="Stir.", deferred=True)
    for frame in frames:
        writer.append(frame)
    writer.write_index()
    return root / "recording"


LAYOUTS = {
    "recording": recording, "DexYCB": dex_ycb, "H2O": h2o, "HOI4D": hoi4d, "TACO": taco, "other folder": open3d,
}  # fmt: skip
