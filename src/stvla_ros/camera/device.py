"""One RealSense device through librealsense: found by its serial number, started, set up."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from stvla_ros.camera.settings import ExposureConfig, RealSenseConfig
from stvla_ros.config import ConfigError
from stvla_ros.geometry.lens import LensMaps, fisheye_maps, polynomial_maps, radial_first_maps
from stvla_ros.types import F64

BENDS_DEPTH = "modified_brown_conrady"
"""The only lens model that librealsense's alignment applies to depth (``distorte_x_y`` in its ``sse-align.cpp`` and
``neon-align.cpp``). With every other model, inverse_brown_conrady of the D405 and D455 among them, aligned depth is that
of the pinhole, and only colour is bent."""

TEMPERATURES = ("asic_temperature", "projector_temperature")
"""Options of a D400's depth sensor with temperatures, by their names in librealsense."""


class CameraLostError(Exception):
    """No camera, or none that streams; the message is a sentence for the operator."""


def library() -> Any:
    """The module ``pyrealsense2``.

    Raises:
        ConfigError: It cannot be imported; the sentence says which package is missing.
    """
    try:
        return import_module("pyrealsense2")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "A RealSense camera needs the Python package 'pyrealsense2': install it with pip, or use realsense-ros and "
            "camera external."
        ) from error
    except ImportError as error:
        missing = (
            "the system package libusb-1.0-0: install it with apt" if "libusb" in str(error) else "another library"
        )
        raise ConfigError(f"pyrealsense2 cannot be loaded ({error}): it needs {missing}.") from error


@dataclass(frozen=True, eq=False)
class Streams:
    """A pipeline that runs.

    Attributes:
        pipeline: The library's pipeline.
        device: Its device.
        rate_hz: Frames per second of colour.
        width_px: Width of colour.
        height_px: Height of colour.
        K: (3, 3) intrinsics of colour, to which depth is aligned.
        maps: What straightens colour; None for a lens without distortion.
        depth_bent: Whether aligned depth is to be straightened too.
        name: Model and serial number, for the operator.
    """

    pipeline: Any
    device: Any
    rate_hz: int
    width_px: int
    height_px: int
    K: F64
    maps: LensMaps | None
    depth_bent: bool
    name: str

    def ended(self) -> bool:
        """Whether they come from a recording that was played to its end."""
        return bool(self.device.is_playback()) and self.device.as_playback().current_status().name == "stopped"

    def stop(self) -> None:
        """End the pipeline; one whose camera is gone may already have ended."""
        with contextlib.suppress(RuntimeError):
            self.pipeline.stop()


def serial_number(rs: Any, device: Any) -> str:
    """A device's serial number; empty for one that does not say."""
    return str(device.get_info(rs.camera_info.serial_number)) if device.supports(rs.camera_info.serial_number) else ""


def start(rs: Any, context: Any, config: RealSenseConfig, say: Callable[[str], None]) -> Streams:
    """Start colour and depth of the chosen camera, or of a recording.

    Args:
        rs: :func:`library`.
        context: The library's context in which devices are looked for.
        config: Which camera, its streams and its settings.
        say: Gets a sentence for every setting that the camera does not take.

    Raises:
        CameraLostError: It is not connected or cannot be started. Ask again later.
        ConfigError: The recording cannot be played.
    """
    request = rs.config()
    if config.file:
        path = Path(config.file).expanduser()
        if not path.is_file():
            raise ConfigError(f"realsense.file: wanted a recording of librealsense (.db3), found no file {path}.")
        request.enable_device_from_file(str(path), repeat_playback=config.repeat)
        request.enable_stream(rs.stream.depth)
        request.enable_stream(rs.stream.color)
    else:
        request.enable_device(_choose(rs, context, config.serial))
        size = config.width_px, config.height_px
        request.enable_stream(rs.stream.depth, *size, rs.format.z16, config.rate_hz)
        request.enable_stream(rs.stream.color, *size, rs.format.rgb8, config.rate_hz)
    pipeline = rs.pipeline(context)
    try:
        if not config.file:
            set_up(rs, request.resolve(rs.pipeline_wrapper(pipeline)).get_device(), config.exposure, say)
        profile = pipeline.start(request)
    except RuntimeError as error:
        raise _not_started(config, error) from error
    return _streams(rs, pipeline, profile)


def _choose(rs: Any, context: Any, serial: str) -> str:
    """The serial number of the camera to start. Raises CameraLostError when it is not connected."""
    found = [serial_number(rs, device) for device in context.query_devices()]
    listed = ", ".join(found) or "none"
    if not serial and len(found) > 1:
        raise CameraLostError(f"{len(found)} cameras are connected ({listed}): set realsense.serial to one of them.")
    if serial not in found and (serial or not found):
        raise CameraLostError(
            f"Wanted RealSense camera {serial or 'of any serial number'}, found {listed}: check its cable, its USB port, and "
            "librealsense's udev rules."
        )
    return serial or found[0]


def reset(rs: Any, context: Any, serial: str) -> bool:
    """Reset the camera with this serial number, or the only one; returns whether there is one that can be reset."""
    found = [d for d in context.query_devices() if not d.is_playback() and serial in ("", serial_number(rs, d))]
    if len(found) != 1:
        return False
    found[0].hardware_reset()
    return True


def _not_started(config: RealSenseConfig, error: RuntimeError) -> Exception:
    """The exception for a pipeline that does not start."""
    said = str(error).strip().rstrip(".")
    if config.file:
        return ConfigError(
            f"realsense.file: wanted a recording of librealsense with depth and colour, but {config.file} cannot be "
            f"played ({said})."
        )
    if "resolve" in said:
        return CameraLostError(
            f"The camera has no colour and depth of {config.size} at {config.rate_hz} Hz ({said}): set realsense.size and "
            "realsense.rate_hz, or use a USB 3 port and cable."
        )
    return CameraLostError(
        f"The camera cannot be started ({said}): another program may use it, or it needs librealsense's udev rules."
    )


def _streams(rs: Any, pipeline: Any, profile: Any) -> Streams:
    device, color = profile.get_device(), profile.get_stream(rs.stream.color).as_video_stream_profile()
    lens = color.get_intrinsics()
    K = np.array([[lens.fx, 0, lens.ppx], [0, lens.fy, lens.ppy], [0, 0, 1]], dtype=np.float64)
    model = device.get_info(rs.camera_info.name) if device.supports(rs.camera_info.name) else "camera"
    try:
        maps = lens_maps(K, lens)
    except ConfigError:
        pipeline.stop()
        raise
    name, bent = f"{model} {serial_number(rs, device)}".strip(), lens.model.name == BENDS_DEPTH
    return Streams(pipeline, device, color.fps(), lens.width, lens.height, K, maps, bent, name)


def lens_maps(K: F64, lens: Any) -> LensMaps | None:
    """Maps that straighten a lens, from the library's intrinsics; None if there is nothing to straighten.

    Raises:
        ConfigError: A lens that cannot be straightened.
    """
    model, coefficients = lens.model.name, tuple(float(c) for c in lens.coeffs)
    if not any(coefficients) and model != "kannala_brandt4":
        return None
    size = lens.width, lens.height
    if model == "brown_conrady":
        maps = polynomial_maps(K, coefficients, *size)
    elif model in ("modified_brown_conrady", "inverse_brown_conrady"):
        maps = radial_first_maps(K, coefficients, *size)
    elif model == "kannala_brandt4":
        maps = fisheye_maps(K, coefficients[:4], *size)
    else:
        raise ConfigError(f"The camera's lens has the distortion model {model}, which is not known: use realsense-ros.")
    if not maps.in_order:
        raise ConfigError(
            f"With the lens's coefficients {[round(c, 4) for c in coefficients]} the image folds over: calibrate the camera again."
        )
    return maps


# --- options -----------------------------------------------------------------------------------------------------


def set_up(rs: Any, device: Any, exposure: ExposureConfig, say: Callable[[str], None]) -> None:
    """Set exposure, gain, white balance and pattern before the streams start, and stamps by this computer's clock."""
    for sensor in device.query_sensors():
        _set(rs, sensor, "global_time_enabled", 1, None)
        if sensor.is_depth_sensor():
            _set_depth(rs, sensor, exposure, say)
        elif any(profile.stream_type() == rs.stream.color for profile in sensor.get_stream_profiles()):
            _expose(rs, sensor, exposure.color_us, exposure.color_gain, say)
            _set(rs, sensor, "enable_auto_white_balance", float(not exposure.white_balance_k), None)
            if exposure.white_balance_k:
                _set(rs, sensor, "white_balance", exposure.white_balance_k, say)


def _set_depth(rs: Any, sensor: Any, exposure: ExposureConfig, say: Callable[[str], None]) -> None:
    if exposure.preset:  # first, because it sets the others
        _set(rs, sensor, "visual_preset", int(getattr(rs.rs400_visual_preset, exposure.preset)), say)
    _expose(rs, sensor, exposure.depth_us, exposure.depth_gain, say)
    _set(rs, sensor, "emitter_enabled", float(exposure.emitter), None if exposure.emitter else say)
    if exposure.laser_mw:
        _set(rs, sensor, "laser_power", exposure.laser_mw, say)


def _expose(rs: Any, sensor: Any, exposure_us: int, gain: int, say: Callable[[str], None]) -> None:
    """Colour's unit is 100 us, that of the infrared pair 1 us."""
    _set(rs, sensor, "enable_auto_exposure", float(not exposure_us), say if exposure_us else None)
    if exposure_us:
        _set(rs, sensor, "exposure", exposure_us if sensor.is_depth_sensor() else round(exposure_us / 100), say)
        if gain:
            _set(rs, sensor, "gain", gain, say)


def _set(rs: Any, sensor: Any, name: str, value: float, say: Callable[[str], None] | None) -> None:
    """Set an option. ``say`` gets a sentence if the sensor does not take it; None: it may lack the option."""
    option = getattr(rs.option, name)
    if not sensor.supports(option) or sensor.is_option_read_only(option):
        fault = "it has no such option"
    else:
        try:
            sensor.set_option(option, float(value))
            return
        except RuntimeError:
            allowed = sensor.get_option_range(option)
            fault = f"it takes {allowed.min:g} to {allowed.max:g} in steps of {allowed.step:g}"
    if say is not None:
        say(f"{sensor.get_info(rs.camera_info.name)}: {name} {value:g} is not set: {fault}.")


def temperatures(rs: Any, device: Any) -> dict[str, float]:
    """Temperatures in degrees Celsius that a device reports, by the library's names."""
    found = {}
    for sensor in device.query_sensors():
        for name in TEMPERATURES:
            option = getattr(rs.option, name)
            if sensor.supports(option):
                with contextlib.suppress(RuntimeError):  # while the camera is being unplugged
                    found[name] = float(sensor.get_option(option))
    return found
