"""The engine of a Ray cluster: what it checks, and two nodes of which workers and one whole node are lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from odd_seeds import DIES, IS_KILLED, RAISES, OddSeeds

from stvla_ros.cli import main
from stvla_ros.commands.exit_codes import INTERRUPTED, USAGE
from stvla_ros.config import ConfigError
from stvla_ros.data.collect import Collection
from stvla_ros.data.collect_environment import CollectEnvironmentSetup
from stvla_ros.data.episode import find_episodes
from stvla_ros.evaluate import cluster
from stvla_ros.evaluate.cell_environment import CellEnvironmentSetup
from stvla_ros.evaluate.cluster import Premises, RayEngine
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.evaluate.workers import TRIES, Engine, run_episodes


def test_premises_that_hold_here_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    for name in ("best.safetensors", "model/config.json", "mark"):
        (tmp_path / name).write_text(name)
    settings = {"policy": {"checkpoint": "best.safetensors"}, "planner": {"model": [str(tmp_path / "model"), "x/none"]}}
    premises = Premises.here({**settings, "long": "x" * 9000, "number": 3})
    assert set(premises.files) == {Path("best.safetensors"), tmp_path / "model"}
    monkeypatch.chdir("/")
    replace(premises, mark=tmp_path / "mark").check()
    assert Path.cwd() == tmp_path, "relative paths mean the command's"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda p, _: replace(p, code="0"),
            "is not what the command runs (other sources or weights): install the same",
        ),
        (lambda p, _: replace(p, versions={**p.versions, "mujoco": "1.0"}), "instead of 1.0): install the same commit"),
        (lambda p, folder: (folder / "w").unlink() or p, "w, which the settings name, is missing there"),
        (lambda p, folder: (folder / "w").write_text("other") and p, "w has another content there"),
        (
            lambda p, folder: replace(p, mark=folder / "out" / "mark"),
            "out is not the folder that the command writes to",
        ),
    ],
)
def test_premises_that_do_not_hold_are_named(
    change: Callable[[Premises, Path], Premises], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w").write_text("weights")
    premises = change(Premises.here({"weights": "w"}), tmp_path)
    with pytest.raises(ConfigError) as refused:
        premises.check()
    assert sentence in str(refused.value)


@pytest.mark.parametrize("command", ["evaluate", "collect"])
def test_without_the_package_the_extra_is_named(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([command, "--engine", "ray", "--output", str(tmp_path / "out")]) == USAGE
    assert (
        "(the extra 'ray'), which is missing: pip install --no-deps -r requirements/ray.txt." in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_the_real_nodes_stay_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--engine", "ray", "--over-ros"]) == USAGE
    assert "--over-ros runs on this machine only" in capsys.readouterr().err


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Two nodes of one core each, on this machine."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install --no-deps -r requirements/ray.txt")
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(Path(__file__).parents[1])}  # of the odd seeds
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        made.add_node(**node)
        made.wait_for_nodes()
        os.environ["RAY_ADDRESS"] = made.address
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        os.environ.clear()
        os.environ.update(before)


def scenes(*seeds: int, task: str = "t") -> list[EpisodeSpec]:
    return [EpisodeSpec(task, seed) for seed in seeds]


def untimed(records: list[EpisodeRecord]) -> list[EpisodeRecord]:
    """In the order of the scenes, without what a clock on the wall has measured."""
    return sorted((replace(r, times_s=None, plan_times_s=[]) for r in records), key=lambda r: (r.task, r.seed))


def test_deaths_and_defects_cost_what_they_cost_in_processes(nodes: Any, tmp_path: Path) -> None:
    """A seed whose worker is killed once, one that always kills it, one that raises, one that is asked for twice."""
    asked = scenes(0, 1, RAISES, IS_KILLED, DIES, 2, 1)

    def run(engine: Engine, name: str) -> list[EpisodeRecord]:
        return untimed(list(engine(OddSeeds(tmp_path / name), asked, 2)))

    there, here = run(RayEngine({}), "there"), run(run_episodes, "here")
    assert [r.seed for r in there] == [0, 1, 2, RAISES, DIES, IS_KILLED]
    assert [(r.seed, r.success, r.outcome) for r in there] == [(r.seed, r.success, r.outcome) for r in here]
    assert [r for r in there if r.seed not in (RAISES, DIES)] == [r for r in here if r.seed not in (RAISES, DIES)]
    assert next(r for r in there if r.seed == IS_KILLED).success
    assert "ZeroDivisionError" in there[3].sentence
    assert there[4].sentence.startswith("The worker ended (") and "as 2 workers before it" in there[4].sentence  # noqa: PT018
    diary = (tmp_path / "there").read_text().splitlines()
    assert {seed: diary.count(f"t {seed}") for seed in (0, 1, 2, RAISES, DIES, IS_KILLED)} == {
        0: 1, 1: 1, 2: 1, RAISES: 1, DIES: TRIES, IS_KILLED: 2,
    }  # fmt: skip


def test_a_worker_that_is_killed_in_the_middle_loses_nothing(nodes: Any, tmp_path: Path) -> None:
    """As many episodes at once as there are cores; the killed one runs again, all others once."""
    slow = OddSeeds(tmp_path / "diary", duration_s=0.5)
    records, killed = [], None
    for record in RayEngine({})(slow, scenes(*range(10)), 5):
        records.append(record)
        if killed is None:
            killed = slow.pids.read_text().splitlines()[-1].split()
            os.kill(int(killed[0]), signal.SIGKILL)
    assert killed is not None
    assert [r.seed for r in untimed(records)] == list(range(10))
    ran = [line.split() for line in slow.pids.read_text().splitlines()]
    assert len(ran) in (10, 11)
    assert [seed for _, seed in ran].count(killed[1]) == len(ran) - 9
    assert len({pid for pid, _ in ran}) == 3, "two cores, and the one that took the dead one's place"


def test_a_lost_node_loses_no_episode(nodes: Any, tmp_path: Path) -> None:
    engine = RayEngine({})
    lost = nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    nodes.wait_for_nodes()
    assert engine.cores == 3
    slow = OddSeeds(tmp_path / "diary", duration_s=0.5)
    seeds = []
    for record in engine(slow, scenes(*range(12)), 3):
        seeds.append(record.seed)
        if len(seeds) == 3:
            nodes.remove_node(lost, allow_graceful=False)
    assert sorted(seeds) == list(range(12))


def test_stopping_early_ends_the_workers(nodes: Any, tmp_path: Path) -> None:
    import ray

    records = RayEngine({})(OddSeeds(tmp_path / "diary"), scenes(*range(0, 2000, 2)), 4)
    next(records)
    records.close()  # type: ignore[attr-defined]
    lines = (tmp_path / "diary").read_text().splitlines()
    assert lines.count("closed") == lines.count("opened") >= 1
    assert len(lines) < 1000
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU") != 2.0:
        assert time.monotonic() < deadline, "a worker still has its core"
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("refuse", "message"),
    [("No meshes here.", "^No meshes here"), ("die", "3 workers ended before their first episode")],
)
def test_an_environment_that_cannot_be_opened_ends_with_its_reason(
    nodes: Any, tmp_path: Path, refuse: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        list(RayEngine({})(OddSeeds(tmp_path / "diary", refuse), scenes(0), 1))


def test_workers_check_files_and_folder_before_they_begin(nodes: Any, tmp_path: Path) -> None:
    weights = tmp_path / "best.safetensors"
    weights.write_text("new")
    engine = RayEngine({"policy": {"checkpoint": str(weights)}}, tmp_path / "out")
    assert [r.seed for r in engine(OddSeeds(tmp_path / "diary"), scenes(0), 1)] == [0]
    assert list((tmp_path / "out").iterdir()) == []
    weights.write_text("old")
    with pytest.raises(ConfigError, match=r"best\.safetensors has another content there"):
        list(engine(OddSeeds(tmp_path / "diary"), scenes(1), 1))


def test_real_episodes_are_those_of_processes(nodes: Any) -> None:
    """The same verdicts, keyposes, simulated seconds and measurements, to the last bit."""
    setup = CellEnvironmentSetup(StackSettings())
    asked = [*scenes(0, task="pick_place"), *scenes(0, task="stack_cube")]
    there = untimed(list(RayEngine({})(setup, asked, 2)))
    assert there == untimed(list(run_episodes(setup, asked, 1)))
    assert all(r.success and r.robot_s > 1.0 for r in there)


def test_collected_episodes_are_those_of_processes(nodes: Any, tmp_path: Path) -> None:
    """Images, depth, states and keyposes, byte for byte."""

    def collected(name: str, *engine: Engine) -> dict[str, bytes]:
        wanted = Collection(tmp_path / name, ("pick_place",), 1, "train", 0, {})
        setup = CollectEnvironmentSetup(StackSettings(), wanted.episodes_folder)
        content = wanted.run(setup, 1, lambda record: None, *engine)
        assert content["tasks"]["pick_place"]["episodes"] == len(find_episodes(wanted.folder)) == 1
        return {str(file.relative_to(tmp_path / name)): file.read_bytes() for file in wanted.folder.rglob("*.npz")}

    assert collected("there", RayEngine({}, tmp_path / "there")) == collected("here") != {}


def test_after_ctrl_c_the_same_command_resumes(nodes: Any, tmp_path: Path) -> None:
    """The whole command, as it is typed, on the cluster that RAY_ADDRESS names."""
    output = tmp_path / "out"
    words = ["evaluate", "--engine", "ray", "--tasks", "pick_place", "--episodes", "4", "--output", str(output)]
    command = [sys.executable, "-m", "stvla_ros.cli", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    timer = threading.Timer(200, process.kill)
    timer.start()
    try:
        while not (done := sorted(output.glob("episodes/*.json"))) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[0]
    finally:
        timer.cancel()
    assert process.returncode == INTERRUPTED, said
    assert "To resume, give the same command with --output" in said
    done = sorted(output.glob("episodes/*.json"))
    assert 1 <= len(done) < 4, said
    before = {file: file.stat().st_mtime_ns for file in done}

    again = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert again.returncode == 0, again.stderr
    assert {file: file.stat().st_mtime_ns for file in done} == before
    assert len(list(output.glob("episodes/*.json"))) == 4
    (found,) = json.loads((output / "results.json").read_text())["tasks"]
    assert (found["successes"], found["episodes"]) == (4, 4)
    assert "4/4" in again.stdout
    assert main([word for word in words if word not in ("--engine", "ray")]) == 0, "a folder belongs to no engine"


def test_without_a_cluster_the_sentence_says_how_to_start_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install --no-deps -r requirements/ray.txt")

    def refuse(**_: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["evaluate", "--engine", "ray", "--output", str(tmp_path / "out")]) == USAGE
    assert "no cluster at 'auto' (Could not find any running Ray instance): start one" in capsys.readouterr().err


def test_sigterm_keeps_its_meaning(nodes: Any) -> None:
    import ray

    ray.shutdown()
    before = signal.getsignal(signal.SIGTERM)
    cluster.ray()
    assert signal.getsignal(signal.SIGTERM) is before
