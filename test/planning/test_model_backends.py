"""The backends ``qwen3_vl`` and ``openai`` as the stack makes them: from settings to a plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import stalls
import torch
from planning.openai.http_server import Behaviour, Exchange, Server, completion, says
from ray_caster import Scene, block, front_camera, home_robot, plate
from tiny_qwen3_vl import save_tiny
from transformers import Qwen3VLForConditionalGeneration

from stvla_ros import registry
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import project, px_to_uv, uv_to_px
from stvla_ros.planning.chat import Turn
from stvla_ros.planning.depth_image import colourised_depth
from stvla_ros.planning.prompt import depth_prompt, trace_prompt
from stvla_ros.planning.qwen3_vl.chat import LocalModelConfig, Qwen3VlChat
from stvla_ros.tabletop.start_depth import start_depth
from stvla_ros.types import F64, PlanRequest

WORDS = "put the red block in the plate"
LEARNING_RATE, STEPS, LEARNED = 1e-2, 55, 0.02
OFFSETS = "[0, -20, -60, -90, -90, -60, -20, 0]"
PLANS = {"horizon": "off", "explain_form": False, "retries": 0}


def request(width_px: int = 320, height_px: int = 240) -> PlanRequest:
    objects = [block("red", 0.5, 0.1, 0.4), *plate(0.45, -0.22)]
    frame, _ = Scene(objects, front_camera(width_px, height_px)).render(stamp_ns=7)
    return PlanRequest(WORDS, frame, home_robot())


def drawn(ask: PlanRequest) -> F64:
    """(8, 2) whole numbers: from the red block over to the plate."""
    ends = px_to_uv(project(ask.frame.camera, np.array([[0.5, 0.1, 0.04], [0.45, -0.22, 0.02]]))[0], ask.frame.camera)
    way = np.linspace(*ends, 8)
    way[1:-1, 1] -= 60.0
    return np.rint(way)


def written(uv: F64) -> str:
    return str([(int(u), int(v)) for u, v in uv])


def answers(ask: PlanRequest) -> Behaviour:
    """A server that knows the path."""

    def answer(exchange: Exchange) -> None:
        content = exchange.json["messages"][-1]["content"]
        words = content if isinstance(content, str) else content[-1]["text"]
        exchange.send(completion(OFFSETS if "depth offsets" in words else written(drawn(ask))))

    return answer


def test_openai_plans_over_one_connection() -> None:
    ask = request()
    with Server([answers(ask)]) as server:
        planner = registry.create("planner", "openai", {"base_url": server.url, "model": "known", **PLANS})
        plan = planner.plan(ask)
        assert np.array_equal(plan.uv, drawn(ask))
        assert plan.depth_offset_m == pytest.approx([0, -0.02, -0.06, -0.09, -0.09, -0.06, -0.02, 0])
        assert (plan.planner, plan.image_stamp_ns, plan.finished) == ("known", 7, False)
        assert plan.start_depth_m == pytest.approx(ask.frame.depth_m[ask.frame.depth_m > 0].mean(), abs=0.5)
        first, second = (exchange.json["messages"] for exchange in server.asked)
        assert second[: len(first)] == first, "the second stage begins with the first"
        assert server.connections == 1


@pytest.mark.parametrize(
    ("behaviour", "deadline_s", "code"),
    [
        (says("I would rather talk."), 20.0, OutcomeCode.REPLY_UNPARSABLE),
        (says("[(1, 2), (3, 4)", "length"), 20.0, OutcomeCode.REPLY_UNPARSABLE),
        (lambda exchange: exchange.send("{}", "500 Oh no"), 20.0, OutcomeCode.SERVER_ERROR),
        (lambda exchange: exchange.over.wait(5.0), 0.4, OutcomeCode.SERVER_TIMEOUT),
    ],
    ids=["words", "cut", "500", "silence"],
)
def test_openai_plans_end_in_a_typed_outcome_in_time(
    behaviour: Behaviour, deadline_s: float, code: OutcomeCode
) -> None:
    with Server([behaviour]) as server:
        settings = {"base_url": server.url, "model": "q", "reply_deadline_s": deadline_s, **PLANS}
        planner, ask = registry.create("planner", "openai", settings), request()
        start = stalls.clock()
        with pytest.raises(StageError) as error:
            planner.plan(ask)
    assert error.value.code is code
    assert stalls.clock() - start < 4.0


def taught(folder: Path, turns: Sequence[Turn], steps: int) -> Path:
    """The tiny model after it learned a conversation by heart (the answers in it), saved where it was."""
    chat = Qwen3VlChat(LocalModelConfig(str(folder)), "test")
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    whole, wanted = chat._composer.compose(turns), []
    for i in range(1, len(turns), 2):
        start = len(chat._composer.compose(turns[:i]).ids)
        wanted += range(start, start + len(turns[i].text) + 1)  # a token per byte, and the one that ends the answer
    ids = torch.tensor([whole.ids])
    inputs = {
        "input_ids": ids,
        "position_ids": chat._generator._positions(whole),
        "pixel_values": torch.cat([i.pixels for i in whole.images]),
        "image_grid_thw": torch.cat([i.grid for i in whole.images]),
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    for _ in range(4 * steps):  # how many it takes hangs on the rounding of this machine's threads
        scores = model(**inputs).logits[0]
        loss = torch.nn.functional.cross_entropy(scores[[i - 1 for i in wanted]], ids[0, wanted])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < LEARNED:
            break
    assert loss.item() < LEARNED
    model.save_pretrained(folder)
    return folder


def test_qwen3_vl_plans_what_it_learned(tmp_path: Path) -> None:
    """Training, saving, loading, both stages, parsing: the whole way, and the second stage stands on the first."""
    ask = request(128, 96)
    path = written(drawn(ask))
    first = [Turn("user", trace_prompt(WORDS), (ask.frame.rgb,)), Turn("assistant", path)]
    start_m = start_depth(ask.frame, uv_to_px(drawn(ask)[0], ask.frame.camera))
    second = [*first, Turn("user", depth_prompt(start_m), (colourised_depth(ask.frame),)), Turn("assistant", OFFSETS)]
    folder = taught(save_tiny(tmp_path / "tiny"), second, STEPS)
    planner = registry.create("planner", "qwen3_vl", {"model": str(folder), **PLANS})
    plan = planner.plan(ask)
    assert np.array_equal(plan.uv, drawn(ask))
    assert plan.depth_offset_m[3] == pytest.approx(-0.09)
    assert plan.planner == "tiny"
    timing = planner.model.timing
    assert timing.reused_tokens > 0.5 * timing.prompt_tokens
    assert min(timing.prefill_s, timing.decode_s) > 0


def test_qwen3_vl_that_learned_nothing_is_unparsable(tmp_path: Path) -> None:
    settings = {"model": str(save_tiny(tmp_path / "tiny")), "max_tokens": 16, **PLANS}
    with pytest.raises(StageError) as error:
        registry.create("planner", "qwen3_vl", settings).plan(request(128, 96))
    assert error.value.code is OutcomeCode.REPLY_UNPARSABLE
