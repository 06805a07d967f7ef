"""Clocks of a rosbag2: where on the time line of its replay a message belongs.

A bag has two times per message: when it was recorded, by the recorder's clock, and the stamp in its header, by the clock
of whoever stamped it. Mostly both clocks are one. In simulation the stamps are simulated time; a camera's own clock
may be minutes off; and either may jump when a simulation starts again or a clock is set.

Messages whose stamps are equally far from their record times have the same clock: their stamps move by one constant, so
that what belongs together stays together. Each clock gets a constant of its own, so that what came together
comes together again, whatever the clocks said. So a clock that was off while the bag was recorded is on time in the replay.
"""

from __future__ import annotations

from dataclasses import dataclass

APART_NS = 1_000_000_000
"""Stamps further than this from the record time have another clock than the recorder; what is nearer is a message's way."""

GAP_NS = 10_000_000_000
"""A longer silence, or a jump of the recorder's clock, is passed over."""

CLOCKS = 8
"""How many clocks are known at a time."""


@dataclass
class _Clock:
    """One clock besides the recorder's.

    Attributes:
        apart_ns: How far its stamp was from the record time in its last message: slow simulations fall behind.
        shift_ns: From its stamps to the replay's time line.
    """

    apart_ns: int
    shift_ns: int


class BagClocks:
    """The time line of one replay, in order of the messages.

    Args:
        first_ns: Record time of the bag's first message.
    """

    def __init__(self, first_ns: int) -> None:
        self._recorder = _Clock(0, -first_ns)
        self._others: list[_Clock] = []
        self._recorded_ns = first_ns
        self.position_ns = 0
        """How far the replay is: when the last message is due, since the beginning."""

    def place(self, recorded_ns: int, stamp_ns: int) -> int:
        """Take one message.

        Args:
            recorded_ns: When it was recorded.
            stamp_ns: As in its header; 0, which is no time, counts as the record time.

        Returns:
            What to add to its stamp for the time since the replay began [ns].
        """
        passed_ns = min(max(recorded_ns - self._recorded_ns, 0), GAP_NS)
        self._recorded_ns = recorded_ns
        now_ns = self.position_ns + passed_ns
        apart_ns = stamp_ns - recorded_ns if stamp_ns else 0
        clock = min([self._recorder, *self._others], key=lambda clock: abs(clock.apart_ns - apart_ns))
        if abs(clock.apart_ns - apart_ns) > APART_NS:
            clock = _Clock(apart_ns, now_ns - stamp_ns)
            self._others = [*self._others, clock][-CLOCKS:]
        own = clock is self._recorder
        due_ns = (recorded_ns if own else stamp_ns) + clock.shift_ns
        if not -APART_NS <= due_ns - self.position_ns <= GAP_NS:
            clock.shift_ns += now_ns - due_ns
            due_ns = now_ns
        if not own:
            clock.apart_ns = apart_ns
        self.position_ns = max(self.position_ns, due_ns)
        return clock.shift_ns
