"""Episodes of push_buttons cut into single presses (paper, appendix D)."""

from __future__ import annotations

from stvla_ros.data.episode import Episode


def single_presses(episode: Episode, before: int = 1, after: int = 1) -> list[Episode]:
    """One part per press, with the words of that press: "Push the red button."

    The paper cuts demonstrations every two keyposes, above and pressed: ``after=0``. Our loop also asks the policy to
    go up again before the next plan, so that belongs to a press here unless told otherwise.

    Args:
        episode: Of push_buttons: a press is a keypose that may collide.
        before: Keyposes before the press.
        after: Keyposes after it, as far as there are any before the next press begins.
    """
    presses = [i for i, keypose in enumerate(episode.keyposes) if keypose.may_collide]
    ends = [press - before for press in presses[1:]] + [len(episode)]
    parts = []
    for press, end in zip(presses, ends, strict=True):
        words = episode.plan_of(press).sub_instruction.strip().rstrip(".")
        first, last = max(press - before, 0), max(min(press + after + 1, end), press + 1)
        parts.append(episode.part(first, last, f"{words[:1].upper()}{words[1:]}."))
    return parts
