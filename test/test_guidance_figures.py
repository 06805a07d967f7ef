"""The figures of the guidance benchmark are right on images whose figures are known."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.guidance import against, grain, holes, instances
from stvla_ros.types import U8, Camera, RgbdFrame

SHAPE = (120, 160)
ALL = np.ones(SHAPE, bool)
CAMERA = Camera(np.array([[150.0, 0, 80], [0, 150.0, 60], [0, 0, 1]]), 160, 120, np.eye(4))


def grey(values: np.ndarray) -> U8:
    return np.repeat(np.clip(np.rint(values), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def noise(seed: int, sigma: float = 6.0) -> np.ndarray:
    return np.asarray(128 + np.random.default_rng(seed).normal(0, sigma, SHAPE))


def block(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[rows, columns] = True
    return mask


def test_error_is_split_into_coarse_and_fine() -> None:
    where = block(slice(20, 100), slice(30, 130))
    coarse = grain.split_error(np.full(SHAPE, 3.0), where)
    assert coarse == pytest.approx({"": 3.0, "_low": 3.0, "_fine": 0.0}, abs=1e-6)
    chequers = grain.split_error(3.0 * (-1.0) ** np.add.outer(np.arange(120), np.arange(160)), where)
    assert chequers[""] == pytest.approx(3.0)
    assert chequers["_low"] < 0.3
    assert chequers["_fine"] == pytest.approx(3.0, abs=0.1)


def test_spectrum_of_white_noise_is_its_variance_in_every_band() -> None:
    bands = [grain.spectrum(noise(seed).astype(np.float32), ALL) for seed in range(8)]
    assert np.mean(bands, axis=0)[1:] == pytest.approx(36.0, rel=0.05), "the lowest band gives some to the mean"
    assert grain.spectrum(noise(0).astype(np.float32), block(slice(0, 15), slice(0, 160))) is None


def test_grain_tells_a_smear_from_the_same_texture_elsewhere() -> None:
    true, other, smear = grey(noise(0)), grey(noise(1)), grey(np.full(SHAPE, 128.0))
    same = grain.grain(other, true, ALL)
    assert same["spectrum_db"] < 1.0
    assert same["gradients"] < 0.2
    assert same["grain_ratio"] == pytest.approx(1.0, abs=0.05)
    blurred = grain.grain(smear, true, ALL)
    assert blurred["spectrum_db"] == pytest.approx(10 * np.log10((36 + 1 / 12) * 12), abs=1.0)
    assert blurred["gradients"] == pytest.approx(6 * np.sqrt(2) * np.sqrt(2 / np.pi), rel=0.05)
    assert blurred["grain_ratio"] == 0.0


def test_ghosts_are_blobs_not_grain() -> None:
    true, white = noise(0), block(slice(40, 60), slice(40, 70))
    assert grain.ghosts(grey(noise(1, 3.0)), grey(noise(0, 3.0)), ALL) == {"bright_ghost_px": 0.0, "dark_ghost_px": 0.0}
    found = grain.ghosts(grey(true + 60.0 * white), grey(true), ALL)
    assert found["bright_ghost_px"] == pytest.approx(16 * 600, rel=0.1), "in pixels of an image 640 wide"
    assert found["dark_ghost_px"] == 0.0


def test_instances_are_matched_one_to_one() -> None:
    truth = np.zeros(SHAPE, np.int32)
    truth[10:30, 10:30], truth[10:30, 30:50], truth[60:80, 60:80], truth[90:, :] = 1, 2, 3, -1
    labels = np.zeros(SHAPE, np.int32)
    labels[10:30, 10:50], labels[60:80, 60:70], labels[40:50, 100:120], labels[95:100, :9] = 7, 8, 9, 10
    iou = instances.matched_iou(labels, truth, [1, 2, 3])
    assert sorted((iou[1], iou[2])) == [0.0, 0.5], "two things in one instance: only one of them was found"
    assert iou[3] == 0.5
    assert instances.false_instances(labels, truth != 0) == [9], "a piece of the robot is no thing, but not bare either"
    matches = instances.Matches()
    matches.add(labels, truth, {1: ("bowl",), 2: ("bowl", "touching"), 3: ("cup",)})
    summary = matches.summary()
    assert summary["iou"]["all"] == {"mean": 0.3333, "found_percent": 66.67, "things": 3}
    assert summary["iou"]["cup"]["mean"] == 0.5
    assert summary["false_per_frame"] == 1.0
    assert instances.matched_iou(np.zeros(SHAPE, np.int32), truth, [1]) == {1: 0.0}


def test_kinds_are_named_without_number_and_colour() -> None:
    names = {"white_bowl_7": "bowl", "red_block": "block", "inside_3_0": "inside", "plate": "plate"}
    assert {name: instances.kind_of(name) for name in names} == names


def test_things_touch_by_their_surfaces() -> None:
    cube = np.stack(np.meshgrid(*[np.linspace(0, 0.04, 11)] * 3), axis=-1).reshape(-1, 3)
    assert instances.touching({"a": cube, "b": cube + np.array([0.041, 0, 0]), "c": cube + np.array([0, 0.06, 0])}) == {
        "a",
        "b",
    }


def emptied(hidden: np.ndarray, changed: np.ndarray, off: float = 0.0) -> holes.Emptied:
    truth = RgbdFrame(grey(noise(0)), np.full(SHAPE, 1.0, np.float32), CAMERA, 0)
    made = replace(truth, rgb=grey(noise(0) + off * hidden), depth_m=np.where(hidden, np.float32(1.004), truth.depth_m))
    return holes.Emptied(made, hidden, truth, truth.depth_m, changed, np.zeros(SHAPE, bool))


def test_size_of_a_hole_is_relative_to_what_the_thing_changes() -> None:
    thing = block(slice(40, 60), slice(40, 60))
    ring = holes.judge(emptied(block(slice(39, 61), slice(39, 61)), thing))
    assert ring["hidden_px"] == ring["true_px"] == 22**2, "a fringe of one pixel is right at this size"
    assert ring["missed_percent"] == 0.0
    half = holes.judge(emptied(block(slice(40, 60), slice(40, 50)), thing))
    assert half["missed_percent"] == 50.0
    wide = holes.summary([holes.judge(emptied(block(slice(30, 70), slice(30, 70)), thing)), ring])
    assert wide["hole_share"] == pytest.approx((40**2 + 22**2) / (2 * 22**2), abs=1e-3)
    nothing = holes.judge(emptied(block(slice(0, 10), slice(0, 10)), np.zeros(SHAPE, bool)))
    assert holes.summary([nothing, ring])["hole_share"] == pytest.approx((100 + 22**2) / 22**2, abs=1e-3), "false hole"


def test_a_wrong_fill_is_measured() -> None:
    thing = block(slice(30, 90), slice(40, 120))
    found = holes.judge(emptied(thing, thing, off=40.0))
    assert found["rgb"] == pytest.approx(40.0, abs=0.5)
    assert found["rgb_low"] == pytest.approx(40.0, abs=0.5)
    assert found["depth_mm"] == pytest.approx(4.0, abs=0.01)
    assert found["bright_ghost_px"] == pytest.approx(16 * thing.sum(), rel=0.05)
    assert found["grain_ratio"] == pytest.approx(1.0, abs=0.02)


def test_kept_things_are_not_judged() -> None:
    thing, kept = block(slice(30, 90), slice(40, 120)), block(slice(30, 90), slice(80, 120))
    case = emptied(thing & ~kept, thing)
    found = holes.judge(replace(case, shut=kept))
    assert found["missed_percent"] == 0.0
    assert found["hidden_px"] == (thing & ~kept).sum()


def run(**changes: object) -> dict[str, object]:
    return {
        "seed": 0, "scenes": "easy", "noise": "both", "counts": {"frames": 200},
        "decisions": {"true": {"f1": 0.99, "wrong": 8, "objects": 1504}},
        "holes": {"true": {"grain_ratio": 0.2, "rgb": 2.0, "hole_share": 1.5}},
        "fill": {"plain": {"layered": {"rgb": 0.7}, "telea": {"rgb": 1.4}}},
        "speed": {"ms": {"new plan": {"median": 10.0}}, "hz": {"new plan": 100.0}},
        **changes,
    }  # fmt: skip


def test_runs_on_the_same_scenes_are_compared_figure_by_figure() -> None:
    after = run(
        decisions={"true": {"f1": 0.95, "wrong": 12, "objects": 1400}},
        holes={"true": {"grain_ratio": 1.1, "rgb": 2.001, "hole_share": 1.2}},
        fill={"plain": {"layered": {"rgb": 0.5}, "telea": {"rgb": 9.9}}},
        speed={"ms": {"new plan": {"median": 10.5}}, "hz": {"new plan": 50.0}},
    )
    changes = against.compare(run(), after)
    worse = {name for name, _, _ in changes["worse"]}
    assert worse == {"decisions / true / f1", "decisions / true / wrong", "speed / hz / new plan"}
    better = {name for name, _, _ in changes["better"]}
    assert better == {"holes / true / grain_ratio", "holes / true / hole_share", "fill / plain / layered / rgb"}
    assert not any(against.compare(run(), run()).values())


def test_runs_on_other_scenes_do_not_pair() -> None:
    with pytest.raises(ValueError, match="seed was 0, now 1"):
        against.compare(run(), run(seed=1))
