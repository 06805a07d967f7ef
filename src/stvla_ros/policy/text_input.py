"""An operator's words as what a network takes: word ids, CLIP token ids, or CLIP's features of them.

Padding is attended to like any token, so it must be what training had: none for words and 3D FlowMatch Actor (which pads
to the longest of a batch), 53 tokens for 3D Diffuser Actor, whose features are computed before the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from stvla_ros.config import ConfigError
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.policy.checkpoint.clip_text import CLIP_MARKS, HOW_TO_GET, is_hub_id, read_text_model, read_tokenizer
from stvla_ros.policy.checkpoint.policy_file import PolicyFile
from stvla_ros.policy.network.text import LONGEST_INSTRUCTION
from stvla_ros.policy.words import Vocabulary

FEATURE_TOKENS = 53
"""Tokens that 3D Diffuser Actor pads an instruction to (``model_max_length`` of its preprocessing)."""


class TextInput(Protocol):
    """What turns an instruction into a network's text."""

    def __call__(self, instruction: str) -> Tensor:
        """Ids (1, n) int64, or features (1, 53, 512) float32.

        Raises:
            StageError: INVALID_GOAL: too long for the network.
        """
        ...


def for_policy(policy: PolicyFile, tokenizer: str = "") -> TextInput:
    """The text input of a policy.

    Args:
        policy: Its file.
        tokenizer: Folder or Hugging Face hub id of CLIP ViT-B/32's tokenizer, and of its text model where the policy
            has none inside. An id is downloaded if need be. Empty: what the policy's file names, from a folder or the
            download cache only.

    Raises:
        ConfigError: It is needed and not there, or not CLIP's.
    """
    if policy.network.text == "words":
        if len(policy.vocabulary) != policy.network.vocabulary:
            raise ConfigError(
                f"policy checkpoint: {len(policy.vocabulary)} word ids for a network that knows {policy.network.vocabulary}."
            )
        return WordIds(policy.vocabulary)
    source, local = _source(policy, tokenizer)
    ids = ClipIds(read_tokenizer(source, local))
    if policy.network.text == "clip":
        return ids
    return ClipFeatures(ids, read_text_model(source, local))


class WordIds:
    """Ids of a vocabulary of its own, one per word."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def __call__(self, instruction: str) -> Tensor:
        """Ids (1, n)."""
        ids = self._vocabulary.encode(instruction)
        _check_length(len(ids), LONGEST_INSTRUCTION, instruction)
        return torch.tensor([ids])


class ClipIds:
    """CLIP's token ids."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, instruction: str) -> Tensor:
        """Ids (1, n) with start and end, without padding."""
        return self.padded(instruction, 0, LONGEST_INSTRUCTION)

    def padded(self, instruction: str, minimum: int, maximum: int) -> Tensor:
        """Ids (1, n), filled up with the end's to ``minimum``.

        Raises:
            StageError: INVALID_GOAL: more than ``maximum``.
        """
        ids = list(self._tokenizer(instruction)["input_ids"])
        _check_length(len(ids), maximum, instruction)
        return torch.tensor([ids + [CLIP_MARKS[1]] * (minimum - len(ids))])


class ClipFeatures:
    """Features of CLIP's text model, for networks that have none inside."""

    def __init__(self, ids: ClipIds, model: Any) -> None:
        self._ids = ids
        self._model = model

    @torch.no_grad()
    def __call__(self, instruction: str) -> Tensor:
        """Features (1, 53, 512): of all tokens, after the last layer norm; the padding is not masked."""
        ids = self._ids.padded(instruction, FEATURE_TOKENS, FEATURE_TOKENS)
        return self._model(ids).last_hidden_state


def _source(policy: PolicyFile, tokenizer: str) -> tuple[str, bool]:
    """Folder or id, and whether nothing may be downloaded."""
    wanted = tokenizer.strip() or policy.tokenizer
    if not wanted:
        raise ConfigError(f"tokenizer: this policy reads CLIP's text and its file names no tokenizer. {HOW_TO_GET}")
    folder = Path(wanted).expanduser()
    if folder.is_dir():
        return str(folder), True
    if not is_hub_id(wanted):
        raise ConfigError(
            f"tokenizer: wanted the folder of CLIP ViT-B/32's tokenizer, {folder} is not one. {HOW_TO_GET}"
        )
    return wanted, not tokenizer.strip()


def _check_length(tokens: int, maximum: int, instruction: str) -> None:
    if tokens > maximum:
        raise StageError(
            OutcomeCode.INVALID_GOAL,
            f"The instruction has {tokens} tokens, this policy reads at most {maximum}: say '{instruction[:40]}...' shorter.",
        )
