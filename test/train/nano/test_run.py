"""The nano Qwen3-VL: packing is exact, tokens are single, losses are what they say, a checkpoint is served by `qwen3_vl`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ray_caster import home_robot

from stvla_ros.planning.heatmap.words import PALETTE
from stvla_ros.planning.nano.architecture import network, processor
from stvla_ros.planning.nano.tokens import NUMBERS, PAD, TEMPLATE, UNKNOWN, tokenizer
from stvla_ros.planning.parse import parse_action, parse_offsets, parse_points, parse_progress
from stvla_ros.planning.prompt import progress_prompt, write_progress
from stvla_ros.planning.qwen3_vl.chat import LocalModelConfig, Qwen3VlChat
from stvla_ros.planning.task_memory import TaskMemory
from stvla_ros.train.nano.batch import PackedBatches
from stvla_ros.train.nano.loss import SUPERVISED_LAYERS, attend, attention_loss, number_loss
from stvla_ros.train.nano.packing import COORDINATE, Packer, pack, patches
from stvla_ros.train.nano.run import NanoExperiment, NanoRun
from stvla_ros.train.run import TrainingProgress
from stvla_ros.train.scenes import dialogues
from stvla_ros.train.scenes.dialogues import (
    Exchange,
    further_paths,
    path_is_seen,
    pointing_conversations,
    task_conversations,
)
from stvla_ros.train.scenes.shards import Scenes, load, resized
from stvla_ros.types import Keypose, PlanRequest

TOKENS = tokenizer()
PAD_ID = int(TOKENS.convert_tokens_to_ids(PAD))
IMAGE_ID = int(TOKENS.convert_tokens_to_ids("<|image_pad|>"))


def asked_about(scenes: Scenes, index: int) -> list[list[Exchange]]:
    rng = np.random.default_rng(index)
    return [*pointing_conversations(scenes, index, rng), *task_conversations(scenes, index, rng, depth=True)]


def with_a_path(scenes: Scenes) -> int:
    return next(
        i
        for i in range(len(scenes))
        if any(conversation[-1].with_depth and len(conversation) > 2 for conversation in asked_about(scenes, i))
    )


def test_a_number_is_one_token_with_its_own_value_as_id() -> None:
    for n in (0, 7, 643, 1000, NUMBERS - 1):
        assert TOKENS(str(n), add_special_tokens=False)["input_ids"] == [n]
    assert len(TOKENS("[(643, 367), (0, 1000)]", add_special_tokens=False)["input_ids"]) == 9


def test_protocol_texts_have_no_unknown_word_and_come_back(scenes: Scenes) -> None:
    unknown = TOKENS.convert_tokens_to_ids(UNKNOWN)
    seen = 0
    for index in range(len(scenes)):
        for exchange in (
            e for conversation in asked_about(scenes, index) for e in conversation if e.answer != "unknown"
        ):
            for text in (exchange.question, exchange.answer):
                ids = TOKENS(text, add_special_tokens=False)["input_ids"]
                assert unknown not in ids, text
                assert TOKENS.decode(ids, skip_special_tokens=True) == text.lower()
                seen += 1
    assert seen > 80


def test_answers_are_read_by_the_protocols_own_parsers(scenes: Scenes) -> None:
    kinds = set()
    for index in range(len(scenes)):
        for exchange in (
            e for conversation in asked_about(scenes, index) for e in conversation if e.answer != "unknown"
        ):
            if exchange.question.startswith("Point"):
                parse_points(exchange.answer, 1)
            elif exchange.kind == "points":
                parse_points(exchange.answer)
            elif exchange.kind == "offsets":
                parse_offsets(exchange.answer)
            elif exchange.answer.startswith("step"):
                parse_progress(exchange.answer)
            else:
                parse_action(exchange.answer)
            kinds.add((exchange.kind, exchange.answer[:4] == "step"))
    assert len(kinds) == 4


def test_what_a_planner_asks_while_buttons_are_pressed_is_learned(
    scenes: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = next(i for i in range(len(scenes)) if scenes.goal(i).action == "push" and scenes.goal(i).steps > 1)
    goal = scenes.goal(index)
    monkeypatch.setattr(dialogues, "say", lambda goal, rng: "push them")
    learned = {
        exchange.question: exchange.answer
        for seed in range(400)
        for conversation in task_conversations(scenes, index, np.random.default_rng(seed), depth=False)
        for exchange in conversation
    }
    memory, frame = TaskMemory(), scenes.frame(index)
    hover, press = Keypose(np.eye(4), False), Keypose(np.eye(4), False, may_collide=True)
    history: tuple[Keypose, ...] = ()
    for step in range(goal.steps):
        for executed in (history, (*history, hover)) if step == 0 else (history,):
            memory.follow(PlanRequest("Push them.", frame, home_robot(), executed))
            question = progress_prompt("Push them.", memory.executed(executed))
            assert learned[question] == write_progress(step + 1, goal.steps, False)
            memory.ask(step + 1, goal.sentence(step))
        history += (hover, press)
    assert learned[progress_prompt("Push them.", memory.executed(history))].endswith("finished: yes")


def test_a_path_is_asked_for_only_where_both_ends_are_seen(scenes: Scenes) -> None:
    a = {**scenes.arrays, "visible_px": scenes.arrays["visible_px"].copy()}
    hidden = Scenes(a, scenes.images)
    asked = 0
    for index in range(len(scenes)):
        goal = scenes.goal(index)
        a["visible_px"][index] = 0
        for step in range(goal.steps):
            asked += path_is_seen(scenes, index, step)
            assert not path_is_seen(hidden, index, step)
    assert asked > 5


def test_further_paths_match_the_scenes_own(folder: Path) -> None:
    compared = 0
    for scenes, index in ((load(folder, split), i) for split in ("train", "val", "unseen") for i in range(12)):
        goal, own = scenes.goal(index), scenes.arrays["path_uv"][index, 0]
        found = further_paths(scenes, index, np.random.default_rng(index), 40, PALETTE)
        assert bool(found) <= (scenes.phase(index) == "before")
        for conversation in found:
            path = parse_points(conversation[0].answer)
            names = [scenes.name(index, i) for i in conversation[0].ends]
            assert all(name.colour in conversation[0].question for name in names if name.colour), conversation[
                0
            ].question
            action = {("block", "plate"): "place", ("block", "block"): "stack"}.get(
                tuple(n.kind for n in names), "push"
            )
            if (action, *names)[: 1 + len(goal.names)] == (goal.action, *goal.names):
                assert np.abs(path - own).max() < 2
                compared += 1
    assert compared > 0


@pytest.mark.parametrize("shape", [(256, 256), (192, 288)])
def test_a_packed_conversation_is_computed_as_if_alone(scenes: Scenes, shape: tuple[int, int]) -> None:
    model, packer = network(TOKENS).eval(), Packer(TOKENS)
    index = with_a_path(scenes)
    image, depth = (resized(i, shape) for i in (scenes.rgb(index), scenes.depth_image(index)))
    row = packer.row(image, asked_about(scenes, index), depth)
    packed = pack([row], PAD_ID)
    together = hidden(model, packed)
    for number, conversation in enumerate(asked_about(scenes, index), 1):
        alone = packer.row(image, [conversation], depth)
        single = pack([alone], PAD_ID)
        kinds = (single.ids == IMAGE_ID).int()
        positions, _ = model.model.get_rope_index(single.ids, kinds, single.grid)
        assert torch.equal(positions, single.positions)
        with torch.no_grad():
            library = model.model(
                input_ids=single.ids, pixel_values=single.pixels, image_grid_thw=single.grid, mm_token_type_ids=kinds
            ).last_hidden_state[0]
        mine = together[0][torch.tensor(row.segment) == number]
        assert torch.allclose(mine, library[torch.tensor(alone.segment) == 1], atol=2e-5)


def hidden(model: torch.nn.Module, p: object) -> torch.Tensor:
    with torch.no_grad():
        seen = model.model.visual(p.pixels, grid_thw=p.grid)  # type: ignore[attr-defined, operator, union-attr]
        image = p.ids == IMAGE_ID  # type: ignore[attr-defined]
        language = model.model.language_model  # type: ignore[union-attr]
        embedded = language.embed_tokens(p.ids).masked_scatter(image[..., None], seen.pooler_output)  # type: ignore
        return language(  # type: ignore[operator, return-value, union-attr]
            inputs_embeds=embedded, position_ids=p.positions, attention_mask=p.mask, visual_pos_masks=image,  # type: ignore
            deepstack_visual_embeds=seen.deepstack_features, use_cache=False,
        ).last_hidden_state  # fmt: skip


def test_tokens_and_patches_are_those_of_the_backends_processor(scenes: Scenes) -> None:
    made = processor(TOKENS)
    made.chat_template = TEMPLATE
    image = scenes.rgb(0)
    theirs = made.image_processor(images=[image], return_tensors="pt", input_data_format="channels_last")
    assert torch.equal(theirs["pixel_values"], patches(image))
    conversation = asked_about(scenes, 0)[0]
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": conversation[0].question}]},
        {"role": "assistant", "content": [{"type": "text", "text": conversation[0].answer}]},
    ]
    text = made.apply_chat_template(messages, tokenize=False).replace("<|image_pad|>", "<|image_pad|>" * 64)
    row = Packer(TOKENS).row(image, [conversation])
    assert TOKENS(text.rstrip("\n"), add_special_tokens=False)["input_ids"] == row.ids


def test_a_number_nearby_costs_less_than_one_far_away(scenes: Scenes) -> None:
    row = Packer(TOKENS).row(scenes.rgb(0), [[Exchange("Point to the plate.", "[(500, 400)]", "points", ends=(3, 3))]])
    batch = pack([row], PAD_ID)
    assert batch.target[batch.kind == COORDINATE].tolist() == [500, 400]
    assert batch.ends[batch.kind == COORDINATE].tolist() == [[3, 3]] * 2
    assert (batch.ends[batch.kind != COORDINATE] == -1).all()

    def cost(shift: int) -> float:
        logits = torch.zeros(len(batch.target), len(TOKENS))
        said = batch.target + shift * (batch.kind == COORDINATE)
        logits[torch.arange(len(said)), said] = 9.0
        return float(number_loss(logits, batch))

    assert cost(0) < cost(6) < cost(200)


def test_near_numbers_and_near_patches_begin_alike() -> None:
    made = network(TOKENS)
    numbers, patches = made.lm_head.weight[:NUMBERS].detach(), made.model.visual.pos_embed.weight.detach()

    def alike(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(torch.cosine_similarity(a, b, dim=0))

    assert alike(numbers[400], numbers[402]) > alike(numbers[400], numbers[430]) + 0.2
    assert alike(patches[50], patches[51]) > alike(patches[50], patches[55]) + 0.2
    assert alike(patches[50], patches[66]) > alike(patches[50], patches[130]) + 0.2


@pytest.mark.parametrize("masked", [True, False])
def test_attention_in_training_is_that_of_the_library(masked: bool) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 9, 8)
    mask = torch.ones(9, 9, dtype=torch.bool).tril()[None, None] if masked else None
    mine, _ = attend(torch.nn.Module(), q, k, v, mask, scaling=8**-0.5)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)
    assert torch.allclose(mine, theirs.transpose(1, 2), atol=1e-6)


def test_attention_on_the_object_costs_less_than_next_to_it(scenes: Scenes) -> None:
    batch = PackedBatches(Packer(TOKENS), PAD_ID).draw(scenes, 2, True, np.random.default_rng(0))
    made = network(TOKENS)
    p, parts = batch.packed, batch.object_index.split(batch.packed.cells.prod(-1).tolist())

    def cost(shift: int) -> float:
        scores = torch.zeros(len(p.ids), p.ids.shape[1], p.ids.shape[1])
        for row, before, wanted in zip(p.row.tolist(), p.before.tolist(), p.ends[:, 0].tolist(), strict=True):
            shows = (parts[row] == wanted).any(-1) & (wanted >= 0)
            begin = int(p.first_image[row, 0])
            scores[row, before, begin : begin + len(shows)] = 9.0 * shows.roll(shift)
        for layer in SUPERVISED_LAYERS:
            made.model.language_model.layers[layer].self_attn.supervised_scores = scores
        return float(attention_loss(made, p, batch.object_index))

    assert cost(0) < 3 < cost(27)


def test_a_token_is_trained_on_the_point_of_its_object(scenes: Scenes) -> None:
    batch = PackedBatches(Packer(TOKENS), PAD_ID).draw(scenes, 4, True, np.random.default_rng(0))
    shows = (batch.object_index >= 0).any(-1)
    assert batch.uv[~shows].isnan().all()
    assert 0.7 < torch.isfinite(batch.uv[shows]).all(-1).float().mean() <= 1
    first = batch.uv[: int(batch.packed.cells[0].prod())].reshape(*batch.packed.cells[0].tolist(), 2)
    y, x = torch.isfinite(first).all(-1).nonzero().T
    down, across = batch.packed.cells[0].tolist()
    centres = torch.stack([(x + 0.5) / across, (y + 0.5) / down], -1) * 1000
    assert (first[y, x] - centres).abs().mean() < 120  # a token is 125 wide, a plate three of them


def test_a_step_lowers_the_loss_and_the_checkpoint_is_served(scenes: Scenes, tmp_path: Path) -> None:
    experiment = NanoExperiment(scenes=8, pointing=4, batch=4, warmup=1, validate_every=8, bf16=False)
    run = NanoRun(experiment, lambda: scenes, {}, tmp_path)
    batch = PackedBatches(Packer(TOKENS), PAD_ID).draw(scenes, 4, True, np.random.default_rng(0))
    before = {name: float(value.detach()) for name, value in run.losses(batch).items()}
    reports: list[TrainingProgress] = []
    run.run(reports.append)
    after = {name: float(value.detach()) for name, value in run.losses(batch).items()}
    assert all(after[name] < before[name] for name in ("total", "numbers", "showing", "placing"))
    assert reports[-1].done == 8
    assert sum(f.stat().st_size for f in run.checkpoint.iterdir()) < 16e6
    model = Qwen3VlChat(LocalModelConfig(model=str(run.checkpoint), device="cpu"), "test")
    assert model.name == "model"
    again = NanoRun(experiment, lambda: scenes, {}, tmp_path)
    assert again.step == 2
    assert torch.equal(again.network.lm_head.weight, run.network.lm_head.weight)


def test_wide_cameras_give_wide_images(scenes: Scenes) -> None:
    shapes = {scenes.shape_px(i) for i in range(len(scenes))}
    assert shapes == {(256, 256), (192, 288)}


def test_two_processes_train_as_one_would_on_both_their_scenes(tmp_path: Path) -> None:
    script = tmp_path / "part.py"
    script.write_text(
        "import sys, pathlib, torch\n"
        "from stvla_ros.train.nano.run import Processes\n"
        "used, unused = torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(2))\n"
        "shared = Processes()\n"
        "(used * (shared.rank + 1)).sum().backward()\n"
        "shared.average_gradients([used, unused])\n"
        "said = f'{shared.count} {used.grad.unique().tolist()} {unused.grad.tolist()}'\n"
        "pathlib.Path(sys.argv[1], f'rank{shared.rank}').write_text(said)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(script), str(tmp_path)]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)] == ["2 [1.5] [0.0, 0.0]"] * 2
