"""The nano model's tokenizer: one token per word of the protocol and per whole number, hence per coordinate.

Its text is the protocol (:mod:`stvla_ros.planning.prompt`) in lower case. Everything but known words, numbers and known
signs becomes the unknown token, to which the model learns to answer :data:`UNKNOWN_ANSWER`.
"""

from __future__ import annotations

import re

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from stvla_ros.planning.heatmap.words import Goal, Name, vocabulary
from stvla_ros.planning.prompt import (
    UNIFIED_PROMPT,
    depth_prompt,
    next_action_prompt,
    pointing_prompt,
    previous_action_prompt,
    progress_prompt,
    remaining_prompt,
    spatial_prompt,
    trace_prompt,
)
from stvla_ros.planning.prompt import UNKNOWN as UNKNOWN_ANSWER

NUMBERS = 2048
"""Whole numbers below this are tokens whose id is the number: coordinates, millimetres, steps."""

UNKNOWN, STOP, PAD = "<|unknown|>", "<|im_end|>", "<|endoftext|>"
SPECIAL = (PAD, "<|im_start|>", STOP, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")

_SIGNS = ("[(", "), (", ")]", ", ", " ", "\n", *"()[]'\".,:;?!-/")
_PIECES = r"\[\(|\), \(|\)\]|, | ?[a-z]+|[0-9]+|\s|[^\sa-z0-9]"

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, as in the published checkpoints, without tools and videos."""


def words() -> tuple[str, ...]:
    """All words of the protocol, each with and without a leading space, sorted."""
    red, plate, button = Name("block", "red"), Name("plate", ""), Name("button", "red")
    goals = (Goal("place", (red, plate)), Goal("stack", (red, red)), Goal("push", (button,)), Goal("point", (red,)))
    texts = [
        trace_prompt("x"), depth_prompt(1.0), pointing_prompt("x"), next_action_prompt("x", []), previous_action_prompt("x"),
        progress_prompt("x", []), spatial_prompt("x"), remaining_prompt(None, []), UNIFIED_PROMPT,
        "the tool is at", "user assistant system",
        "step of finished yes no move close open touch not begun", UNKNOWN_ANSWER,
        *(goal.sentence(0) for goal in goals),
    ]  # fmt: skip
    known = {*vocabulary(), *re.findall("[a-z]+", " ".join(texts).lower())}
    return tuple(sorted({f"{space}{word}" for word in known for space in ("", " ")}))


def tokenizer() -> PreTrainedTokenizerFast:
    """Numbers first, so that each is its own id; then signs, words, special tokens."""
    entries = [*map(str, range(NUMBERS)), *_SIGNS, *words(), UNKNOWN]
    made = Tokenizer(models.WordLevel({entry: i for i, entry in enumerate(entries)}, unk_token=UNKNOWN))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token=STOP,
        pad_token=PAD,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )
