"""A plan's two answers, timed part by part, and what memory would allow."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, TypeAlias

import numpy as np
import torch

from benchmarks.planner.models import answer_tokens, decoder_bytes
from stvla_ros.planning.chat import Turn
from stvla_ros.planning.prompt import depth_prompt, explained, trace_prompt
from stvla_ros.planning.qwen3_vl.checkpoint import Checkpoint
from stvla_ros.planning.qwen3_vl.generation import Deadline, Generator, Timing
from stvla_ros.planning.qwen3_vl.tokenization import Composer
from stvla_ros.types import U8

TASK = "Put the red block in the plate."
STAGES = ("path", "offsets")
Clock: TypeAlias = Callable[[], float]

PARTS = ("preprocess_s", "prefill_s", "decode_s")


def measure(
    checkpoint: Checkpoint, size_px: tuple[int, int], runs: int, tokens: tuple[int, int] | None
) -> dict[str, Any]:
    """Median milliseconds of preprocessing, prefill and decoding of both stages, with and without reuse.

    Args:
        checkpoint: Without tokens that end an answer.
        size_px: Width and height of the image.
        runs: That count, after one that does not.
        tokens: Lengths of the two answers; None: as the tokenizer writes them.
    """
    lengths = tokens or answer_tokens(checkpoint.processor.tokenizer)
    found: dict[str, Any] = {"answer_tokens": dict(zip(STAGES, lengths, strict=True))}
    clock = clock_of(checkpoint.model.device, torch.get_num_threads())
    sides = {
        name: Generator(checkpoint, reuse, clock) for name, reuse in (("plan", True), ("plan, nothing kept", False))
    }
    taken: dict[str, list[list[Timing]]] = {name: [] for name in sides}
    for run in range(runs + 1):  # in turn, so that other work on the machine meets both
        for name, generator in sides.items():
            taken[name].append(_plan(checkpoint, generator, _images(size_px, run), lengths, clock))
    found |= {name: _medians(timings[1:]) for name, timings in taken.items()}
    found |= _bandwidth(checkpoint, found["plan"])
    return found


def clock_of(device: torch.device, threads: int) -> Clock:
    """CPU time of this thread if it works alone, which excludes other work on the machine; otherwise wall time."""
    return time.thread_time if device.type == "cpu" and threads == 1 else time.perf_counter


def _images(size_px: tuple[int, int], seed: int) -> tuple[U8, U8]:
    """A new image and its depth for every plan, so that nothing is cached."""
    width, height = size_px
    rgb, depth = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    return rgb, depth


def _plan(
    checkpoint: Checkpoint, generator: Generator, images: tuple[U8, U8], lengths: tuple[int, int], clock: Clock
) -> list[Timing]:
    composer, taken, turns = Composer(checkpoint.processor), [], []
    questions = (explained(trace_prompt(TASK), "points"), explained(depth_prompt(0.949), "offsets"))
    for question, image, length in zip(questions, images, lengths, strict=True):
        turns.append(Turn("user", question, (image,)))
        timing, start = Timing(), clock()
        asked = composer.compose(turns)
        timing.preprocess_s = clock() - start
        answer, _ = generator.answer(asked, length, Deadline(3600.0), timing)
        turns.append(Turn("assistant", str(checkpoint.processor.tokenizer.decode(answer, skip_special_tokens=True))))
        taken.append(timing)
    return taken


def _medians(taken: list[list[Timing]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for i, stage in enumerate(STAGES):
        timings = [timing[i] for timing in taken]
        found[stage] = {part[:-2] + "_ms": round(1e3 * median(getattr(t, part) for t in timings), 2) for part in PARTS}
        for count in ("prompt_tokens", "reused_tokens", "reply_tokens"):
            found[stage][count] = int(median(getattr(t, count) for t in timings))
    found["total_ms"] = round(1e3 * median(sum(getattr(t, p) for t in ts for p in PARTS) for ts in taken), 1)
    return found


def _bandwidth(checkpoint: Checkpoint, plan: dict[str, Any]) -> dict[str, Any]:
    """Tokens per second of decoding, and the limit if every token reads all weights once."""
    model = checkpoint.model
    steps = sum(plan[stage]["reply_tokens"] - 1 for stage in STAGES)
    rate = steps / (sum(plan[stage]["decode_ms"] for stage in STAGES) / 1e3)
    size = decoder_bytes(model)
    copied = copy_bytes_per_s(model.device)
    limit = copied / size
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "decoder_bytes": size,
        "memory_bytes_per_s": round(copied),
        "tokens_per_s": round(rate, 2),
        "limit_tokens_per_s": round(limit, 2),
        "share_of_limit": round(rate / limit, 3),
    }


def copy_bytes_per_s(device: torch.device, size: int = 256 << 20, runs: int = 5) -> float:
    """Bytes read and written per second by a copy of a large tensor, best of a few: the memory's real bandwidth.

    Weights that fit the processor's cache may be read faster than this.
    """
    clock = clock_of(device, torch.get_num_threads())
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target, best = torch.empty_like(source), float("inf")
    for _ in range(runs):
        _wait(device)
        start = clock()
        target.copy_(source)
        _wait(device)
        best = min(best, clock() - start)
    return 2 * size / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
