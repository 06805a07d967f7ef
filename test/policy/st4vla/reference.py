"""The action loss in NumPy, independent of the network's code: from its state dict and the published formulas."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from stvla_ros.policy.st4vla.expert import ActionExpert
from stvla_ros.policy.st4vla.heads import Randomness


def gelu(x: np.ndarray, tanh: bool) -> np.ndarray:
    from scipy.special import erf

    inner = np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)) if tanh else erf(x / 2**0.5)
    return 0.5 * x * (1 + inner)


def norm(x: np.ndarray, eps: float) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, seen: np.ndarray) -> np.ndarray:
    """(B, Q, W) of (B, Q, W), (B, L, W) twice, and (B, L)."""
    out = np.zeros_like(q)
    for part in np.split(np.arange(q.shape[-1]), heads):
        score = q[..., part] @ k[..., part].transpose(0, 2, 1) / len(part) ** 0.5
        score = np.where(seen[:, None], score, -np.inf)
        share = np.exp(score - score.max(-1, keepdims=True))
        out[..., part] = share / share.sum(-1, keepdims=True) @ v[..., part]
    return out


def reference_loss(
    made: ActionExpert, hidden: list[Tensor], seen: Tensor, actions: Tensor, r: Randomness, counted: Tensor | None
) -> float:
    """From the state dict alone."""
    c = made.config
    w = {name: value.detach().double().numpy() for name, value in made.state_dict().items()}
    mask = seen.numpy()

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    queries = np.repeat(w["layer_qformer.query_tokens"][None], len(mask), 0)
    for k, state in enumerate(hidden):
        tokens, at = linear(state.detach().double().numpy(), "layer_qformer.proj"), f"layer_qformer.layers.{k}"
        normed = norm(queries, 1e-5) * w[f"{at}.norm1.weight"] + w[f"{at}.norm1.bias"]
        matrices = np.split(w[f"{at}.cross_attn.in_proj_weight"], 3), np.split(w[f"{at}.cross_attn.in_proj_bias"], 3)
        q, key, v = (x @ m.T + b for x, m, b in zip((normed, tokens, tokens), *matrices, strict=True))
        queries = queries + linear(attention(q, key, v, c.bridge_heads, mask), f"{at}.cross_attn.out_proj")
        normed = norm(queries, 1e-5) * w[f"{at}.norm2.weight"] + w[f"{at}.norm2.bias"]
        queries = queries + linear(gelu(linear(normed, f"{at}.mlp.0"), False), f"{at}.mlp.2")

    clean, told = np.repeat(actions.double().numpy(), c.draws, 0), np.repeat(queries, c.draws, 0)
    noise, times = r.noise.double().numpy(), r.times.double().numpy()
    if c.head == "diffusion":

        def left(step: float) -> float:
            return np.cos((step / 100 + 0.008) / 1.008 * np.pi / 2) ** 2

        betas = [min(1 - left(i + 1) / left(i), 0.999) for i in range(100)]
        kept = np.array([np.prod(1 - np.array(betas[: int(t) + 1])) for t in times])[:, None, None]
        x, target = np.sqrt(kept) * clean + np.sqrt(1 - kept) * noise, noise
    else:
        share = times[:, None, None]
        x, target, times = (1 - share) * clean + share * noise, noise - clean, times * 1000
    angle = times[:, None] * 10000.0 ** (-np.arange(128) / 128)
    time = linear(np.concatenate([np.cos(angle), np.sin(angle)], -1), "action_model.net.t_embedder.mlp.0")
    time = linear(time / (1 + np.exp(-time)), "action_model.net.t_embedder.mlp.2")
    told = np.where(r.dropped.numpy()[:, None, None], w["action_model.net.z_embedder.uncondition"], told)
    told = linear(told, "action_model.net.z_embedder.linear") + time[:, None]
    x = np.concatenate([told, linear(x, "action_model.net.x_embedder.linear")], 1)
    x = x + w["action_model.net.positional_embedding"][: x.shape[1]]
    for k in range(c.depth):
        at = f"action_model.net.blocks.{k}"
        q, key, v = np.split(linear(norm(x, 1e-6), f"{at}.attn.qkv"), 3, -1)
        x = x + linear(attention(q, key, v, c.heads, np.ones(x.shape[:2], bool)), f"{at}.attn.proj")
        x = x + linear(gelu(linear(norm(x, 1e-6), f"{at}.mlp.fc1"), True), f"{at}.mlp.fc2")
    predicted = linear(norm(x[:, c.queries :], 1e-6), "action_model.net.final_layer.linear")
    error = ((predicted - target) ** 2).mean(-1)
    weight = np.ones_like(error) if counted is None else np.repeat(counted.numpy(), c.draws, 0)
    return float((error * weight).sum() / weight.sum())
