"""Bridge and action transformer: published sizes, gradient decay, padding, equality with NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from policy.st4vla.reference import reference_loss
from torch import Tensor

from stvla_ros.planning.nano.architecture import network
from stvla_ros.planning.nano.tokens import PAD, tokenizer
from stvla_ros.policy.st4vla.bridge import scaled_gradient
from stvla_ros.policy.st4vla.config import NANO, ActionExpertConfig
from stvla_ros.policy.st4vla.expert import ActionExpert, hidden_states
from stvla_ros.policy.st4vla.heads import DiffusionHead
from stvla_ros.policy.st4vla.transformer import time_features

TINY = ActionExpertConfig(
    vlm_width=12, eye_width=0, queries=3, bridge_width=8, bridge_heads=2, width=16, depth=2, heads=4, chunk=5,
    action_dim=2, draws=3,
)  # fmt: skip


def expert(config: ActionExpertConfig = TINY, seed: int = 0) -> ActionExpert:
    """With an output layer that is not zero."""
    torch.manual_seed(seed)
    made = ActionExpert(config).eval()
    torch.nn.init.normal_(made.action_model.net.final_layer.linear.weight, std=0.3)
    torch.nn.init.normal_(made.action_model.net.final_layer.linear.bias, std=0.3)
    return made


def states(config: ActionExpertConfig = TINY, batch: int = 2, length: int = 7) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(9)
    return [torch.randn(batch, length, config.vlm_width) for _ in range(config.layers)], torch.ones(
        batch, length
    ).bool()


def count(module: torch.nn.Module | None) -> int:
    assert module is not None
    return sum(p.numel() for p in module.parameters())


def test_parameters_are_as_many_as_published() -> None:
    """8.71 M in the bridge (7.09 M per further layer), 0.79 M for the second eye, 86.5 M in the action model."""
    with torch.device("meta"):
        made = ActionExpert(ActionExpertConfig())
        deeper = ActionExpert(ActionExpertConfig(layers=2))
    assert count(made.layer_qformer) == 8_710_656
    assert count(deeper.layer_qformer) - count(made.layer_qformer) == 7_087_872
    assert count(made.dino_pro) == 788_480
    history = 7 * 768 + 768  # history_embedder, which the published code never uses
    assert count(made.action_model) + history == 86_524_423


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.3, 0.0])
def test_the_vlm_gets_exactly_its_share_of_the_gradient(scale: float) -> None:
    """Forward bit-equal; everything else gets the whole gradient."""

    def run(share: float) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        made = expert(replace(TINY, gradient_scale=share))
        hidden, seen = states()
        hidden[0].requires_grad_(True)
        actions = torch.randn(2, 5, 2, generator=torch.manual_seed(1))
        randomness = made.action_model.draw(actions, torch.manual_seed(2))
        loss = made.action_model.loss(made.condition(hidden, seen), actions, randomness)
        loss.backward()
        return loss, hidden[0].grad, [p.grad for p in made.parameters() if p.grad is not None]

    whole, share = run(1.0), run(scale)
    assert torch.equal(whole[0], share[0])
    assert all(torch.equal(a, b) for a, b in zip(whole[2], share[2], strict=True))
    assert whole[1] is not None
    assert float(whole[1].abs().max()) > 0
    if scale == 0.0:
        assert share[1] is None  # the VLM's backward pass is not even computed
    else:
        assert share[1] is not None
        assert torch.equal(share[1], whole[1] * scale)


def test_values_stay_bit_for_bit() -> None:
    x = torch.tensor([0.0, -0.0, 1e-40, 3e38, torch.inf, 0.1])
    for scale in (0.0, 0.3, 1.0):
        assert scaled_gradient(x, scale).numpy().tobytes() == x.numpy().tobytes()


def test_the_second_eye_gets_its_whole_gradient() -> None:
    made = expert(replace(TINY, eye_width=6, gradient_scale=0.0))
    hidden, seen = states()
    hidden[0].requires_grad_(True)
    eye = torch.randn(2, 4, 6, requires_grad=True)
    made.condition(hidden, seen, eye).square().sum().backward()
    assert hidden[0].grad is None
    assert eye.grad is not None
    assert float(eye.grad.abs().max()) > 0
    with pytest.raises(ValueError, match="eye tokens: wanted some, got none"):
        made.condition(hidden, seen)
    with pytest.raises(ValueError, match="eye tokens: wanted none"):
        expert().condition(hidden, seen, eye)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("eye_width", [0, 6])
def test_the_rest_of_the_batch_does_not_change_an_answer(layers: int, eye_width: int) -> None:
    """Alone, or left-padded beside a longer one; whatever the padding holds."""
    made = expert(replace(TINY, layers=layers, eye_width=eye_width))
    hidden, _ = states(made.config, 1, 4)
    eye = torch.randn(2, 4, 6) if eye_width else None
    noise = torch.randn(2, 5, 2)
    alone = made.predict(hidden, torch.ones(1, 4).bool(), noise[:1], None if eye is None else eye[:1])
    for filling in (0.0, 1e4, torch.nan):
        longer = [torch.randn(2, 9, 12) for _ in hidden]
        for long, short in zip(longer, hidden, strict=True):
            long[0, :5], long[0, 5:] = filling, short[0]
        seen = torch.ones(2, 9).bool()
        seen[0, :5] = False
        found = made.predict(longer, seen, noise, eye)
        torch.testing.assert_close(found[:1], alone, atol=1e-5, rtol=1e-5)
    seen[0] = True
    assert not torch.allclose(made.predict(longer, seen, noise, eye)[:1].nan_to_num(), alone, atol=1e-3)  # it was read


def test_it_reads_a_qwen3_vl_that_is_padded() -> None:
    """Our nano model: the last state is that after the final norm, and a padded sentence has the same answer."""
    words = tokenizer()
    vlm = network(words).eval()
    made = expert(replace(NANO, depth=1))
    short, long = ("point to the red block", "put the blue block in the plate, then the red one")
    ids = [words(text, add_special_tokens=False)["input_ids"] for text in (short, long)]
    width = max(map(len, ids))
    pad = words.convert_tokens_to_ids(PAD)
    batch = torch.tensor([[pad] * (width - len(i)) + i for i in ids])
    seen = torch.tensor([[0] * (width - len(i)) + [1] * len(i) for i in ids])
    noise = torch.randn(2, 16, 7)
    with torch.no_grad():
        hidden, mask = hidden_states(vlm, {"input_ids": batch, "attention_mask": seen}, 1)
        alone = {"input_ids": torch.tensor([ids[0]]), "attention_mask": torch.ones(1, len(ids[0])).long()}
        own, own_mask = hidden_states(vlm, alone, 1)
        last = vlm.model(**alone, use_cache=False).last_hidden_state
    assert torch.equal(own[0], last)
    assert mask.sum(1).tolist() == [len(i) for i in ids]
    found = made.predict(hidden, mask, noise)
    torch.testing.assert_close(found[:1], made.predict(own, own_mask, noise[:1]), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="wanted 9 hidden states"):
        hidden_states(vlm, alone, 9)


def test_the_gradient_reaches_the_vlm_scaled() -> None:
    words = tokenizer()
    inputs = {"input_ids": torch.tensor([words("point to it", add_special_tokens=False)["input_ids"]])}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    found = []
    for scale in (1.0, 0.5):
        vlm, made = network(words).eval(), expert(replace(NANO, depth=1, gradient_scale=scale))
        hidden, seen = hidden_states(vlm, inputs, 1)
        made.condition(hidden, seen).square().sum().backward()
        found.append(vlm.model.language_model.layers[0].self_attn.q_proj.weight.grad)
    assert float(found[0].abs().max()) > 0
    torch.testing.assert_close(found[1], 0.5 * found[0], atol=1e-8, rtol=1e-4)


@pytest.mark.parametrize("head", ["diffusion", "flow"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_whole_loss_is_what_numpy_computes(head: str, masked: bool) -> None:
    """In double precision, two hidden states, padding, dropped conditions, and steps that do not count."""
    made = expert(replace(TINY, head=head, layers=2, dropped=0.4)).double()
    hidden, seen = states(made.config, 4)
    hidden = [state.double() for state in hidden]
    actions = torch.randn(4, 5, 2, generator=torch.manual_seed(3)).double()
    seen[1, :4] = False
    randomness = made.action_model.draw(actions, torch.manual_seed(4))
    times = randomness.times.double() if head == "flow" else randomness.times
    randomness = replace(randomness, noise=randomness.noise.double(), times=times)
    assert 0 < int(randomness.dropped.sum()) < len(randomness.dropped) == 12
    counted = torch.ones(4, 5).bool() if masked else None
    if counted is not None:
        counted[2, 1:] = False
    loss = made.action_model.loss(made.condition(hidden, seen), actions, randomness, counted)
    assert float(loss) == pytest.approx(reference_loss(made, hidden, seen, actions, randomness, counted), rel=1e-6)
    if counted is not None:  # what does not count may be anything
        other = actions.clone()
        other[2, 1:] = 0.7
        changed = made.action_model.loss(made.condition(hidden, seen), other, randomness, counted)
        assert float(changed) != float(loss)  # the network sees those steps, as noise with a trace of them
        with pytest.raises(ValueError, match="no step of these chunks counts"):
            made.action_model.loss(
                made.condition(hidden, seen), actions, randomness, torch.zeros(4, 5, dtype=torch.bool)
            )


def test_it_learns_what_a_chunk_depends_on_and_needs_its_clipping() -> None:
    """Two sentences, two chunks: after a short training each sentence mostly gives its own."""
    config = replace(TINY, draws=8, guidance=1.0)  # more guidance would go beyond them
    torch.manual_seed(0)
    made = ActionExpert(config)
    hidden, seen = states(config)
    actions = torch.tensor([[0.6, -0.4], [-0.5, 0.7]])[:, None].repeat(1, 5, 1)
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 400)
        randomness = made.action_model.draw(actions, torch.manual_seed(step))
        loss = made.action_model.loss(made.condition(hidden, seen), actions, randomness)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    told, noise = made.condition(hidden, seen).detach(), torch.randn(100, 5, 2, generator=torch.manual_seed(5))
    error = {}
    for clip in (1.0, None):
        head = DiffusionHead(replace(config, clip=clip))
        head.net = made.action_model.net
        error[clip] = float((head.sample(told.repeat(50, 1, 1), noise) - actions.repeat(50, 1, 1)).abs().median())
    assert error[1.0] < 0.12
    assert error[None] > 10  # 288 was seen: see heads.py


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"head": "tokens"}, "wanted one of"),
        ({"heads": 5}, "multiples"),
        ({"gradient_scale": 1.5}, "shares"),
        ({"sampling_steps": 101}, "wanted 1 to 100"),
        ({"queries": 0}, "at least 1"),
        ({"clip": 0.0}, "positive"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(TINY, **change)


def test_shapes_that_do_not_fit_are_refused() -> None:
    made = expert()
    hidden, seen = states()
    told = made.condition(hidden, seen)
    for wrong, words in (
        ((hidden * 2, seen), "wanted 1 hidden states"),
        (([hidden[0][:, :3]], seen), "wanted 1 hidden states"),
        ((hidden, seen.float()), "bool mask"),
        ((hidden, seen & False), "no token"),
    ):
        with pytest.raises(ValueError, match=words):
            made.condition(*wrong)
    with pytest.raises(ValueError, match="wanted actions"):
        made.action_model.sample(told, torch.randn(2, 6, 2))
    with pytest.raises(ValueError, match="wanted condition tokens"):
        made.action_model.sample(told[:, :2], torch.randn(2, 5, 2))


def test_a_shorter_chunk_and_time_features() -> None:
    made = expert()
    hidden, seen = states()
    assert made.predict(hidden, seen, torch.randn(2, 3, 2)).shape == (2, 3, 2)
    found = time_features(torch.tensor([0.0, 2.0]))
    assert found[0].tolist() == [1.0] * 128 + [0.0] * 128
    assert float(found[1, 0]) == pytest.approx(np.cos(2.0), abs=1e-6)
    assert float(found[1, 255]) == pytest.approx(np.sin(2.0 * 10000 ** (-127 / 128)), abs=1e-6)
