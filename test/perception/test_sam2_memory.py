"""What is made of the video model's answers: ids, things that go, come back, drift or double. The network is scripted."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stvla_ros.perception.sam2.evidence import Surface, Surroundings
from stvla_ros.perception.sam2.masks import MaskLimits
from stvla_ros.perception.sam2.memory import Memory
from stvla_ros.perception.sam2.network import Picture
from stvla_ros.perception.sam2.proposals import claimed

SIDE = 64
LIMITS = MaskLimits(score=0.5, stability=0.5, share=0.3, background=0.5, min_area=0.002)
PICTURE = Picture((SIDE, SIDE), torch.zeros(1, 3, SIDE, SIDE), [torch.zeros(1)], [torch.zeros(1)])


def square(x: int, y: int, size: int = 10) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y : y + size, x : x + size] = True
    return mask


@dataclass
class Script:
    """Answers for each thing, which is known by the mask that it was started with.

    ``answers[name](frame)`` is the mask in that frame, or None where the model says that the thing is hidden.
    """

    things: dict[str, np.ndarray]
    answers: dict[str, Callable[[int], np.ndarray | None]]
    names: dict[int, str] = field(default_factory=dict)

    def __call__(self, inference_session: Any, frame: torch.Tensor, frame_idx: int) -> SimpleNamespace:
        given = inference_session.mask_inputs_per_obj[0].get(frame_idx)
        if given is not None:
            fits = {name: (given[0, 0].numpy() > 0)[mask].mean() for name, mask in self.things.items()}
            self.names[id(inference_session)] = max(fits, key=lambda name: fits[name])
            mask: np.ndarray | None = given[0, 0].numpy() > 0
        else:
            mask = self.answers[self.names[id(inference_session)]](frame_idx)
        shown = np.zeros((SIDE, SIDE), bool) if mask is None else mask
        logits = torch.from_numpy(np.where(shown, 8.0, -8.0))[None, None]
        return SimpleNamespace(pred_masks=logits, object_score_logits=torch.tensor([-5.0 if mask is None else 5.0]))


def memory(patience: int = 2, **answers: Callable[[int], np.ndarray | None]) -> Memory:
    things = {"a": square(5, 5), "b": square(40, 40)}
    still = {name: lambda _, mask=mask: mask for name, mask in things.items()}
    model = Script(things, {**still, **answers})
    model.config = SimpleNamespace(num_maskmem=3, max_object_pointers_in_encoder=4)  # type: ignore[attr-defined]
    network = SimpleNamespace(
        model=model,
        size_px=SIDE,
        mask_shape=(SIDE, SIDE),
        device=torch.device("cpu"),
        autocast=lambda: torch.autocast("cpu", enabled=False),
    )
    made = Memory(network, LIMITS, 0.7, patience)  # type: ignore[arg-type]
    assert made.follow(PICTURE, scene()) == {}
    assert sorted(made.add(PICTURE, {}, [(square(5, 5), 0.9), (square(40, 40), 0.9)])) == [1, 2]
    return made


def scene(table: np.ndarray | None = None, arm: np.ndarray | None = None) -> Surroundings:
    surface = np.full((SIDE, SIDE), Surface.STANDING, np.uint8)
    if table is not None:
        surface[table] = Surface.SUPPORT
    if arm is not None:
        surface[arm] = Surface.ROBOT
    return Surroundings(surface, np.zeros((SIDE, SIDE), np.float32), 640)


def ids(made: Memory, frames: int, around: Surroundings | None = None) -> list[list[int]]:
    return [sorted(made.follow(PICTURE, around or scene())) for _ in range(frames)]


def test_ids_follow_what_moves() -> None:
    made = memory(a=lambda k: square(5 + 2 * k, 5))
    for k in range(1, 8):
        seen = made.follow(PICTURE, scene())
        assert (seen[1] == square(5 + 2 * k, 5)).all()
        assert (seen[2] == square(40, 40)).all()


def test_what_is_hidden_keeps_its_id_until_patience_ends() -> None:
    made = memory(patience=2, a=lambda k: None if 3 <= k < 5 else square(5, 5))
    assert ids(made, 6) == [[1, 2], [1, 2], [2], [2], [1, 2], [1, 2]]
    made = memory(patience=1, a=lambda k: None if 3 <= k < 5 else square(5, 5))
    assert ids(made, 6) == [[1, 2], [1, 2], [2], [2], [2], [2]]


def test_a_forgotten_id_is_never_given_again() -> None:
    made = memory(patience=0, b=lambda k: None)
    assert ids(made, 2) == [[1], [1]]
    assert sorted(made.add(PICTURE, {}, [(square(40, 40), 0.9)])) == [3]


@pytest.mark.parametrize(
    "drifted", [np.ones((SIDE, SIDE), bool), square(20, 40), square(9, 9, 2), np.zeros((SIDE, SIDE), bool)]
)
def test_a_mask_that_drifts_off_is_not_shown(drifted: np.ndarray) -> None:
    """Over the whole frame, onto the table, to a crumb, or to nothing."""
    made = memory(patience=1, a=lambda k: drifted)
    assert ids(made, 3, scene(table=square(20, 40))) == [[2], [2], [2]]
    assert sorted(made._tracks) == [2]


def test_of_two_on_one_thing_the_older_stays() -> None:
    made = memory(patience=1, b=lambda k: square(5, 6))
    assert ids(made, 3) == [[1], [1], [1]]
    assert sorted(made._tracks) == [1]


def test_what_the_hand_holds_is_not_lost() -> None:
    made = memory(patience=1)
    assert ids(made, 5, scene(arm=square(0, 0, 20))) == [[2]] * 5
    assert ids(made, 1) == [[1, 2]]


def test_only_what_is_new_gets_an_id() -> None:
    """What overlaps a thing by half is that thing; a part of one is new when the model says so. No id is used up."""
    made = memory()
    seen = made.follow(PICTURE, scene())
    known = [(square(5, 5), 0.9), (square(7, 6), 0.9), (square(5, 5, 5), 0.0)]
    assert sorted(made.add(PICTURE, seen, known)) == [1, 2]
    new = made.add(PICTURE, seen, [(square(6, 6, 5), 0.9), (square(20, 50), 0.0), (square(10, 5), 0.0)])
    assert sorted(new) == [1, 2, 3, 4, 5]
    assert (new[3] == square(6, 6, 5)).all()
    assert (new[4] == square(20, 50)).all()


def test_a_region_belongs_to_the_mask_that_lies_mostly_in_it() -> None:
    labels = (np.where(square(5, 5), 1, 0) + np.where(square(15, 5), 2, 0) - square(40, 40)).astype(np.int32)
    spilled = square(5, 5) | square(15, 5, 4)
    assert claimed(labels, [spilled]) == {1}
    assert claimed(labels, [spilled, square(16, 5)]) == {1, 2}
    assert claimed(labels, [square(40, 40), square(50, 5), np.zeros_like(spilled)]) == set()


def test_a_mask_that_the_model_cannot_see_is_not_followed() -> None:
    made = memory()
    assert made.add(PICTURE, {}, [(np.zeros((SIDE, SIDE), bool), 0.9)]) == {}
