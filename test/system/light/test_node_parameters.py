"""The survey of all nodes' parameters, over a middleware that loses answers, and with nodes that come late."""

from __future__ import annotations

from typing import Any

import pytest
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.node import Node
from rclpy.service import Service
from system.brain_harness import wait

from stvla_ros.ros.node_parameters import ParameterSurvey


@pytest.mark.parametrize("kind", [ListParameters, GetParameters])
def test_a_lost_answer_is_asked_for_again(ros: Any, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    lost: list[Any] = []
    send = Service.send_response

    def lose_first(service: Service, response: Any, header: Any) -> None:
        if isinstance(response, kind.Response) and not lost:
            lost.append(response)
        else:
            send(service, response, header)

    monkeypatch.setattr(Service, "send_response", lose_first)
    ros.add(Node("asked")).declare_parameter("speed", 0.5)
    found: list[Any] = []
    survey = ParameterSurvey(ros.add(Node("asking")), found.append)
    survey.ask()
    wait(lambda: bool(found) and {"asked", "asking"} <= set(found[-1]), 20.0)
    assert lost
    assert found[-1]["asked"]["speed"] == 0.5


def test_a_node_that_comes_later_is_asked_too(ros: Any) -> None:
    found: list[Any] = []
    survey = ParameterSurvey(ros.add(Node("asking")), found.append)
    survey.ask()
    wait(lambda: bool(found), 20.0)
    late = Node("late")
    late.declare_parameter("words", ["a", "b"])
    ros.add(late)
    wait(lambda: "late" in found[-1], 20.0)
    assert found[-1]["late"]["words"] == ["a", "b"]
    assert "asking" in found[-1]
    survey.ask()
    found.clear()
    wait(lambda: bool(found) and {"late", "asking"} <= set(found[-1]), 20.0)
