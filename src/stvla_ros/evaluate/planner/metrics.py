"""Figures of one answer against its truth, as the paper's appendix I and the public evaluators define them.

Sentences are compared by their words, or by the embeddings of a model (BERTScore).
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.types import F32, F64

TOP = 999.0
"""Paths are compared on 0..999 of width and height, as by Embodied-R1's evaluator, whose tables the paper extends."""


def resampled(path: F64, count: int) -> F64:
    """(count, 2): linear interpolation by index; a path of one point or to one point stays as it is."""
    if len(path) < 2 or count < 2:
        return path
    old, new = np.arange(len(path)), np.linspace(0, len(path) - 1, count)
    return np.stack([np.interp(new, old, path[:, k]) for k in (0, 1)], axis=1)


def path_errors(uv: F64, truth: F64) -> tuple[float, float]:
    """RMSE and MAE of a path, both on 0..999, after both have been resampled to the longer one's length.

    RMSE is the root of the mean squared distance; MAE the mean of ``(|dx| + |dy|) / 2``.

    Args:
        uv: (N, 2) drawn, 0..1000, N >= 2.
        truth: (M, 2) right, 0..1000, M >= 2.
    """
    count = max(len(uv), len(truth))
    gap = (resampled(uv, count) - resampled(truth, count)) * TOP / 1000
    return float(np.sqrt((gap**2).sum(axis=1).mean())), float(np.abs(gap).mean())


def distance(uv: F64, spot: F64) -> float:
    """Euclidean distance of the first point (of (N, 2)) from the right one, in thousandths of width and height."""
    return float(np.linalg.norm(uv[0] - spot))


def depth_errors(offset_m: F64, truth_m: F64, start_m: float | None, ratio: float) -> tuple[float, float | None]:
    """MAD in centimetres, and the share of waypoints whose depth is right.

    Args:
        offset_m: (8,) answered.
        truth_m: (8,) right.
        start_m: Depth at the start; without it there is no share.
        ratio: A depth is right when its error is at most this fraction of the true depth. (The available text of the
            paper lacks its value.)
    """
    gap = np.abs(offset_m - truth_m)
    share = None if start_m is None else float((gap <= ratio * np.abs(start_m + truth_m)).mean())
    return float(100 * gap.mean()), share


_ARTICLES = {"a", "an", "the"}


def words(text: str) -> list[str]:
    """Lower case, without punctuation and articles (the usual normalisation of question answering)."""
    return [word for word in re.findall(r"[^\W_]+", text.lower()) if word not in _ARTICLES]


def token_f1(text: str, truth: str) -> float:
    """Harmonic mean of precision and recall of the words, in any order."""
    mine, right = words(text), words(truth)
    common = sum((Counter(mine) & Counter(right)).values())
    return _f1(common / len(mine), common / len(right)) if mine and right else float(mine == right)


def rouge_l(text: str, truth: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004)."""
    mine, right = words(text), words(truth)
    row = [0] * (len(right) + 1)
    for word in mine:
        new = [0]
        for k, other in enumerate(right):
            new.append(row[k] + 1 if word == other else max(row[k + 1], new[k]))
        row = new
    return _f1(row[-1] / len(mine), row[-1] / len(right)) if mine and right else float(mine == right)


def matched_f1(text: F32, truth: F32) -> float:
    """BERTScore's F1 (Zhang et al. 2020, equations 1 to 3): each token is matched with the most similar one.

    Args:
        text: (N, D) unit vectors.
        truth: (M, D) unit vectors.
    """
    if not len(text) or not len(truth):
        return 0.0
    similar = text @ truth.T
    return _f1(float(similar.max(axis=1).mean()), float(similar.max(axis=0).mean()))


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


class BertScore:
    """F1 by an encoder's contextual embeddings; without idf weights and without rescaling by a baseline.

    Args:
        folder: An encoder (BERT, RoBERTa, DeBERTa, ...) and its tokenizer, as transformers saves them.
        layer: Its hidden states are compared; 0 is the word embeddings, -1 the last layer. The best one depends on the
            model (usually 17 for roberta-large).

    Raises:
        ConfigError: There is no such model, or it has fewer layers.
    """

    def __init__(self, folder: Path, layer: int = -1) -> None:
        from transformers import AutoModel, AutoTokenizer

        if not (folder / "config.json").is_file():
            raise ConfigError(f"{folder}: wanted the folder of an encoder (config.json in it), found none.")
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model: Any = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"{folder}: cannot be loaded as an encoder: {' '.join(str(error).split())}") from error
        layers = self._model.config.num_hidden_layers
        if not -layers <= layer <= layers:
            raise ConfigError(f"{folder}: wanted a layer from {-layers} to {layers}, got {layer}.")
        self._layer = layer
        self._embedded = lru_cache(maxsize=4096)(self._embed)

    def __call__(self, text: str, truth: str) -> float:
        return matched_f1(self._embedded(text), self._embedded(truth))

    def _embed(self, text: str) -> F32:
        """(N, D) unit vectors of all tokens but special ones."""
        import torch

        tokens = self._tokenizer(text, return_tensors="pt", return_special_tokens_mask=True, truncation=True)
        real = tokens.pop("special_tokens_mask")[0] == 0
        with torch.no_grad():
            hidden = self._model(**tokens, output_hidden_states=True).hidden_states[self._layer][0][real]
        return np.asarray(torch.nn.functional.normalize(hidden.float(), dim=-1).numpy(), np.float32)
