"""`stvla calibrate` without ROS: the board, a simulated session from its start to its end, and the check."""

import os
import stat

import numpy as np
import pytest
import yaml
from PIL import Image

from stvla_ros.cli import main
from stvla_ros.commands.exit_codes import NOT_CONFIRMED, USAGE, of_outcome
from stvla_ros.errors import OutcomeCode


@pytest.mark.parametrize("name", ["board.pdf", "board.png"])
def test_the_board_to_print(tmp_path, capsys, name):
    assert main(["calibrate", "board", "--output", str(tmp_path / name), "--board", "apriltag", "--columns", "5"]) == 0
    assert "Print at 100 %" in capsys.readouterr().out
    if name.endswith(".png"):
        with Image.open(tmp_path / name) as image:
            assert (np.array(image.size) / image.info["dpi"] * 25.4).round().tolist() == [297, 210]
    else:
        head = (tmp_path / name).read_bytes()
        assert head.startswith(b"%PDF")
        assert b"841.9" in head or b"841.8" in head or b"842" in head  # points: the width of A4


def test_a_session_is_taken_solved_continued_and_solved_again(tmp_path, capsys):
    folder = tmp_path / "s"
    assert main(["calibrate", "--sim", "--poses", "8", "--output", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "8 of 8 poses" in out
    truth_mm = float(out.split("The simulator's camera is ")[1].split(" mm")[0])
    assert truth_mm < 2.0
    result = yaml.safe_load((folder / "calibration.yaml").read_text())
    assert result["transform"]["child"] == "camera_color_optical_frame"
    assert np.linalg.norm(np.array(result["camera"]["translation_m"]) - [1.32, 0.0, 0.92]) < 0.002
    assert len(result["residuals"]["left_out_mm"]) == len(result["poses"]["used"]) == 8
    assert np.array(result["covariance"]).shape == (6, 6)
    assert (folder / "static_transform.sh").stat().st_mode & stat.S_IXUSR
    assert main(["calibrate", "--from", str(folder), "--output", str(tmp_path / "again")]) == 0
    again = yaml.safe_load((tmp_path / "again" / "calibration.yaml").read_text())
    assert again["camera"] == result["camera"]
    capsys.readouterr()
    judged = main(["calibrate", "--check", "--from", str(folder)])  # the guess of then, 3 cm and 2 deg off
    assert judged in (NOT_CONFIRMED, of_outcome(OutcomeCode.CAMERA_MOVED))
    said = capsys.readouterr().out
    assert "Too much" in said or "does not see the arm where its transform says" in said
    os.remove(folder / "calibration.yaml")
    assert main(["calibrate", "--sim", "--poses", "9", "--seed", "3", "--output", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "8 poses from before" in out
    assert "9 of 9 poses" in out
    assert (folder / "calibration.yaml").exists()


def test_the_check_in_simulation(capsys):
    assert main(["calibrate", "--check", "--sim", "--poses", "1"]) == 0
    assert "where its transform says" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["board", "--output", "board.txt"], "wanted a file .pdf or .png"),
        (["--square-mm", "20", "board"], "smaller than its square"),
        (["--sim", "--by-hand"], "wanted one of --sim, --from and --by-hand"),
        (["--from", "/nowhere"], "/nowhere"),
        (["--check", "--from", "/nowhere"], "/nowhere"),
        (["--guess", "1,2,3"], "wanted X,Y,Z,TX,TY,TZ"),
        (["--limit-mm", "-1"], "wanted a number over 0"),
        (["--publish", "/nowhere/c.yaml"], "wanted a calibration"),
    ],
)
def test_wrong_words_get_one_sentence(capsys, words, said):
    assert main(["calibrate", *words]) == USAGE
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
