"""How workers share the tests: everything once, and what is below ``test/system`` in order, in one process that comes first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CONFTEST = """
import os, time
import pytest
from phases import SystemBesidePure, may_wait, step_back

def pytest_xdist_make_scheduler(config, log):
    return SystemBesidePure(config, log)

def pytest_runtest_setup(item):
    if may_wait(item.nodeid):
        step_back()

def pytest_collection():
    if os.environ.get("PYTEST_XDIST_WORKER") == os.environ.get("SLOW_WORKER", "none"):
        time.sleep(2)

@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    begun = time.monotonic()
    done = yield
    with open("done", "a") as file:
        idle = os.sched_getscheduler(0) == os.SCHED_IDLE
        file.write(f"{item.nodeid} {os.getpid()} {begun} {time.monotonic()} {idle}\\n")
    return done
"""
FILE = "import time\nimport pytest\n@pytest.mark.parametrize('i', range({0}))\ndef test_{1}(i):\n    time.sleep(0.02)\n"


def suite(folder: Path, **files: int) -> Path:
    """Test files with so many tests each; ``system_x`` is in the folder of tests of the running stack, ``light_x`` in that
    of its light ones, ``prompt_x`` in one of those that may not be held up."""
    places = {"system": "system", "light": "system/light", "prompt": "sim/fci"}
    for place in places.values():
        (folder / "test" / place).mkdir(parents=True)
    (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '--import-mode=importlib'\n")
    (folder / "conftest.py").write_text(CONFTEST)
    for name, number in files.items():
        place = places.get(name.partition("_")[0], "")
        (folder / "test" / place / f"test_{name}.py").write_text(FILE.format(number, name))
    return folder


def run(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """What pytest with two workers says, and [test, process, start, end, idle class] of each test in order of their ends."""
    environment = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}",
    }
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-q", "-n", "2", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    lines = (folder / "done").read_text().splitlines() if (folder / "done").exists() else []
    return done, [line.rsplit(" ", 4) for line in lines]


@pytest.mark.parametrize(
    "files",
    [
        {"a": 5, "b": 1, "c": 7, "system_one": 3, "system_two": 4},
        {"system_one": 3},
        {"a": 4, "b": 3},
        {"a": 4, "b": 3, "prompt_one": 3, "prompt_two": 2, "system_one": 9},
        {"a": 4, "prompt_one": 1},
        {"a": 4, "light_one": 3, "light_two": 2, "system_one": 9},
    ],
    ids=lambda files: "-".join(files),
)
def test_everything_runs_once_and_the_system_in_one_worker(tmp_path: Path, files: dict[str, int]) -> None:
    done, tests = run(suite(tmp_path, **files))
    assert done.returncode == 0, done.stdout
    assert f"{sum(files.values())} passed" in done.stdout.splitlines()[-1]
    assert len({name for name, *_ in tests}) == len(tests) == sum(files.values())
    prompt = [test for test in tests if test[0].startswith(("test/sim/fci/", "test/system/light/"))]
    system = [test for test in tests if test[0].startswith("test/system/") and test not in prompt]
    pure = [test for test in tests if test not in system and test not in prompt]
    assert len({process for _, process, *_ in system}) <= 1
    assert [name for name, *_ in system] == sorted(name for name, *_ in system)
    mine = str(os.sched_getscheduler(0) == os.SCHED_IDLE)  # this test may run in that class itself
    assert {idle for *_, idle in system + prompt} <= {mine}
    assert {idle for *_, idle in pure} <= {"True"}


def test_pure_tests_do_not_wait_for_the_system(tmp_path: Path) -> None:
    _, tests = run(suite(tmp_path, a=4, b=4, system_one=100))
    ends = {name: float(end) for name, _, _, end, _ in tests}
    starts = {name: float(begun) for name, _, begun, *_ in tests}
    system = [name for name in ends if name.startswith("test/system/")]
    assert max(starts[name] for name in ends if name not in system) < max(ends[name] for name in system)
    first = min(system, key=lambda name: ends[name])
    assert starts[first] < min(end for name, end in ends.items() if name not in system)


def test_a_failure_among_the_first_is_the_end_s_status(tmp_path: Path) -> None:
    folder = suite(tmp_path, a=2, system_one=2)
    (folder / "test" / "test_bad.py").write_text("def test_bad():\n    assert 1 == 2\n")
    done, _ = run(folder)
    assert done.returncode == 1
    assert "1 failed, 4 passed" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("slow", ["none", "gw2", "gw3"])
def test_a_worker_that_dies_is_replaced_in_both_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """Its test has failed, the others are run; also where one who replaces has found the tests long before the other."""
    monkeypatch.setenv("SLOW_WORKER", slow)
    folder = suite(tmp_path, a=3, system_one=3)
    once = (
        "import os\n"
        "from pathlib import Path\n"
        "def test_dies():\n"
        "    if not Path({0!r}).exists():\n"
        "        Path({0!r}).touch()\n"
        "        os._exit(3)\n"
    )
    for place, name in (("test", "pure"), ("test/system", "system")):
        (folder / place / f"test_dies_{name}.py").write_text(once.format(str(tmp_path / f"died_{name}")))
    done, tests = run(folder)
    assert done.returncode == 1
    assert done.stdout.count("node down: Not properly terminated") == 2
    assert {name for name, *_ in tests} >= {f"test/test_a.py::test_a[{i}]" for i in range(3)}
    assert {name for name, *_ in tests} >= {f"test/system/test_system_one.py::test_system_one[{i}]" for i in range(3)}


def test_a_selection_that_names_nothing_says_so(tmp_path: Path) -> None:
    done, tests = run(suite(tmp_path, a=2, system_one=2), "-k", "nothing")
    assert (done.returncode, tests) == (5, [])
    done, tests = run(tmp_path, "-k", "test_a")
    assert (done.returncode, len(tests)) == (0, 2)
