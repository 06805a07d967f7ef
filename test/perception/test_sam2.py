"""The sam2 segmenter with a small SAM 2 that was trained on scenes like these (``test/golden/sam2_tiny``)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray_caster import Scene, block, front_camera, home_robot, with_holes

from stvla_ros import registry
from stvla_ros.config import ConfigError, build, read_parameters
from stvla_ros.geometry.cameras import cloud
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.perception.sam2.checkpoint import load
from stvla_ros.perception.sam2.evidence import Evidence, Surface, reduced, surroundings
from stvla_ros.perception.sam2.masks import MaskLimits, acceptable, grid_points
from stvla_ros.perception.sam2.network import PROMPTS_AT_ONCE, Network, Picture
from stvla_ros.perception.sam2.proposals import Proposer
from stvla_ros.perception.sam2.segmenter import Sam2Config, Sam2Segmenter
from stvla_ros.tabletop.self_filter import robot_mask
from stvla_ros.types import RgbdFrame

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "test" / "golden" / "sam2_tiny")

EASY = {"min_score": 0.6, "min_stability": 0.8}
"""A mask of 64 pixels is never as stable as one of 256."""

LIMITS = MaskLimits(0.6, 0.8, 0.25, 0.5)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """So that sums come out the same and tests beside this one keep their time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def segmenter(**settings: Any) -> Sam2Segmenter:
    made: Sam2Segmenter = registry.create("segmenter", "sam2", {"model": TINY, "device": "cpu", **EASY, **settings})
    return made


@cache
def network() -> Network:
    return Network(load(TINY, memory=False, where="model"), torch.device("cpu"), bf16=False)


def blocks(*places: tuple[str, float, float]) -> Scene:
    return Scene([block(colour, x, y, yaw=3 * x, size=0.06, z=0.03) for colour, x, y in places])


THREE = blocks(("red", 0.5, 0.1), ("blue", 0.58, -0.1), ("green", 0.4, -0.04))


def render(scene: Scene, size: tuple[int, int] = (320, 240), stamp: int = 0) -> tuple[RgbdFrame, np.ndarray]:
    return scene.render(front_camera(*size, 28.0), noise_m=0.001, seed=stamp, stamp_ns=stamp)


def overlap(labels: np.ndarray, truth: np.ndarray) -> tuple[float, int]:
    """IoU of the instance that fits best, and its id."""
    ids = [i for i in np.unique(labels) if i > 0]
    return max((((labels == i) & truth).sum() / ((labels == i) | truth).sum(), int(i)) for i in [*ids, 10**6])


@pytest.mark.parametrize(
    ("size", "prompts"),
    [
        ((256, 256), "geometric"),
        ((640, 480), "geometric"),
        ((640, 480), "grid"),
        ((1280, 720), "grid"),
        ((333, 251), "grid"),
    ],
)
def test_instances_match_the_truth_at_any_size(size: tuple[int, int], prompts: str) -> None:
    frame, ids = render(THREE, size)
    segments = segmenter(prompts=prompts, grid_side=16).segment(frame, home_robot())
    assert segments.labels.shape == (size[1], size[0])
    found = [overlap(segments.labels, ids == i) for i in (1, 2, 3)]
    assert min(iou for iou, _ in found) > 0.8
    assert segments.ids == tuple(sorted(i for _, i in found))


def evidence_of(frame: RgbdFrame, labels: np.ndarray) -> Evidence:
    points = cloud(frame)
    around = surroundings(points, np.zeros(labels.shape, bool), frame.camera)
    return Evidence(around, frame.rgb, points, frame.depth_m, labels)


def dots(labels: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    """Regions of a few pixels: what becomes more than that comes from the model."""
    out = np.zeros_like(labels)
    for i in ids:
        y, x = (int(v) for v in np.median(np.nonzero(labels == i), axis=1))
        out[y - 1 : y + 2, x - 1 : x + 2] = i + 1
    return out


def proposed(scene: Scene, points_on: Sequence[int], net: Any = None) -> tuple[list[Any], np.ndarray]:
    """Proposals for one point on each of these things (0 is the table), and the truth."""
    frame, ids = render(scene)
    proposer = Proposer(net or network(), LIMITS, 0.7, None)
    return proposer.propose(network().encode(frame.rgb), evidence_of(frame, dots(ids, points_on))), ids


def test_one_point_is_enough() -> None:
    found, ids = proposed(THREE, [1, 2, 3])
    ious = [(mask & (ids == i)).sum() / (mask | (ids == i)).sum() for i, (mask, _) in enumerate(found, start=1)]
    assert min(ious) > 0.8
    assert min(score for _, score in found) > 0.6


def test_the_table_is_no_instance_though_the_model_sees_it() -> None:
    """Asked on the table, the model gives the table, most of the frame."""
    frame, _ = render(THREE)
    (logits, scores), *_ = network().prompt(network().encode(frame.rgb), np.array([[20.0, 200.0]]))
    assert (logits[scores.argmax()] > 0).mean() > 0.5
    assert scores.max() > 0.6
    found, ids = proposed(THREE, [0, 1])
    assert len(found) == 1
    assert overlap(found[0][0].astype(int), ids == 1)[0] > 0.8


class Scripted:
    """In place of the network alone: answers with given masks to every point."""

    mask_shape = (60, 80)

    def __init__(self, logits: np.ndarray, scores: np.ndarray) -> None:
        self._answer = logits.astype(np.float32), scores.astype(np.float32)

    def prompt(self, picture: Picture, px: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield from [self._answer] * len(px)


@pytest.mark.parametrize("scores", [[0.99, 0.9, 0.7], [0.99, np.nan, 0.7], [np.nan, np.nan, 0.9]])
def test_a_mask_that_swallows_the_frame_never_wins(scores: list[float]) -> None:
    """Of frame, nothing and a thing, the thing is taken, whatever the model thinks of the others."""
    _, ids = render(THREE)
    thing = (ids == 1)[::4, ::4]
    logits = np.stack([np.full(thing.shape, 9.0), np.full(thing.shape, -9.0), np.where(thing, 9.0, -9.0)])
    found, ids = proposed(THREE, [1], Scripted(logits, np.array(scores)))
    assert len(found) == 1
    assert overlap(found[0][0].astype(int), ids == 1)[0] > 0.7
    assert found[0][1] == pytest.approx(scores[2])


def test_two_points_on_one_thing_give_one_instance() -> None:
    _, ids = render(THREE)
    thing = np.where((ids == 1)[::4, ::4], 9.0, -9.0)
    found, _ = proposed(THREE, [1, 1], Scripted(np.stack([thing] * 3), np.array([0.9] * 3)))
    assert len(found) == 1


def automatic_by_definition(frame: RgbdFrame, side: int) -> list[np.ndarray]:
    """Masks of an automatic generator that asks the library's own model point by point and compares pair by pair."""
    model, net = network().model, network()
    picture = net.encode(frame.rgb)
    around = surroundings(cloud(frame), np.zeros(frame.depth_m.shape, bool), frame.camera)
    small = reduced(around, net.mask_shape)
    candidates = []
    for x, y in grid_points(picture.shape, side):
        if around.surface[round(y), round(x)] not in (Surface.STANDING, Surface.BLIND):
            continue
        scale = np.array([256 / picture.shape[1], 256 / picture.shape[0]])
        at = torch.tensor((np.array([x, y]) + 0.5) * scale - 0.5, dtype=torch.float32).reshape(1, 1, 1, 2)
        with torch.inference_mode():
            out = model(pixel_values=picture.pixels, input_points=at)
        for logits, score in zip(out.pred_masks[0, 0].numpy(), out.iou_scores[0, 0].tolist()):
            u, v = ((np.array([x, y]) + 0.5) * scale / 4 - 0.5).round().astype(int)
            if logits[v, u] > 0 and acceptable(logits[None], np.array([score], np.float32), small, LIMITS)[0]:
                candidates.append((score, logits > 0, torch.from_numpy(logits.copy())))
    kept: list[Any] = []
    for score, mask, logits in sorted(candidates, key=lambda c: -c[0]):
        if all((mask & other).sum() <= 0.7 * (mask | other).sum() for _, other, _ in kept):
            kept.append((score, mask, logits))
    resize = torch.nn.functional.interpolate
    return [(resize(c[None, None], picture.shape, mode="bilinear") > 0)[0, 0].numpy() for _, _, c in kept]


def test_automatic_masks_are_those_of_the_definition() -> None:
    frame, ids = render(blocks(("red", 0.5, 0.1), ("blue", 0.58, -0.1), ("green", 0.4, -0.04), ("yellow", 0.42, 0.16)))
    proposer = Proposer(network(), LIMITS, 0.7, 16)
    found = proposer.propose(network().encode(frame.rgb), evidence_of(frame, np.zeros_like(ids)))
    wanted = automatic_by_definition(frame, 16)
    assert len(found) == len(wanted) >= 4
    for (mask, _), right in zip(found, wanted):
        assert (mask != right).mean() < 1e-3


def test_prompts_do_not_depend_on_each_other() -> None:
    """More points than fit into one call give what each gives alone."""
    picture = network().encode(render(THREE)[0].rgb)
    px = np.random.default_rng(0).uniform(0, 239, (PROMPTS_AT_ONCE + 3, 2))
    together = list(network().prompt(picture, px))
    assert len(together) == len(px)
    for k in (0, PROMPTS_AT_ONCE - 1, PROMPTS_AT_ONCE, len(px) - 1):
        ((logits, scores),) = network().prompt(picture, px[k : k + 1])
        assert np.abs(together[k][0] - logits).max() < 1e-3
        assert np.abs(together[k][1] - scores).max() < 1e-4
    assert list(network().prompt(picture, np.empty((0, 2)))) == []


@pytest.mark.parametrize("memory", [False, True])
def test_bfloat16_agrees_with_float32(memory: bool) -> None:
    results = []
    for precision in ("float32", "bf16"):
        made = segmenter(precision=precision, memory=memory)
        results.append([made.segment(render(THREE, stamp=k)[0], home_robot()).labels for k in range(3)])
    for exact, rough in zip(*results):
        assert exact.max() == rough.max() == 3
        assert (exact != rough).mean() < 0.003
    assert any((exact != rough).any() for exact, rough in zip(*results))  # the setting arrived


@pytest.mark.parametrize("memory", [False, True])
def test_the_same_frames_give_the_same_instances(memory: bool) -> None:
    runs = []
    for _ in range(2):
        made = segmenter(memory=memory)
        runs.append([made.segment(render(THREE, stamp=k)[0], home_robot()).labels for k in range(3)])
    for one, other in zip(*runs):
        assert (one == other).all()


def test_the_robot_and_what_it_holds_are_no_instances() -> None:
    scene = Scene([block("red", 0.5, 0.0, z=0.2, size=0.04), block("blue", 0.5, 0.2, size=0.06, z=0.03)])
    frame, ids = render(scene, (640, 480))
    robot = replace(home_robot(0.04), T_base_tcp=tool_down([0.5, 0.0, 0.2], np.pi / 2))
    for prompts in ("geometric", "grid"):
        labels = segmenter(prompts=prompts, grid_side=16).segment(frame, robot).labels
        assert ((labels == -1) == robot_mask(cloud(frame), robot)).all()
        assert (labels[ids == 1] == -1).mean() > 0.9


@pytest.mark.parametrize("prompts", ["geometric", "grid"])
@pytest.mark.parametrize("memory", [False, True])
def test_a_frame_without_depth_has_no_instances(prompts: str, memory: bool) -> None:
    frame, _ = render(THREE)
    made = segmenter(prompts=prompts, grid_side=6, memory=memory)
    for depth in (np.nan, 0.0, -1.0, np.inf):
        blind = RgbdFrame(frame.rgb, np.full_like(frame.depth_m, depth), frame.camera, 0)
        assert made.segment(blind, home_robot()).ids == ()


def test_holes_in_the_depth_do_no_harm() -> None:
    frame, ids = render(THREE)
    holed = RgbdFrame(frame.rgb, with_holes(frame.depth_m, 0.3, 1), frame.camera, 0)
    labels = segmenter(prompts="grid", grid_side=16).segment(holed, home_robot()).labels
    assert min(overlap(labels, ids == i)[0] for i in (1, 2, 3)) > 0.8


@pytest.mark.parametrize("memory", [False, True])
def test_a_thing_without_depth_is_found_where_the_model_sees_it(memory: bool) -> None:
    """Depth has a hole on the table with the outline of a block; what the model sees elsewhere stays right."""
    made = segmenter(prompts="grid", grid_side=16, memory=memory)
    for stamp in range(2):
        frame, ids = render(THREE, stamp=stamp)
        blind = RgbdFrame(frame.rgb, np.where(ids == 1, np.float32(np.nan), frame.depth_m), frame.camera, stamp)
        segments = made.segment(blind, home_robot())
        assert min(overlap(segments.labels, ids == i)[0] for i in (1, 2, 3)) > 0.8
        assert len(segments.ids) == 3


@pytest.mark.parametrize("prompts", ["geometric", "grid"])
@pytest.mark.parametrize("memory", [False, True])
def test_what_the_model_is_unsure_of_comes_from_depth(prompts: str, memory: bool) -> None:
    frame, ids = render(THREE)
    segments = segmenter(prompts=prompts, grid_side=6, memory=memory, min_score=1.0).segment(frame, home_robot())
    assert segments.ids == (1, 2, 3)
    assert min(overlap(segments.labels, ids == i)[0] for i in (1, 2, 3)) > 0.8


@pytest.mark.parametrize("memory", [False, True])
def test_broken_weights_never_crash(memory: bool) -> None:
    """All answers are NaN: what the geometric segmenter saw is taken as it is."""
    for prompts in ("geometric", "grid"):
        made = segmenter(prompts=prompts, memory=memory, look_again=1)
        with torch.no_grad():
            for parameter in made._network.model.parameters():
                parameter.fill_(torch.nan)
        for stamp in range(2):
            assert len(made.segment(render(THREE, stamp=stamp)[0], home_robot()).ids) == 3


def sliding(stamp: int, *more: tuple[str, float, float]) -> Scene:
    """The red block slides along the table by 8 mm a frame, the blue one stays."""
    return blocks(("red", 0.42, -0.12 + 0.008 * stamp), ("blue", 0.56, 0.1), *more)


def test_ids_stay_with_a_moving_thing() -> None:
    made = segmenter(memory=True, look_again=4)
    for stamp in range(16):
        frame, ids = render(sliding(stamp), stamp=stamp)
        segments = made.segment(frame, home_robot())
        (red, first), (blue, second) = overlap(segments.labels, ids == 1), overlap(segments.labels, ids == 2)
        assert segments.ids == (1, 2)
        assert {first, second} == {1, 2}
        assert min(red, blue) > 0.6
        if stamp == 0:
            began = first
        assert first == began


def test_things_that_come_and_go() -> None:
    """A third block appears, is found at the next look, and goes; the others keep their ids all the time."""
    made = segmenter(memory=True, look_again=3, patience=4)
    seen = []
    for stamp in range(14):
        scene = sliding(0, ("green", 0.4, 0.08)) if 4 <= stamp < 9 else sliding(0)
        seen.append(made.segment(render(scene, stamp=stamp)[0], home_robot()).ids)
    assert seen[:6] == [(1, 2)] * 6
    assert seen[6:9] == [(1, 2, 3)] * 3
    assert seen[9:] == [(1, 2)] * 5
    assert set(made._memory._tracks) == {1, 2}


def test_a_thing_that_comes_back_keeps_its_id() -> None:
    made = segmenter(memory=True, look_again=100, patience=10)
    seen = []
    for stamp in range(8):
        scene = blocks(("blue", 0.56, 0.1)) if 3 <= stamp < 5 else sliding(0)
        seen.append(made.segment(render(scene, stamp=stamp)[0], home_robot()).ids)
    assert seen[2] == (1, 2)
    assert len(seen[3]) == 1
    assert seen[5:] == [(1, 2)] * 3


def test_an_older_frame_or_another_size_starts_anew() -> None:
    made = segmenter(memory=True)
    for stamp in (5, 6):
        assert made.segment(render(sliding(stamp), stamp=stamp)[0], home_robot()).ids == (1, 2)
    before = made._memory
    made.segment(render(sliding(0), stamp=0)[0], home_robot())
    assert made._memory is not before
    before = made._memory
    assert made.segment(render(sliding(0), (256, 192), stamp=1)[0], home_robot()).ids == (1, 2)
    assert made._memory is not before


def test_memory_does_not_grow() -> None:
    made = segmenter(memory=True, look_again=100)

    def size() -> int:
        kept = 0
        for track in made._memory._tracks.values():
            for outputs in track._session.output_dict_per_obj[0].values():
                kept += sum(value.numel() for frame in outputs.values() for value in frame.values())
            assert track._session.processed_frames == {}
        return kept

    sizes = []
    for stamp in range(12):
        made.segment(render(sliding(0), stamp=stamp)[0], home_robot())
        sizes.append(size())
    assert 0 < sizes[1] < sizes[5] == sizes[-1]
    assert sizes[-1] < 500_000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "gpu"}, r"segmenter\.sam2\.device: wanted auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"device": "meta"}, "wanted auto, cpu, cuda or cuda:N, got 'meta'"),
        ({"device": "cuda:99"}, r"'cuda:99' is not there.*requirements/learned\.txt"),
        ({"precision": "fp8"}, "wanted one of auto, bf16, float32"),
        ({"max_share": 1.5}, "wanted 0.001 to 1.0"),
        ({"grid_size": 4}, "Did you mean 'grid_side'"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        segmenter(**settings)


def test_the_parameter_file_has_the_settings() -> None:
    given = read_parameters(ROOT / "config" / "stvla.yaml")["guidance"]
    assert given["segmenter"] == "geometric"
    assert build(Sam2Config, given["sam2"], "guidance.sam2").model == ""
