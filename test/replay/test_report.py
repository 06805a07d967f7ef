"""The HTML report, read back as a browser would: its elements, its text, what it asks the network for."""

import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from replay.sample import NASTY, SECOND_NS, SampleTask, frame, keypose, replayed

from stvla_ros.config import ConfigError
from stvla_ros.replay import pictures
from stvla_ros.replay.html import VOID, Series, element, plot
from stvla_ros.replay.index import Row, write_index
from stvla_ros.replay.report import MOST_PICTURED, Side, write_report
from stvla_ros.replay.values import Kind, Mode

VOID_ELEMENTS = (*VOID, "meta", "!doctype")
SHIFTS = {3: 0.02, 6: 0.05, 8: 0.01}


class Page(HTMLParser):
    """Elements, text, and whether every element is closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._open = "", []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID_ELEMENTS:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += f"{data} "

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def written(folder: Path, task: SampleTask, shifts: dict[int, float]) -> Page:
    replay, comparison = replayed(task, shifts)
    write_report(folder / "report.html", task, comparison, Side.recorded(task), Side.of(replay))
    return Page(folder / "report.html")


def test_first_line_is_the_verdict(tmp_path: Path) -> None:
    page = written(tmp_path, SampleTask(), SHIFTS)
    assert page.text.split("First part")[0].strip() == "bag & <i>one</i>: recorded and replayed"  # the title
    assert "First part at step 3 (predict): 20.0 mm." in page.text
    assert page.all("h1") == [{"class": "parts"}]
    assert written(tmp_path, SampleTask(), {}).all("h1") == [{"class": "same"}]


def test_steps_are_ordered_by_time_or_worst_first_without_javascript(tmp_path: Path) -> None:
    steps = written(tmp_path, SampleTask(), SHIFTS).all("details")
    order = {int(s["id"].removeprefix("step-")): list(map(int, re.findall(r"\d+", s["style"]))) for s in steps}
    assert sorted(order, key=lambda n: order[n][0]) == [0, 3, 4, 5, 6, 8, 9]  # equal frames are no steps
    assert sorted(order, key=lambda n: order[n][1]) == [6, 3, 8, 0, 4, 5, 9]
    assert [s["id"] for s in steps if "open" in s] == ["step-3"]  # the first that differs
    assert {s["id"] for s in steps if s["class"] == "parts"} == {"step-3", "step-6", "step-8"}


def test_words_of_others_stay_words(tmp_path: Path) -> None:
    page = written(tmp_path, SampleTask(), SHIFTS)
    assert NASTY in page.text
    assert "<b>raw</b>" in page.text
    assert len(page.all("script")) == 1
    assert page.all("b") == []


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    page = written(tmp_path, SampleTask(), SHIFTS)
    assert {image["src"].split(",")[0] for image in page.all("img")} == {"data:image/webp;base64"}
    assert all(image["loading"] == "lazy" and image["alt"] for image in page.all("img"))
    assert not re.search(r"https?://|@import|url\(|<link|src=\"(?!data:)", page.source)


def test_frames_are_read_in_order_of_time_and_a_lost_one_is_said(tmp_path: Path) -> None:
    task = SampleTask(lost_ns=(5 * SECOND_NS,))
    page = written(tmp_path, task, SHIFTS)
    assert task.asked_ns == sorted(task.asked_ns)
    assert page.text.count("No picture: The recording has no such frame.") == 1


def test_pictures_are_of_the_steps_that_differ_when_there_are_many(tmp_path: Path) -> None:
    task = SampleTask()
    task.moments = [m for m in task.moments if m.kind is Kind.PREDICT]
    first = task.moments[0]
    from dataclasses import replace

    task.moments = [replace(first, number=i, stamp_ns=i * SECOND_NS) for i in range(MOST_PICTURED + 5)]
    page = written(tmp_path, task, {MOST_PICTURED + 4: 0.02})
    assert page.text.count("No picture, to keep the report small.") == 5
    assert len(task.asked_ns) == MOST_PICTURED
    assert "No picture" not in page.source.split(f'id="step-{MOST_PICTURED + 4}"')[1]
    assert (tmp_path / "report.html").stat().st_size < 10e6


def test_two_replays_are_compared_like_a_recording_and_a_replay(tmp_path: Path) -> None:
    task = SampleTask()
    (one, _), (other, comparison) = replayed(task, {}), replayed(task, SHIFTS)
    write_report(tmp_path / "a.html", task, comparison, Side.of(one), Side.of(other))
    assert "20.0 times real time" in Page(tmp_path / "a.html").text


def test_a_decision_that_only_one_side_made_is_told(tmp_path: Path) -> None:
    task = SampleTask()
    replay, comparison = replayed(task, {})
    side = Side("replayed", {d.number: d for d in replay.decisions if d.number != 3}, Mode.FREE)
    write_report(tmp_path / "a.html", task, comparison, Side.recorded(task), side)
    assert "No decision." in Page(tmp_path / "a.html").text


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    task = SampleTask()
    replay, comparison = replayed(task, {})
    with pytest.raises((ConfigError, OSError)):
        write_report(tmp_path / "file" / "a.html", task, comparison, Side.recorded(task), Side.of(replay))


def test_index_links_to_the_reports_worst_first(tmp_path: Path) -> None:
    _, same = replayed(SampleTask(), {})
    _, parts = replayed(SampleTask(), SHIFTS)
    rows = [Row("same", "same.html", same), Row("parts", "a/parts.html", parts), Row("<bad>", "", None, "is empty.")]
    write_index(tmp_path / "index.html", "2 of 3 differ.", rows, [("value", "mean"), ("position mm", "1.5")])
    page = Page(tmp_path / "index.html")
    assert [link["href"] for link in page.all("a")] == ["a/parts.html", "same.html"]
    assert page.text.index("<bad>") < page.text.index("First part") < page.text.index("Same decisions.")
    assert "position mm" in page.text


def test_masks_of_one_side_alone_have_its_colour() -> None:
    here, there = np.zeros((120, 160), bool), np.zeros((120, 160), bool)
    here[:40], there[20:60] = True, True
    picture = pictures.guidance_picture(frame(1), (None, None), 0.05, (here, there)).astype(int)
    only_first, both, only_second, none = (picture[y, 300] for y in (20, 75, 120, 200))
    assert only_first[2] > only_first[0] + 60
    assert only_second[0] > only_second[2] + 60
    assert both.max() < 90
    assert none.tolist() == [150, 150, 150]


def test_gripper_is_drawn_where_the_camera_would_see_it() -> None:
    """The tool is at (0.4, 0.05, 0.02); the camera looks down from (0.5, 0, 1)."""
    picture = pictures.keypose_picture(frame(1), (keypose(), None), zoom=False).astype(int)
    blue = (np.abs(picture - pictures.FIRST).sum(axis=2) < 60).nonzero()
    px = np.array([79.5 - 200 * 0.1 / 0.98, 59.5 - 200 * 0.05 / 0.98]) * pictures.WIDTH_PX / 160
    assert np.abs(np.array([blue[1].mean(), blue[0].mean()]) - px).max() < 12


def test_enlarged_window_keeps_projection_and_image_together() -> None:
    """A corner of the red block on the table lies at the same pixel in the picture and by the camera of the canvas."""
    corner = np.array([[0.5 - (79.5 - 49.5) / 200, (59.5 - 49.5) / 200, 0.0]])  # where pixels 49 and 50 meet
    view = pictures.canvas(frame(1), corner)
    red = view.rgb[..., 1] < 90
    px = pictures.project(view.camera, corner)[0][0]
    assert red.any()
    assert view.size_px[0] == pytest.approx(40)
    assert np.nonzero(red)[1].max() == pytest.approx(px[0], abs=6)
    assert np.nonzero(red)[0].min() == pytest.approx(px[1], abs=6)


def test_picture_survives_its_encoding() -> None:
    uri = pictures.data_uri(frame(1).rgb)
    import base64

    back = cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(back.astype(int) - frame(1).rgb).mean() < 6


def test_plot_leaves_out_what_is_not_a_number() -> None:
    drawn = plot("a < b", [Series("one", "first", [0, 1, 2], [1.0, float("nan"), 3.0])], 2.0)
    assert drawn.count("<circle") == 2
    assert "a &lt; b" in drawn
    assert plot("none", [Series("one", "first", [0.0], [float("nan")])], 2.0) == ""


def test_attributes_are_escaped() -> None:
    assert element("p", "<", title='"<') == '<p title="&quot;&lt;">&lt;</p>'
