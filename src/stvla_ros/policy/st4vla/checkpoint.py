"""A checkpoint of ST4VLA: a folder with a complete VLM, the action expert, and how to use them.

::

    config.json            format, expert, kind and statistics of the actions, prompt, guidance, what it was trained on
    expert.safetensors     bridge and action head
    vlm/                   a Qwen-VL checkpoint as transformers saves it: the planner ``qwen3_vl`` serves it too
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from stvla_ros.config import ConfigError
from stvla_ros.files import check_file, read_json, said
from stvla_ros.policy.checkpoint.policy_file import check_weights
from stvla_ros.policy.st4vla.actions import DIMENSIONS, ActionStatistics, check_template, statistics_from
from stvla_ros.policy.st4vla.config import ActionExpertConfig
from stvla_ros.policy.st4vla.expert import ActionExpert
from stvla_ros.policy.st4vla.inputs import IMAGE_TOKEN, VlmProcessor
from stvla_ros.policy.st4vla.model import St4Vla
from stvla_ros.types import GUIDANCE_MODES
from stvla_ros.weights import check_finite, read_tensors, silenced_transformers, write_tensors

FORMAT = "stvla-st4vla-1"
CONFIG, EXPERT, VLM, TEMPLATE = "config.json", "expert.safetensors", "vlm", "chat_template.jinja"

CLASSES = {"qwen3_vl": "Qwen3VLForConditionalGeneration", "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration"}
"""``model_type`` of a VLM -> its class in transformers."""


@dataclass(frozen=True, eq=False)
class St4VlaSpec:
    """How a checkpoint is used.

    Attributes:
        expert: Architecture and sampler of the action expert.
        actions: What a step of a chunk means: ``keypose`` or ``delta``.
        statistics: By which actions are normalised.
        prompt: Template of an action sample's text, with ``{instruction}``; training and inference use the same.
        guidance: What was done to its training images: ``full``, ``mask_only`` or ``off``.
        trained: For people: experiment, steps, data.

    Raises:
        ConfigError: Values do not fit together.
    """

    expert: ActionExpertConfig
    actions: str
    statistics: ActionStatistics
    prompt: str
    guidance: str = "off"
    trained: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if DIMENSIONS.get(self.actions) != self.expert.action_dim or self.guidance not in GUIDANCE_MODES:
            raise ConfigError(
                f"ST4VLA checkpoint: actions '{self.actions}' of {self.expert.action_dim} numbers, guidance "
                f"'{self.guidance}': wanted one of {DIMENSIONS}, one of {', '.join(GUIDANCE_MODES)}."
            )
        check_template(self.prompt, "ST4VLA checkpoint")


@dataclass(frozen=True, eq=False)
class St4VlaCheckpoint:
    """What a folder holds.

    Attributes:
        spec: How to use it.
        model: With its weights, in evaluation mode, float32 on the CPU.
        processor: Makes the VLM's input.
    """

    spec: St4VlaSpec
    model: St4Vla
    processor: VlmProcessor


def save(folder: Path, spec: St4VlaSpec, model: St4Vla, processor: VlmProcessor) -> None:
    """Write a checkpoint, complete or not at all; one that is there is replaced.

    Raises:
        ConfigError: It cannot be written.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    content = {
        "format": FORMAT,
        "expert": asdict(spec.expert),
        "actions": spec.actions,
        "statistics": spec.statistics.entry(),
        "prompt": spec.prompt,
        "guidance": spec.guidance,
        "trained": dict(spec.trained),
    }
    try:
        with silenced_transformers():
            vlm = cast(Any, model.vlm)
            vlm.save_pretrained(part / VLM, state_dict={n: w.detach().cpu() for n, w in vlm.state_dict().items()})
            processor.tokenizer.save_pretrained(part / VLM)
            processor.images.save_pretrained(part / VLM)
        (part / VLM / TEMPLATE).write_text(processor.template, encoding="utf-8")
        write_tensors(part / EXPERT, model.expert.state_dict(), {"format": FORMAT})
        (part / CONFIG).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({said(error)}).") from error


def read(folder: Path) -> St4VlaCheckpoint:
    """Read a checkpoint strictly.

    Raises:
        ConfigError: A file is missing, damaged or of another format; a weight is missing, unknown, of another shape or
            not finite; or the files contradict each other.
    """
    file = folder / CONFIG
    content = read_json(file, wanted="the configuration of an ST4VLA checkpoint")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigError(f"{file}: wanted format '{FORMAT}', found no such checkpoint.")
    try:
        expert = ActionExpertConfig(**content["expert"])
        statistics = statistics_from(content["statistics"], expert.action_dim, str(file))
        more = {name: content[name] for name in ("actions", "prompt", "guidance", "trained")}
        spec = St4VlaSpec(expert=expert, statistics=statistics, **more)
    except (ValueError, LookupError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{file}: damaged ({said(error)}).") from error
    weights, metadata = read_tensors(folder / EXPERT, "the action expert's weights")
    if metadata.get("format") != FORMAT:
        raise ConfigError(f"{folder / EXPERT}: wanted format '{FORMAT}', found '{metadata.get('format')}'.")
    with torch.device("meta"):
        check_weights(ActionExpert(expert).state_dict(), weights, str(folder / EXPERT))
    check_finite(weights, str(folder / EXPERT))
    vlm, processor = read_vlm(folder / VLM)
    try:
        model = St4Vla(vlm, expert)
    except ValueError as error:
        raise ConfigError(f"{folder}: {error}") from error
    model.expert.load_state_dict(weights)
    return St4VlaCheckpoint(spec, model.eval(), processor)


def read_vlm(folder: Path) -> tuple[torch.nn.Module, VlmProcessor]:
    """A VLM in float32, and its processor, from the folder of a Qwen3-VL or Qwen2.5-VL checkpoint.

    Raises:
        ConfigError: A file is missing or damaged, or it is of another architecture; a weight is missing, unknown, of
            another shape or not finite.
    """
    import transformers
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    settings = read_json(folder / CONFIG, wanted="the configuration of a VLM")
    kind = str(settings.get("model_type")) if isinstance(settings, dict) else "none"
    if kind not in CLASSES:
        raise ConfigError(f"{folder / CONFIG}: model_type is '{kind}', wanted {' or '.join(CLASSES)}.")
    for path in sorted(folder.glob("*.safetensors")):
        check_file(path, "a VLM's weights")
    cls = getattr(transformers, CLASSES[kind])
    try:
        with silenced_transformers():
            vlm, notes = cls.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32,
                ignore_mismatched_sizes=True, output_loading_info=True,
            )  # fmt: skip
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            images = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the libraries below (Rust too) have no common class for damaged files
        raise ConfigError(f"{folder}: not a complete checkpoint of a VLM ({said(error)}).") from error
    odd = {key: sorted(map(str, notes[key])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    for key, names in odd.items():
        if names:
            raise ConfigError(
                f"{folder}: {len(names)} of the VLM's weights are {key.removesuffix('_keys')}, the first is '{names[0]}': "
                "configuration and weights do not belong together."
            )
    check_finite(dict(vlm.named_parameters()), str(folder))
    if tokenizer.convert_tokens_to_ids(IMAGE_TOKEN) != vlm.config.image_token_id or tokenizer.pad_token_id is None:
        raise ConfigError(f"{folder}: tokenizer and VLM name the image token differently, or nothing is for padding.")
    return vlm.eval(), VlmProcessor(tokenizer, images, _template(folder, tokenizer))


def _template(folder: Path, tokenizer: Any) -> str:
    """The chat template, from a file of its own or from the tokenizer."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    for name in ("chat_template.json", "processor_config.json"):
        if (folder / name).is_file():
            content = read_json(folder / name)
            if isinstance(content, dict) and isinstance(content.get("chat_template"), str):
                return str(content["chat_template"])
    if isinstance(tokenizer.chat_template, str):
        return str(tokenizer.chat_template)
    raise ConfigError(f"{folder}: has no chat template ({TEMPLATE}): copy it from the checkpoint's repository.")
