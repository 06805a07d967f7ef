"""CPU of a node that reads joint states at a robot's rate: as the nodes do (:mod:`stvla_ros.ros.polling`), and one by one.

A publisher sends at the rate; two listeners with the executor's receiver run beside each other. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from contextlib import suppress
from threading import Event, Thread
from typing import Any

RATES_HZ = (100.0, 1000.0)
WAYS = ("at times", "one by one")
FIRST_S = 3.0
"""For discovery, before the measurement."""


def publish(rate_hz: float, end: Any) -> None:
    """Send joint states until the end."""
    import rclpy
    from rclpy.node import Node
    from sensor_msgs.msg import JointState

    from stvla_ros.description.panda import HOME_Q_RAD
    from stvla_ros.description.robot import RobotConfig
    from stvla_ros.ros import qos

    rclpy.init()
    node, robot = Node("robot"), RobotConfig()
    publisher = node.create_publisher(JointState, robot.joint_states, qos.FAST_STATE)
    message = JointState(name=[*robot.arm_joints, *robot.finger_joints], position=[*HOME_Q_RAD, 0.02, 0.02])
    message.velocity = [0.0] * len(message.name)
    start, sent = time.monotonic(), 0
    while not end.is_set():
        sent += 1
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
        time.sleep(max(0.0, start + sent / rate_hz - time.monotonic()))


def listen(way: str, seconds: float, result: Any) -> None:
    """Put the share of a core that a listener takes."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node

    from stvla_ros.ros import polling
    from stvla_ros.ros.robot_state import JointStateConfig, JointStates

    if way == "one by one":

        def each(node: Node, kind: Any, topic: str, receive: Any, qos: Any) -> Any:
            node.create_subscription(kind, topic, receive, qos)
            return lambda: None

        polling.subscribe = each
    rclpy.init()
    node, executor, end = Node("listener"), SingleThreadedExecutor(), Event()
    joints = JointStates(node, JointStateConfig())
    executor.add_node(node)

    def spin() -> None:
        while not end.is_set():
            executor.spin_once(timeout_sec=0.2)

    thread = Thread(target=spin)
    thread.start()
    time.sleep(FIRST_S)
    before = time.process_time()
    time.sleep(seconds)
    share = (time.process_time() - before) / seconds
    joints.state()
    end.set()
    thread.join()
    result.put((way, share))


def main() -> None:
    """Print a line per rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of measurement per rate (default: 10)")
    args = parser.parse_args()
    from stvla_ros.ros.middleware import private_domain

    spawn, found = multiprocessing.get_context("spawn"), {}
    with private_domain():
        for rate_hz in RATES_HZ:
            end, result = spawn.Event(), spawn.Queue()
            processes = [spawn.Process(target=publish, args=(rate_hz, end))]
            processes += [spawn.Process(target=listen, args=(way, args.seconds, result)) for way in WAYS]
            for process in processes:
                process.start()
            shares = dict(result.get(timeout=FIRST_S + args.seconds + 60.0) for _ in WAYS)
            end.set()
            for process in processes:
                process.join()
            found[f"{rate_hz:g}"] = shares
            words = ", ".join(f"{way} {100 * shares[way]:.1f} %" for way in WAYS)
            print(f"{rate_hz:g} Hz: {words} of a core, {shares[WAYS[1]] / shares[WAYS[0]]:.1f} times as much")
    print(json.dumps(found))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
