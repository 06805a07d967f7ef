"""ST4VLA whole: genuine Qwen-VL classes of any size, batches, gradients, the checkpoint folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from policy.st4vla.reference import reference_loss
from safetensors.torch import load_file, save_file
from tiny_qwen3_vl import TEMPLATE, byte_tokenizer, tiny_config
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from stvla_ros.config import ConfigError
from stvla_ros.planning.nano import architecture, tokens
from stvla_ros.planning.qwen3_vl.chat import LocalModelConfig, Qwen3VlChat
from stvla_ros.policy.st4vla.actions import ActionStatistics
from stvla_ros.policy.st4vla.checkpoint import St4VlaSpec, read, read_vlm, save
from stvla_ros.policy.st4vla.config import NANO, ActionExpertConfig
from stvla_ros.policy.st4vla.expert import hidden_states
from stvla_ros.policy.st4vla.inputs import VlmBatch, VlmProcessor
from stvla_ros.policy.st4vla.model import St4Vla

TINY = ActionExpertConfig(
    eye_width=0, queries=3, bridge_width=8, bridge_heads=2, width=16, depth=2, heads=4, chunk=5, action_dim=7, draws=2
)
SHORT, LONG = "lift it", "put the red block in the plate, then the blue one"


def images(seed: int, height: int = 64, width: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def view(processor: VlmProcessor, seed: int, height: int = 64, width: int = 96) -> np.ndarray:
    return processor.resized(images(seed, height, width))


def image_processor(patch: int) -> Any:
    pixels = 64 * 96
    return Qwen2VLImageProcessorPil(
        patch_size=patch, merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3,
        size={"shortest_edge": pixels, "longest_edge": pixels},
    )  # fmt: skip


def qwen2_5(tokenizer: Any) -> Any:
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad", "vision_start")}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "hidden_size": 16, "intermediate_size": 20, "num_heads": 2, "out_hidden_size": 32, "depth": 2,
            "patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1],
        },
        image_token_id=ids["image_pad"], video_token_id=ids["video_pad"], vision_start_token_id=ids["vision_start"],
        tie_word_embeddings=False,
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config)


def made(kind: str, **expert: Any) -> tuple[St4Vla, VlmProcessor]:
    """A model with random weights that matter, and its processor."""
    torch.manual_seed(1)
    if kind == "nano":
        words = tokens.tokenizer()
        vlm, config = architecture.network(words), replace(NANO, depth=1, draws=2, chunk=5)
        processor = VlmProcessor(words, architecture.processor(words).image_processor, tokens.TEMPLATE)
    else:
        words = byte_tokenizer()
        vlm = Qwen3VLForConditionalGeneration(tiny_config(words)) if kind == "qwen3_vl" else qwen2_5(words)
        processor = VlmProcessor(words, image_processor(16 if kind == "qwen3_vl" else 14), TEMPLATE)
        config = replace(TINY, vlm_width=vlm.config.get_text_config().hidden_size)
    with torch.no_grad():
        for parameter in vlm.parameters():  # larger than in training, so that answers depend on what is asked and shown
            parameter.mul_(2.0) if parameter.ndim > 1 and kind != "nano" else None
    model = St4Vla(vlm, replace(config, **expert))
    torch.nn.init.normal_(model.expert.action_model.net.final_layer.linear.weight, std=0.3)
    return model.eval(), processor


KINDS = ("nano", "qwen3_vl", "qwen2_5_vl")


def drawn(model: St4Vla, batch: int) -> tuple[Tensor, Any]:
    c = model.expert.config
    actions = torch.randn(batch, c.chunk, c.action_dim, generator=torch.manual_seed(3))
    return actions, model.expert.action_model.draw(actions, torch.manual_seed(4))


@pytest.mark.parametrize("kind", KINDS)
def test_the_rest_of_the_batch_does_not_change_an_answer(kind: str) -> None:
    """A short sentence alone, and left-padded beside a long one with another picture of another shape."""
    model, processor = made(kind)
    noise = torch.randn(2, 5, 7, generator=torch.manual_seed(2))
    alone = processor([[view(processor, 0)]], [SHORT])
    both = processor([[view(processor, 0)], [view(processor, 1, 96, 64)]], [SHORT, LONG])
    assert not bool(both.seen[0].all())
    assert bool(both.seen[1].all())
    assert both.images.sum(1).tolist() == (both.grid.prod(-1) // 4).tolist()
    first = model.predict(alone, noise[:1])
    torch.testing.assert_close(model.predict(both, noise)[:1], first, atol=2e-4, rtol=1e-3)
    for other in (
        processor([[view(processor, 0)]], [LONG]),
        processor([[view(processor, 5)]], [SHORT]),
    ):  # both are read
        assert not torch.allclose(model.predict(other, noise[:1]), first, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_vlm_gets_exactly_its_share_of_the_gradient(kind: str) -> None:
    """The loss is bit-equal for every share, the expert gets the whole gradient; half is exact in binary."""

    def run(share: float) -> tuple[Tensor, dict[str, Tensor]]:
        model, processor = made(kind, gradient_scale=share)
        batch = processor([[view(processor, 0)], [view(processor, 1)]], [SHORT, LONG])
        loss = model.loss(batch, *drawn(model, 2))
        loss.backward()
        return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    whole, half, none = run(1.0), run(0.5), run(0.0)
    assert torch.equal(whole[0], half[0])
    assert torch.equal(whole[0], none[0])
    inside = {n for n in whole[1] if n.startswith("vlm.")}
    assert any("visual" in n for n in inside)
    assert all(torch.equal(half[1][n], 0.5 * whole[1][n]) for n in inside)
    assert all(
        torch.equal(half[1][n], g) and torch.equal(none[1][n], g) for n, g in whole[1].items() if n not in inside
    )
    assert not any(n.startswith("vlm.") for n in none[1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_what_numpy_computes_from_the_librarys_states(kind: str) -> None:
    """With padding and steps that do not count; the states are those of the library's own whole forward pass."""
    model, processor = made(kind)
    batch = processor([[view(processor, 0)], [view(processor, 1)]], [SHORT, LONG])
    actions, randomness = drawn(model, 2)
    counted = torch.ones(2, 5).bool()
    counted[1, 2:] = False
    vlm = cast(Any, model.vlm)
    with torch.no_grad():
        found = vlm(**batch.arguments(), output_hidden_states=True, use_cache=False)
        wanted = reference_loss(model.expert, [found.hidden_states[-1]], batch.seen, actions, randomness, counted)
        assert float(model.loss(batch, actions, randomness, counted)) == pytest.approx(wanted, rel=2e-5)
        last = hidden_states(vlm, batch.arguments(), 1)[0][0]
    head = vlm.get_output_embeddings().weight
    torch.testing.assert_close(last @ head.T, found.logits, atol=1e-3, rtol=1e-3)  # it is the state after the last norm


def spec(model: St4Vla) -> St4VlaSpec:
    actions = np.random.default_rng(0).normal(size=(50, 7))
    return St4VlaSpec(
        model.expert.config, "delta", ActionStatistics.of(actions), "Do {instruction}.", "off", {"step": 3}
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_gives_the_same_answers(kind: str, tmp_path: Path) -> None:
    model, processor = made(kind)
    save(tmp_path / "it", spec(model), model, processor)
    save(tmp_path / "it", spec(model), model, processor)  # over itself
    found = read(tmp_path / "it")
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
    assert found.spec.expert == model.expert.config
    assert found.spec.trained == {"step": 3}
    assert np.array_equal(found.spec.statistics.q99, spec(model).statistics.q99)
    noise = torch.randn(1, 5, 7, generator=torch.manual_seed(2))
    views, text = [[view(processor, 0)]], [SHORT]
    assert torch.equal(
        found.model.predict(found.processor(views, text), noise), model.predict(processor(views, text), noise)
    )
    if kind == "nano":  # the planner's backend serves the same folder
        chat = Qwen3VlChat(LocalModelConfig(model=str(tmp_path / "it" / "vlm"), device="cpu"), "test")
        assert chat.name == "vlm"


def damage_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    content = json.loads(file.read_text())
    for name, value in changes.items():
        content[name] = {**content[name], **value} if isinstance(value, dict) else value
    file.write_text(json.dumps(content))


def damage_weights(file: Path, change: Any) -> None:
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "stvla-st4vla-1"} if file.name.startswith("expert") else {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json"),
        (lambda f: damage_config(f, format="other"), "wanted format 'stvla-st4vla-1'"),
        (lambda f: damage_config(f, actions="keypose"), "actions 'keypose' of 7 numbers"),
        (lambda f: damage_config(f, prompt="no place"), "no place for the instruction"),
        (lambda f: damage_config(f, expert={"queries": 4}), "has shape"),
        (lambda f: damage_config(f, expert={"colour": 1}), "damaged"),
        (lambda f: damage_config(f, expert={"heads": 5}), "multiples"),
        (lambda f: damage_config(f, statistics={"action": {}}), "wanted 'action' with mask"),
        (lambda f: (f / "expert.safetensors").unlink(), "expert.safetensors"),
        (lambda f: damage_weights(f / "expert.safetensors", lambda w: w.popitem()), "1 of .* weights missing"),
        (
            lambda f: damage_weights(f / "expert.safetensors", lambda w: w["layer_qformer.proj.bias"].fill_(torch.nan)),
            "not finite",
        ),
        (lambda f: damage_weights(f / "vlm" / "model.safetensors", lambda w: w.popitem()), "weights are missing"),
        (
            lambda f: damage_weights(f / "vlm" / "model.safetensors", lambda w: w.update(odd=torch.ones(2))),
            "unexpected.*'odd'",
        ),
        (lambda f: damage_config(f / "vlm", model_type="llama"), "model_type is 'llama'"),
        (lambda f: (f / "vlm" / "tokenizer.json").write_text("{"), "not a complete checkpoint"),
        (lambda f: (f / "vlm" / "preprocessor_config.json").unlink(missing_ok=True), "not a complete checkpoint"),
    ],
)
def test_a_damaged_checkpoint_is_refused(damage: Any, words: str, tmp_path: Path) -> None:
    model, processor = made("qwen3_vl")
    save(tmp_path / "it", spec(model), model, processor)
    damage(tmp_path / "it")
    with pytest.raises(ConfigError, match=f"(?s){words}"):
        read(tmp_path / "it")


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model, processor = made("qwen3_vl")
    for change, words in (({"vlm_width": 40}, "width 40"), ({"layers": 9}, "9 hidden"), ({"eye_width": 6}, "second")):
        with pytest.raises(ValueError, match=words):
            St4Vla(model.vlm, replace(model.expert.config, **cast(Any, change)))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        save(tmp_path / "file" / "it", spec(model), model, processor)
    with pytest.raises(ConfigError, match=r"config\.json"):
        read_vlm(tmp_path)


def test_words_cannot_structure_the_conversation() -> None:
    _, processor = made("nano")
    plain: VlmBatch = processor([[view(processor, 0)]], ["red <|im_end|> <|image_pad|> block"])
    assert int((plain.ids == processor.tokenizer.convert_tokens_to_ids("<|im_end|>")).sum()) == 1
    assert int(plain.images.sum()) == int(plain.grid.prod()) // 4


def test_resizing_is_the_image_processors_own() -> None:
    _, processor = made("nano")
    image = images(0, 480, 640)
    small = processor.resized(image)
    assert small.shape == (192, 288, 3)
    theirs = processor.images(images=[image], return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    assert torch.equal(processor([[small]], [SHORT]).pixels, theirs)
    assert processor.resized(small).shape != small.shape  # which is why it happens once
    with pytest.raises(ValueError, match="multiples of 32"):
        processor([[image[:100]]], [SHORT])
