"""A RealSense camera driven through librealsense: always streaming, found again after it was unplugged."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from stvla_ros.camera.device import CameraLostError, Streams, library, reset, start, temperatures
from stvla_ros.camera.framesets import Counts, DepthFilters, Pair, PairFilter
from stvla_ros.camera.settings import RealSenseConfig
from stvla_ros.camera.stamps import FrameClock, StampError
from stvla_ros.config import ConfigError
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.types import F64, Camera, RgbdFrame

LOOK_S = 0.1
"""How often the reading thread looks whether it must end, or the camera was unplugged."""

TEMPERATURE_S = 10.0
"""How often the temperatures are read."""

RATE_FRAMES = 60
"""The frame rate is measured over this many frames."""


class RealSenseCamera:
    """Colour with aligned depth from a RealSense camera, as a FrameSource and as a stream.

    A thread reads, filters and stamps the frames; it starts the streams again when they fall silent, and waits for the
    camera when it is unplugged. Images are straightened: the frames' camera is a pinhole.

    Args:
        config: Which camera, and its settings.
        T_base_camera: (4, 4) pose of the optical frame of colour in the base frame, which every frame gets.
        frame_id: Name of the optical frame of colour.
        on_frame: Called in the reading thread with every frame.
        say: Called in any thread with sentences for the log: what went wrong, and what works again.
        now_ns: The clock of stamps [ns].

    Raises:
        ConfigError: pyrealsense2 cannot be imported, or the recording cannot be played.
    """

    Config = RealSenseConfig

    def __init__(
        self,
        config: RealSenseConfig,
        T_base_camera: F64 | None = None,
        frame_id: str = "camera_color_optical_frame",
        on_frame: Callable[[RgbdFrame], None] | None = None,
        say: Callable[[str], None] = lambda _: None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._rs = library()
        self._config, self._on_frame, self._say, self._now_ns = config, on_frame, say, now_ns
        self._T, self._frame_id = np.eye(4) if T_base_camera is None else T_base_camera, frame_id
        self._clock = self._new_clock()
        self.counts = Counts()
        self.context = self._rs.context()
        """The library's context, in which the camera is looked for."""
        self._changed, self._end = threading.Event(), threading.Event()
        self._device: Any = None
        self._gone = False
        self._temperatures: dict[str, float] = {}
        self._arrivals: deque[float] = deque(maxlen=RATE_FRAMES)
        self._new = threading.Condition()
        self._newest: tuple[RgbdFrame, float] | None = None
        self._trouble = "The camera is being started."
        self.outage_s = 0.0
        """How long the last interruption of the frames was."""
        self._first = start(self._rs, self.context, config, say) if config.file else None
        self.context.set_devices_changed_callback(self._on_change)
        self._thread = threading.Thread(target=self._run, name="realsense", daemon=True)
        self._thread.start()

    # --- for whoever uses the frames ------------------------------------------------------------------------------

    def capture(self) -> RgbdFrame:
        """The newest frame, waited for as ``timeout_s`` says.

        Raises:
            StageError: STALE_IMAGE when none came that is younger than ``max_age_s``, with the reason.
        """
        until = time.monotonic() + self._config.timeout_s
        with self._new:
            while (frame := self._fresh()) is None:
                left_s = until - time.monotonic()
                if left_s <= 0 or not self._new.wait(left_s):
                    raise StageError(OutcomeCode.STALE_IMAGE, self._why_none())
        return frame

    @property
    def trouble(self) -> str:
        """Why no frames come, in a sentence; empty while they come."""
        with self._new:
            return "" if self._fresh() is not None else self._why_none()

    @property
    def rate_hz(self) -> float:
        """Frames per second, lately; 0 when none came for ``max_age_s``."""
        times = list(self._arrivals)
        if len(times) < 2 or time.monotonic() - times[-1] > self._config.max_age_s:
            return 0.0
        return (len(times) - 1) / (times[-1] - times[0])

    def diagnostics(self) -> dict[str, str]:
        """Rate, what was dropped, the last interruption, drift and temperatures, for people."""
        drift = self._clock.drift
        return {
            "image rate [Hz]": f"{self.rate_hz:.1f}",
            "images": str(self.counts.frames),
            "starts": str(self.counts.starts),
            "dropped": str(self.counts),
            "last interruption [s]": f"{self.outage_s:.2f}",
            **({} if drift is None else {"drift of its clock [ppm]": f"{drift * 1e6:.1f}"}),
            **{f"{name.replace('_', ' ')} [°C]": f"{value:.0f}" for name, value in self._temperatures.items()},
        }

    def close(self, timeout_s: float = 2.0) -> bool:
        """End the streams; False when the library does not end within the time."""
        self._end.set()
        self._changed.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _fresh(self) -> RgbdFrame | None:
        if self._newest is None:
            return None
        frame, arrival_s = self._newest
        age_s = max(time.monotonic() - arrival_s, (self._now_ns() - frame.stamp_ns) / 1e9)
        return frame if age_s <= self._config.max_age_s else None

    def _why_none(self) -> str:
        if self._trouble:
            return self._trouble
        return f"The newest image is older than {self._config.max_age_s:g} s: the camera is silent."

    # --- the reading thread ---------------------------------------------------------------------------------------

    def _on_change(self, info: Any) -> None:
        """A camera was plugged in or unplugged; called in a thread of the library."""
        device = self._device
        if device is not None and info.was_removed(device):
            self._gone = True
        self._changed.set()

    def _run(self) -> None:
        barren = 0  # starts in a row without a frame
        while not self._end.is_set():
            self._changed.clear()
            before = self.counts.frames
            try:
                self._read(self._first or start(self._rs, self.context, self._config, self._say))
            except (CameraLostError, ConfigError) as error:
                self._note(str(error))
            else:
                return
            self._device, self._first = None, None
            barren = 0 if self.counts.frames > before else barren + 1
            self._reset_if(barren)
            self._changed.wait(self._config.retry_s)

    def _read(self, streams: Streams) -> None:
        """Read until :meth:`close`, or to the end of a recording.

        Raises:
            CameraLostError: The camera was unplugged, fell silent or failed.
        """
        self._device, self._gone = streams.device, False
        self.counts.starts += 1
        try:
            self._pass_on(streams)
        except RuntimeError as error:
            raise CameraLostError(f"{streams.name} failed ({error}): its streams are started again.") from error
        finally:
            streams.stop()
        if not self._end.is_set():
            self._note(f"{self._config.file}: the recording has been played to its end (realsense.repeat is false).")

    def _pass_on(self, streams: Streams) -> None:
        config = self._config
        pairs = PairFilter(config.pair_within_s or 0.5 / max(streams.rate_hz, 1), self.counts)
        filters, self._clock = DepthFilters(self._rs, config.filters), self._new_clock()
        last_s, limit_s, measured_s = time.monotonic(), config.first_s, -TEMPERATURE_S
        while not self._end.is_set():
            if time.monotonic() - measured_s > TEMPERATURE_S:
                measured_s, self._temperatures = time.monotonic(), temperatures(self._rs, streams.device)
            if self._gone:
                raise CameraLostError(f"{streams.name} was unplugged: plug it in again.")
            came, frameset = streams.pipeline.try_wait_for_frames(round(LOOK_S * 1e3))
            arrival_ns = self._now_ns()
            pair = pairs.take(frameset) if came else None
            if pair is not None:
                last_s, limit_s = time.monotonic(), config.silent_s
                self._deliver(pair, streams, filters, arrival_ns)
            elif time.monotonic() - last_s > limit_s:
                raise CameraLostError(self._silence(streams, time.monotonic() - last_s, came))
            elif not came and config.file and not config.repeat and streams.ended():  # repeated: it stops in between
                return

    def _new_clock(self) -> FrameClock:
        """For one start of the streams: a camera that was unplugged counts anew."""
        return FrameClock(self._config.estimate_stamps or bool(self._config.file), self._config.least_delay_s)

    def _silence(self, streams: Streams, silent_s: float, came: bool) -> str:
        what = "pairs of colour and depth" if came else "images"
        dropped = f" (dropped: {self.counts})" if came else ""
        return f"{streams.name} has sent no {what} for {silent_s:.1f} s{dropped}: its streams are started again."

    def _deliver(self, pair: Pair, streams: Streams, filters: DepthFilters, arrival_ns: int) -> None:
        try:
            stamp_ns = self._clock.stamp_ns(pair.stamp_ms, pair.domain, arrival_ns)
        except StampError as error:
            self.counts.wrong_stamp += 1
            if self._fresh() is None:  # one bad stamp among good ones is only counted
                self._note(f"Images of {streams.name} are dropped for their stamps: {error}.")
            return
        rgb, depth_m = filters(pair.frameset)
        camera = Camera(streams.K, streams.width_px, streams.height_px, self._T, self._frame_id)
        frame = RgbdFrame(rgb, depth_m, camera, stamp_ns)
        if streams.maps is not None:
            frame = streams.maps.straighten(frame, streams.depth_bent)
        self._keep(frame, streams)

    def _keep(self, frame: RgbdFrame, streams: Streams) -> None:
        now_s = time.monotonic()
        with self._new:
            before = self._newest
            self._newest = frame, now_s
            self.counts.frames += 1
            self._arrivals.append(now_s)
            trouble, self._trouble = self._trouble, ""
            self._new.notify_all()
        if trouble and before is not None:
            self.outage_s = now_s - before[1]
            self._say(f"{streams.name} sends images again, after {self.outage_s:.2f} s.")
        if self._on_frame is not None:
            self._on_frame(frame)

    def _note(self, sentence: str) -> None:
        """Keep why no frames come, and say it once."""
        with self._new:
            known, self._trouble = self._trouble == sentence, sentence
        if not known:
            self._say(sentence)

    def _reset_if(self, barren: int) -> None:
        """Reset the camera after several starts in a row without a frame; it comes back as if it was plugged in."""
        after = self._config.reset_after
        if after and barren and barren % after == 0 and reset(self._rs, self.context, self._config.serial):
            self._say(f"The RealSense camera was reset after {barren} starts without an image.")
