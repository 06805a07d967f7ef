"""openpi's example clients: their fields in ours, and what they lack by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from policy.remote.test_remote import Told, served
from policy.seen import observation
from websockets.sync.client import connect

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD, MAX_WIDTH_M
from stvla_ros.policy.remote import wire
from stvla_ros.policy.remote.clients import CLIENTS, client_of, translated
from stvla_ros.policy.remote.messages import REQUIRED, plain_observation, read_observation
from stvla_ros.policy.remote.wire import WireError
from stvla_ros.types import Keypose, Observation

OURS = plain_observation(observation())
BESIDES = {name: OURS[name] for name in REQUIRED if name.startswith("observation/") and not name.endswith("rgb")}


def example(client: str) -> dict[str, Any]:
    """What openpi's example sends, with our image's size."""
    rgb, wrist = OURS["observation/rgb"], np.zeros((224, 224, 3), np.uint8)
    if client == "LIBERO":
        state = np.array([0.1, 0.2, 1.1, 3.1, 0.0, 0.0, 0.03, -0.03])
        return {"observation/image": rgb, "observation/wrist_image": wrist, "observation/state": state, "prompt": "Go."}
    return {
        "observation/exterior_image_1_left": rgb,
        "observation/wrist_image_left": wrist,
        "observation/joint_position": HOME_Q_RAD.astype(np.float32),
        "observation/gripper_position": np.array([0.25], np.float32),
        "prompt": "Go.",
    }


def test_our_own_requests_have_just_these_fields() -> None:
    assert set(OURS) == set(REQUIRED)
    assert client_of(OURS) == ""
    assert client_of(b"") == ""


def test_droid_with_our_fields_is_an_observation() -> None:
    request = example("DROID") | BESIDES | {"state/stamp_ns": 5}
    assert client_of(request) == "DROID"
    seen = read_observation(translated(request, "DROID"))
    np.testing.assert_array_equal(seen.guidance.frame.rgb, OURS["observation/rgb"])
    np.testing.assert_allclose(seen.robot.T_base_tcp, tcp_pose(HOME_Q_RAD), atol=1e-6)
    assert seen.robot.gripper_m == pytest.approx(0.75 * MAX_WIDTH_M)
    assert np.isnan(seen.robot.dq_rad_s).all()
    assert (seen.instruction, seen.history) == ("Go.", ())


def test_our_fields_count_where_a_request_has_both() -> None:
    request = example("LIBERO") | OURS
    seen = read_observation(translated(request, client_of(request)))
    np.testing.assert_array_equal(seen.robot.T_base_tcp, OURS["state/T_base_tcp"])
    assert seen.robot.gripper_m == OURS["state/gripper_m"]
    without = {name: value for name, value in request.items() if name != "state/gripper_m"}
    assert translated(without, "LIBERO")["state/gripper_m"] == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("client", "missing"),
    [
        ("DROID", ["depth_m", "K", "T_base_camera", "path_m", "state/stamp_ns"]),
        ("LIBERO", ["depth_m", "K", "T_base_camera", "path_m", "state/q_rad", "state/T_base_tcp"]),
    ],
)
def test_what_they_do_not_send_is_named_and_nothing_is_predicted(client: str, missing: list[str]) -> None:
    def act(_: Observation) -> Keypose | None:
        raise AssertionError("the policy was asked")

    with served(Told(act)) as server, connect(f"ws://127.0.0.1:{server.port}", compression=None) as connection:
        connection.recv()
        connection.send(wire.pack(example(client)))
        said = connection.recv()
    assert isinstance(said, str)
    assert said.startswith(f"openpi's {client} client does not send what this policy needs: add ")
    assert all(name in said for name in missing)
    assert "gripper_m" not in said


@pytest.mark.parametrize("client", CLIENTS)
def test_a_field_of_another_shape_or_type_is_refused(client: str) -> None:
    for field in CLIENTS[client]:
        whole = example(client)
        lacking = {name: value for name, value in whole.items() if name != field.theirs}
        for request, sentence in (
            (lacking, f"{field.theirs}: is missing."),
            (whole | {field.theirs: np.zeros((2, 2), field.dtype)}, f"{field.theirs}: wanted an array"),
        ):
            with pytest.raises(WireError) as error:
                translated(request, client)
            assert str(error.value).startswith(sentence)


def test_such_a_client_gets_no_actions_that_it_would_take_for_velocities() -> None:
    answer = Keypose(tcp_pose(HOME_Q_RAD), True, False, 7)
    with served(Told(lambda _: answer)) as server, connect(f"ws://127.0.0.1:{server.port}") as connection:
        connection.recv()
        connection.send(wire.pack(example("DROID") | BESIDES | {"state/stamp_ns": 5}))
        theirs = wire.unpack(connection.recv())
        connection.send(wire.pack(OURS))
        ours = wire.unpack(connection.recv())
    assert "actions" not in theirs
    np.testing.assert_array_equal(theirs["keypose"]["T_base_tcp"], answer.T_base_tcp)
    assert ours["actions"].shape == (1, 8)
