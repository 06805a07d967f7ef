"""One released file as a whole: saved as training saves it, inspected, converted, built, run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from policy.checkpoint.released_files import constants, diffuser_actor, flowmatch_actor, random_values, save, two_hands

from stvla_ros.cli import main
from stvla_ros.commands import exit_codes
from stvla_ros.policy.checkpoint.literal_quaternion import read_literally
from stvla_ros.policy.checkpoint.policy_file import read_policy_file
from stvla_ros.policy.network.network import NetworkInput, Noise

BOUNDS = {"close_jar": [[-0.1, -0.3, 0.76], [0.5, 0.4, 0.93]], "turn_tap": [[0.0, -0.2, 0.7], [0.4, 0.5, 0.9]]}


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(a) for a in arguments]) == exit_codes.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def done(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(a) for a in arguments]) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def gnfactor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("released") / "diffuser_actor_gnfactor.pth"
    return save(path, random_values(diffuser_actor()), optimizer={"state": {}})


def observation() -> NetworkInput:
    generator = torch.Generator().manual_seed(5)
    rgb = torch.rand((1, 1, 3, 256, 256), generator=generator)
    xyz = torch.rand((1, 1, 3, 256, 256), generator=generator) * 0.5
    return NetworkInput(
        rgb, xyz, torch.randn((1, 53, 512), generator=generator), torch.rand((1, 3, 1, 8), generator=generator)
    )


def test_converted_and_run(gnfactor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keyposes = {}
    for quaternion in ("wxyz_literal", "xyzw"):
        out = tmp_path / f"{quaternion}.safetensors"
        how = ("--as", "diffuser_actor_gnfactor", "--quaternion", quaternion, "--steps", 4)
        assert quaternion in done(capsys, "policy", "convert", gnfactor, out, *how)
        policy = read_policy_file(out)
        noise = Noise.draw(policy.network, 1, torch.Generator().manual_seed(6))
        keyposes[quaternion] = policy.build_fast().predict(observation(), noise)[0, 0, 0]
        low, high = (torch.tensor(corner) for corner in policy.bounds_m)
        assert ((keyposes[quaternion][:3] >= low) & (keyposes[quaternion][:3] <= high)).all()
        assert keyposes[quaternion][3:7].norm() == pytest.approx(1.0, abs=1e-5)
    assert torch.equal(keyposes["wxyz_literal"], read_literally(keyposes["xyzw"]))
    assert not torch.allclose(keyposes["wxyz_literal"][3:7], keyposes["xyzw"][3:7], atol=0.05)


def test_inspected_before_and_after(gnfactor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = json.loads(done(capsys, "policy", "inspect", gnfactor, "--json"))
    assert (before["kind"], before["width"], before["heads"], before["denoiser"]) == (
        "3D Diffuser Actor",
        120,
        None,
        "ddpm",
    )
    assert before["layers"] == {"vision_text": 2, "history": 3, "cross": 2, "shared": 4, "branch": 2}
    assert before["presets"] == ["diffuser_actor_gnfactor"]  # by its name; the other one has the same shapes
    assert any(need.startswith("--quaternion") for need in before["needs"])
    assert before["trained"] == {"steps": 600_000}
    out = tmp_path / "out.safetensors"
    done(capsys, "policy", "convert", gnfactor, out, "--as", "diffuser_actor_gnfactor")
    after = json.loads(done(capsys, "policy", "inspect", out, "--json"))
    assert (after["kind"], after["heads"], after["steps"], after["needs"]) == ("stvla policy", 8, 100, [])
    assert (after["cameras"], after["quaternion"], after["frame"]) == (["front"], "wxyz_literal", "rlbench")
    assert (after["parameters"], after["trainable"]) == (before["parameters"], before["trainable"])
    assert after["trained"]["source"] == "diffuser_actor_gnfactor.pth"
    text = done(capsys, "policy", "inspect", gnfactor)
    assert "not in the file" in text
    assert "--as diffuser_actor_gnfactor" in text


def test_inspected_with_two_hands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "3dfa_peract2.pth", constants(two_hands(flowmatch_actor())))
    found = json.loads(done(capsys, "policy", "inspect", path, "--json"))
    assert (found["kind"], found["past_poses"], found["hands"]) == ("3D FlowMatch Actor", 6, None)
    assert (found["layers"]["vision_text"], found["presets"], found["text"]) == (3, ["3dfa_peract2"], "clip")
    assert found["bounds_m"] == [[-0.3, -0.5, 0.6], [0.7, 0.5, 1.6]]
    assert found["needs"][-1].startswith("--frame")


def test_bounds_from_a_file(gnfactor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bounds, out = tmp_path / "bounds.json", tmp_path / "out.safetensors"
    bounds.write_text(json.dumps(BOUNDS))
    command = ("policy", "convert", gnfactor, out, "--as", "diffuser_actor_gnfactor", "--bounds", bounds)
    assert "--bounds and --task go together" in refused(capsys, *command)
    done(capsys, *command, "--task", "all", "--buffer", 0.1)
    assert read_policy_file(out).bounds_m == pytest.approx(
        torch.tensor([[-0.2, -0.4, 0.6], [0.6, 0.6, 1.03]]).numpy(), abs=1e-6
    )


def test_refusals(gnfactor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, torn = tmp_path / "out.safetensors", tmp_path / "torn.pth"
    torn.write_bytes(gnfactor.read_bytes()[:1000])
    convert = ("policy", "convert", gnfactor, out)
    assert "--quaternion xyzw|wxyz_literal" in refused(capsys, *convert)
    assert "wanted --quaternion xyzw|wxyz_literal" in refused(
        capsys, *convert, "--as", "diffuser_actor_gnfactor", "--quaternion", "wxyz"
    )
    assert "Did you mean 'diffuser_actor_gnfactor'" in refused(capsys, *convert, "--as", "diffuser_gnfactor")
    assert "is one of 3D FlowMatch Actor" in refused(capsys, *convert, "--as", "3dfa_peract2")
    assert ".safetensors" in refused(capsys, "policy", "convert", gnfactor, tmp_path / "out.pth")
    assert "cut off" in refused(capsys, "policy", "inspect", torn)
    assert "found nothing" in refused(capsys, "policy", "inspect", tmp_path / "none.pth")
    assert not out.exists()
    out.write_text("mine")
    assert "exists already" in refused(capsys, *convert, "--as", "diffuser_actor_gnfactor")
    assert "text, not a checkpoint; it begins 'mine'" in refused(capsys, "policy", "inspect", out)
    refused(capsys, "policy")
    refused(capsys, "policy", "look", gnfactor)
    assert "--stepz" in refused(capsys, *convert, "--stepz", 3)
