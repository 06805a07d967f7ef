"""The tests' own skeleton: domains that nobody else is in, processes that end with their run, logs of failures."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from rclpy.node import Node
from system.brain_harness import wait
from system.processes import RUNS_KEPT, inhabited, keep_newest, own_domain

from stvla_ros.ros import middleware
from stvla_ros.ros.client import client_node

TESTS = Path(__file__).parents[1]


def test_a_failing_test_keeps_the_logs_of_its_processes(tmp_path: Path) -> None:
    """Of all of them, also of two with one name and of those that write files; a passing test keeps nothing."""
    (tmp_path / "test_it.py").write_text(
        "def test_fails(start, tmp_path):\n"
        "    (tmp_path / 'logs').mkdir()\n"
        "    (tmp_path / 'logs' / 'sim.log').write_text('the sim said so')\n"
        "    assert start('this').wait() + start('this').wait() == 1\n"
        "def test_passes(start):\n"
        "    assert start('this').wait() == 0\n"
    )
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", ".", "-p", "system.conftest", "-q", "."]
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in done.stdout
    (folder,) = (tmp_path / ".cache" / "test-logs").glob("*/*")
    assert f"Whole logs: {folder}" in done.stdout
    assert {file.name for file in folder.iterdir()} == {"this.log", "this-2.log", "logs-sim.log"}
    assert all("Beautiful is better than ugly." in (folder / name).read_text() for name in ("this.log", "this-2.log"))
    assert done.stdout.count("Namespaces are one honking great idea") == 2
    assert "the sim said so" in done.stdout


def test_logs_of_the_newest_runs_are_kept(tmp_path: Path) -> None:
    for number in range(RUNS_KEPT + 3):
        (tmp_path / f"2026010{number}-1" / "a_test").mkdir(parents=True)
    keep_newest(tmp_path)
    assert sorted(path.name[:8] for path in tmp_path.iterdir()) == [f"2026010{n}" for n in range(3, RUNS_KEPT + 3)]


def test_a_domain_with_somebody_in_it_is_not_taken(ros, domain, monkeypatch) -> None:
    """Also where whoever took it is gone: a killed run may have left its nodes."""
    ros.add(Node("somebody"))
    assert inhabited(domain)
    with own_domain() as free:
        assert not inhabited(free)
    monkeypatch.setattr("system.processes.DOMAINS", iter([domain, free]))
    monkeypatch.setattr("system.processes.LOCK_PORT", 50_000)  # where nobody holds a lock
    with own_domain() as taken:
        assert taken == free


def test_a_participant_has_no_listener_when_it_is_destroyed(domain, monkeypatch) -> None:
    """Else a process that is discovered at that moment stops this one for ever, with Python's lock."""
    found, destroy = [], Node.destroy_node

    def look(node: Node) -> None:
        listener_of = middleware._library("libfastrtps.so.2")[
            "_ZNK8eprosima7fastdds3dds17DomainParticipant12get_listenerEv"
        ]
        listener_of.argtypes, listener_of.restype = [ctypes.c_void_p], ctypes.c_void_p
        found.append(listener_of(middleware._participant(node)))
        destroy(node)

    monkeypatch.setattr(middleware.Node, "destroy_node", look)
    with client_node() as node:
        assert middleware._participant(node)
    assert found == [None]


def test_a_node_ends_with_the_run_that_started_it(domain) -> None:
    program = (
        "from system.processes import Process\n"
        f"process = Process('stvla_ros.nodes.policy', domain={domain})\n"
        "print(process.popen.pid, flush=True)\n"
        "process.wait(60.0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"}
    run = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    node = Path(f"/proc/{run.stdout.readline().strip()}")
    wait(lambda: inhabited(domain))
    run.send_signal(signal.SIGKILL)
    run.wait(10.0)
    wait(lambda: not node.exists())
