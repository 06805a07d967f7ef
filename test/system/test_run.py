"""How processes end: with whoever started them, at any signal, quietly, and soon."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rclpy.node import Node
from system.brain_harness import wait
from system.conftest import Process

from stvla_ros import registry
from stvla_ros.ros import SUPERVISOR, graph
from stvla_ros.ros.heartbeats import HeartbeatMonitor
from stvla_ros.ros.run import END_S, FORGOTTEN_S, LOOK_S, was_suspended

ROOT = Path(__file__).parents[2]

SLACK_S = 10.0
"""For a loaded machine to start and reap processes. What is tested against it would otherwise never end."""

NOISE = ("Traceback", "nanobind", "InvalidHandle", "Exception ignored", "BrokenPipe", "never awaited")


def gone(pid: int) -> bool:
    """A process whose parent has died is reaped by init, which may be slow in a container: a zombie has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def quiet(output: str) -> bool:
    return not any(word in output for word in NOISE)


# --- with whoever started them: without ROS ------------------------------------------------------------------------

CHILD = """
import os, signal, time
from stvla_ros.ros.run import end_with_supervisor
end_with_supervisor()
print("child", os.getpid(), flush=True)
time.sleep(60)
"""

PARENT = f"""
import os, subprocess, sys, threading, time
os.environ["{SUPERVISOR}"] = str(os.getpid())
def start():
    subprocess.Popen([*sys.argv[1:], sys.executable, "-c", {CHILD!r}], stdin=subprocess.DEVNULL)
    sys.stdin.readline()
thread = threading.Thread(target=start)
thread.start()
thread.join()
print("the starting thread has ended", flush=True)
time.sleep(60)
"""

WRAPPERS = {"directly": [], "through a shell": ["sh", "-c", '"$@"; exit', "sh"]}


@pytest.fixture
def parent() -> Iterator[Callable[..., tuple[subprocess.Popen[str], int]]]:
    """A process that has started :data:`CHILD` from a thread that has ended, and the child's id."""
    made: list[subprocess.Popen[str]] = []
    children: list[int] = []

    def start(*wrapper: str) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT, *wrapper], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        made.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        word, pid = process.stdout.readline().split()
        children.append(int(pid))
        print(file=process.stdin, flush=True)
        assert (word, process.stdout.readline()) == ("child", "the starting thread has ended\n")
        return process, children[-1]

    yield start
    for process in made:
        process.kill()
        process.wait(SLACK_S)
    for child in children:
        if not gone(child):
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_process_ends_with_its_supervisor(parent: Callable[..., Any], wrapper: str, number: int) -> None:
    """Not with the thread of the supervisor that started it, and also when a wrapper stands between."""
    supervisor, child = parent(*WRAPPERS[wrapper])
    time.sleep(0.3)  # in which the end of the thread would have told
    assert not gone(child)
    supervisor.send_signal(number)
    supervisor.wait(SLACK_S)
    wait(lambda: gone(child), SLACK_S)


def test_a_process_whose_supervisor_has_ended_does_not_start() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait(SLACK_S)
    late = subprocess.run(
        [sys.executable, "-c", CHILD],
        env={**os.environ, SUPERVISOR: str(done.pid)},
        capture_output=True,
        text=True,
        timeout=30.0,
    )
    assert (late.returncode, late.stdout) == (0, "")
    assert "has ended, so the node ends too" in late.stderr


# --- the same with nodes -------------------------------------------------------------------------------------------

LAUNCHER = f"""
import os, subprocess, sys, threading, time
env = {{**os.environ, "{SUPERVISOR}": str(os.getpid())}}
def start():
    for module in sys.argv[1:]:
        process = subprocess.Popen([sys.executable, "-m", module], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        print(process.pid, flush=True)
    sys.stdin.readline()
thread = threading.Thread(target=start)
thread.start()
thread.join()
print("the starting thread has ended", flush=True)
time.sleep(120)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nodes_end_with_their_launcher(ros: Any, number: int) -> None:
    """Not with its thread that started them; one node per process, and composed; nobody reads their logs when they end."""
    modules = ["stvla_ros.nodes.executor", "stvla_ros.nodes.composed"]
    monitor = HeartbeatMonitor(ros.add(Node("listener")), 1.0)
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, *modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert launcher.stdin is not None
    assert launcher.stdout is not None
    nodes = [int(launcher.stdout.readline()) for _ in modules]
    try:
        assert not monitor.wait_for(["executor", *graph.BRAIN], 60.0)
        print(file=launcher.stdin, flush=True)
        assert "ended" in launcher.stdout.readline()
        time.sleep(END_S)  # in which they would end
        assert not any(gone(pid) for pid in nodes)
        launcher.send_signal(number)
        launcher.wait(SLACK_S)
        wait(lambda: all(gone(pid) for pid in nodes), END_S + SLACK_S)
    finally:
        launcher.kill()
        for pid in nodes:
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)


# --- at any signal, quietly, soon ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_node_ends_at_any_signal(start: Callable[..., Process], ros: Any, number: int) -> None:
    """The executor: without a robot one of its threads waits for one, with RoboPlan's objects in hand."""
    monitor = HeartbeatMonitor(ros.add(Node("listener")), 1.0)
    node = start("stvla_ros.nodes.executor")
    assert not monitor.wait_for(["executor"], 60.0), node.output
    node.popen.send_signal(number)
    node.popen.send_signal(number)  # a second one disturbs nothing
    assert node.wait(END_S + SLACK_S) == 0, node.output
    assert quiet(node.output), node.output


NODE = """
import signal, sys, threading, time
from dataclasses import dataclass
from stvla_ros.ros.run import run
from stvla_ros.ros.stage_node import StageNode

@dataclass(frozen=True)
class Config: ...

class Slow(StageNode[Config]):
    def __init__(self):
        super().__init__("slow", Config)
        print("made", flush=True)
        {loading}

    def ready(self):
        super().ready()
        print("ready", flush=True)
        {ready}

    def close(self, timeout_s):
        {closing}
        return super().close(timeout_s)

sys.exit(run(*[Slow] * {nodes}))
"""


@pytest.mark.parametrize(
    ("loading", "closing", "nodes", "code"),
    [
        ("time.sleep(60)", "pass", 1, 0),
        ("pass", "time.sleep(60)", 1, -signal.SIGALRM),
        ("pass", "time.sleep(timeout_s)", 4, 0),
    ],
    ids=["while it loads", "though a library holds it up", "with others in its process"],
)
def test_a_node_ends_soon(domain: int, loading: str, closing: str, nodes: int, code: int) -> None:
    """Within END_S, at which the kernel kills it (SIGALRM)."""
    node = subprocess.Popen(
        [sys.executable, "-c", NODE.format(loading=loading, ready="pass", closing=closing, nodes=nodes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
    )
    try:
        assert node.stdout is not None
        for word in ["made"] if "60" in loading else ["ready"] * nodes:
            assert any(line.strip() == word for line in iter(node.stdout.readline, "")), word
        node.terminate()
        assert node.wait(END_S + SLACK_S) == code
        assert node.stdout.read() == ""
    finally:
        node.kill()
        node.wait(SLACK_S)


def test_a_signal_that_the_kernel_gave_to_another_thread(domain: int) -> None:
    """It does so when a second one comes before the first was taken; the main thread must hear of it all the same."""
    strike = "time.sleep(1.0); signal.pthread_kill(threading.get_ident(), signal.SIGTERM); time.sleep(60)"
    ready = f"threading.Thread(target=lambda: exec({strike!r}, globals()), daemon=True).start()"
    node = subprocess.run(
        [sys.executable, "-c", NODE.format(loading="pass", ready=ready, closing="pass", nodes=1)],
        capture_output=True,
        text=True,
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
        timeout=30.0,
    )
    assert (node.returncode, node.stderr) == (0, "")


@pytest.mark.parametrize(
    ("pause_s", "cpu_s", "suspended"),
    [(3.0, 0.05, True), (2.3, 0.0, True), (2.0, 0.0, False), (3.0, 2.9, False), (0.25, 0.0, False)],
    ids=["suspended", "just long enough", "the others still know it", "computes", "sleeps"],
)
def test_what_counts_as_suspended(pause_s: float, cpu_s: float, suspended: bool) -> None:
    assert was_suspended(pause_s, cpu_s) == suspended


def test_the_limit_of_a_suspension_follows_the_middleware() -> None:
    """The others drop a process ``leaseDuration`` after its last announcement, which is a ``leaseAnnouncement`` old."""
    text = (ROOT / "config/fastdds.xml").read_text()
    lease, announcement = (
        int(sec) + 1e-9 * int(nanosec or 0)
        for sec, nanosec in re.findall(r"<lease\w+>\s*<sec>(\d+)</sec>\s*(?:<nanosec>(\d+)</nanosec>)?", text)
    )
    assert lease - announcement - 0.1 <= FORGOTTEN_S <= lease - announcement


@pytest.mark.parametrize("how", ["suspended", "computes"])
def test_a_node_ends_after_a_suspension(domain: int, how: str) -> None:
    """The others may have forgotten it for good. One that computes without releasing the interpreter's lock goes on."""
    compute = "threading.Thread(target=lambda: print(sum(range(300_000_000)), flush=True), daemon=True).start()"
    ready = compute if how == "computes" else "pass"
    node = subprocess.Popen(
        [sys.executable, "-c", NODE.format(loading="pass", ready=ready, closing="pass", nodes=1)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
    )
    try:
        assert node.stdout is not None
        assert node.stderr is not None
        assert [node.stdout.readline() for _ in range(2)] == ["made\n", "ready\n"]
        if how == "computes":
            assert node.stdout.readline()
            time.sleep(4 * LOOK_S)  # in which it would look
            node.terminate()
        else:
            time.sleep(4 * LOOK_S)  # in which it begins to look
            node.send_signal(signal.SIGSTOP)
            time.sleep(FORGOTTEN_S + 0.3)
            node.send_signal(signal.SIGCONT)
        assert node.wait(END_S + SLACK_S) == (0 if how == "computes" else 1)
        said = node.stderr.read()
        assert said == "" if how == "computes" else "was suspended for 2." in said
    finally:
        node.kill()
        node.wait(SLACK_S)


@pytest.mark.parametrize("module", ["executor", "task"])
def test_ctrl_c_while_a_launched_node_imports(domain: int, module: str) -> None:
    """A Ctrl-C in the terminal of a launch comes to all its processes, also to those that are not yet nodes."""
    node = subprocess.Popen(
        [sys.executable, "-v", "-m", f"stvla_ros.nodes.{module}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, SUPERVISOR: str(os.getpid()), "ROS_DOMAIN_ID": str(domain)},
    )
    assert node.stderr is not None
    assert any("import 'numpy" in line for line in iter(node.stderr.readline, ""))
    node.send_signal(signal.SIGINT)
    rest = node.stderr.read()
    assert node.wait(SLACK_S) == -signal.SIGINT
    assert "KeyboardInterrupt" not in rest


# --- the supervisor ------------------------------------------------------------------------------------------------

UP = """
import sys
from stvla_ros.ros import up
from stvla_ros.ros.graph import GraphOptions
child = "import os, time\\nwhile True: print(os.getpid(), flush=True); time.sleep(0.05)"
up._command = lambda options, spec: [sys.executable, "-c", child]
sys.exit(up.up(GraphOptions("real", "external", "composed")))
"""


def supervisor(**env: str) -> subprocess.Popen[str]:
    """``stvla up`` with processes that tell their ids for ever."""
    return subprocess.Popen(
        [sys.executable, "-c", UP],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**{k: v for k, v in os.environ.items() if k != graph.DISCOVERY_RANGE}, **env},
    )


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGHUP", "nobody reads"])
def test_up_ends_with_its_terminal(how: str) -> None:
    up = supervisor()
    assert up.stdout is not None
    assert up.stderr is not None
    assert "this computer in ROS domain" in up.stdout.readline()
    children: set[int] = set()
    while len(children) < 2:
        children.add(int(up.stdout.readline().rpartition("|")[2]))
    if how == "nobody reads":
        up.stdout.close()
    else:
        up.send_signal(signal.Signals[how])
        up.stdout.read()
    assert up.wait(SLACK_S) == 0, up.stderr.read()
    assert up.stderr.read() == ""
    wait(lambda: all(gone(pid) for pid in children), SLACK_S)


# --- the launch file, with stand-ins for launch --------------------------------------------------------------------


class Recorded:
    """Takes any arguments, as whatever class of launch it stands for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs

    def perform(self, context: Any) -> Any:
        return context.launch_configurations[self.args[0]]


class Recorder(ModuleType):
    """A module that has whatever class is asked of it."""

    __path__: list[str] = []  # noqa: RUF012 - what makes a module a package

    def __getattr__(self, name: str) -> Any:
        made = type(name, (Recorded,), {})
        setattr(self, name, made)
        return made


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the launch file, with recorders in the place of launch's classes."""
    names = ["launch", "launch.actions", "launch.events", "launch.events.process", "launch.event_handlers"]
    for name in [*names, "launch.substitutions", "launch_ros", "launch_ros.actions"]:
        monkeypatch.setitem(sys.modules, name, Recorder(name))
    spec = importlib.util.spec_from_file_location("stvla_launch", ROOT / "launch" / "stvla.launch.py")
    assert spec is not None
    assert spec.loader is not None
    file = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(file)
    return file


def test_launch_refuses_arguments_that_it_would_pass_over(launch_file: Any) -> None:
    me = "/opt/share/stvla_ros/launch/stvla.launch.py"
    launch_file._check_names(
        ["ros2", "launch", "stvla_ros", "stvla.launch.py", "params:=x=y", "record:=all", "planner:="]
    )
    with pytest.raises(RuntimeError, match=r"no argument 'parms'\. Did you mean 'params'\?"):
        launch_file._check_names(["ros2", "launch", "stvla_ros", "stvla.launch.py", "robot:=sim", "parms:=cell.yaml"])
    with pytest.raises(RuntimeError, match=r"no argument 'log'\. Valid: camera, "):
        launch_file._check_names(["ros2", "launch", me, "log:=1"])
    launch_file._check_names(
        ["ros2", "launch", "cell", "cell.launch.py", "parms:=cell.yaml"]
    )  # of one that includes ours


def test_launch_refuses_a_wrong_parameter_file(launch_file: Any, tmp_path: Path) -> None:
    (tmp_path / "cell.yaml").write_text("guidance: {ros__parameters: {tube_radius: 2e-2}}")
    context = Recorded()
    context.launch_configurations = dict.fromkeys(registry.BACKEND_PARAMETER, "")
    context.launch_configurations.update(
        robot="sim", camera="auto", mode="separate", record="", console="false", params=str(tmp_path / "cell.yaml")
    )
    with pytest.raises(RuntimeError, match=r"cell\.yaml: guidance: unknown setting 'tube_radius'\. Did you mean"):
        launch_file._nodes(context)


@pytest.mark.parametrize("record", ["", "failures"])
def test_launched_nodes_know_their_launch_and_end_at_its_shutdown(launch_file: Any, record: str) -> None:
    context = Recorded()
    context.launch_configurations = dict.fromkeys(registry.BACKEND_PARAMETER, "")
    context.launch_configurations.update(
        robot="sim", camera="auto", mode="separate", record=record, console="false", params=""
    )
    context.environment = {}
    log, *entities = launch_file._nodes(context)
    assert "may move the arm" in log.kwargs["msg"]
    nodes = [e for e in entities if type(e).__name__ == "Node"]
    assert [n.kwargs["executable"] for n in nodes] == [
        s.name for s in graph.processes(graph.GraphOptions(record=record or None))
    ]
    for node in nodes:
        assert node.kwargs["additional_env"] == {SUPERVISOR: str(os.getpid())}
    handlers = [e.args[0] for e in entities if type(e).__name__ == "RegisterEventHandler"]
    signals = [h.kwargs["on_shutdown"][0].kwargs["event"] for h in handlers if type(h).__name__ == "OnShutdown"]
    assert [s.kwargs["signal_number"] for s in signals] == [signal.SIGTERM] * len(nodes)
    assert [s.kwargs["process_matcher"].args[0] for s in signals] == nodes
