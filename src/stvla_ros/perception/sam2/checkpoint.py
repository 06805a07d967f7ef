"""SAM 2.1 checkpoints: configuration and safetensors, never pickle. Incomplete or foreign ones are refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import Sam2Model, Sam2VideoConfig, Sam2VideoModel

from stvla_ros.config import ConfigError
from stvla_ros.files import check_file, read_json, setting
from stvla_ros.weights import check_finite, open_tensors, silenced_transformers

KINDS = ("sam2", "sam2_video")
"""``model_type`` of checkpoints for images only, and of the published ones, which serve images and video."""

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")

HOW_TO_GET = (
    "With network: hf download facebook/sam2.1-hiera-small config.json model.safetensors --local-dir DIR; "
    "then set 'model' to that folder."
)


def load(model: str, memory: bool, where: str) -> Any:
    """A ``Sam2Model``, or a ``Sam2VideoModel`` for use with memory, in float32, in eval mode, on the CPU.

    Args:
        model: A folder, or the id of a repository on the Hugging Face hub (``owner/name``).
        memory: Load the video model.
        where: Name of the setting, for messages.

    Raises:
        ConfigError: Nothing given, not found, incomplete, damaged, or another architecture.
    """
    if not model.strip():
        raise ConfigError(f"{where}: wanted the folder of a SAM 2.1 checkpoint, got nothing. {HOW_TO_GET}")
    folder = Path(model).expanduser()
    local = folder.exists() or not _is_hub_id(model)
    kind = _kind_in(folder, where) if local else _kind_on_hub(model, where)
    _check_kind(kind, memory, f"{where}: {model}")
    return _read(str(folder) if local else model, memory, local, f"{where}: {model}")


def _is_hub_id(model: str) -> bool:
    owner, slash, name = model.partition("/")
    return bool(owner and slash and name) and "/" not in name and owner[0] not in ".~" and os.sep not in name


def _kind_in(folder: Path, where: str) -> str:
    """``model_type`` of a folder, after a check that it is complete."""
    if not folder.is_dir():
        raise ConfigError(f"{where}: wanted the folder of a SAM 2.1 checkpoint, {folder} is not one. {HOW_TO_GET}")
    file = folder / "config.json"
    if not file.is_file():
        raise ConfigError(
            f"{where}: {folder} lacks config.json: copy it from the checkpoint's repository. {HOW_TO_GET}"
        )
    if not any((folder / name).is_file() for name in WEIGHTS):
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        found = f" ({pickled[0]} is a pickle, which is never read)" if pickled else ""
        raise ConfigError(f"{where}: {folder} lacks {WEIGHTS[0]}{found}. {HOW_TO_GET}")
    single, index = (folder / name for name in WEIGHTS)
    with setting(where, HOW_TO_GET):
        content = read_json(file)
        if single.is_file():
            with open_tensors(single):
                pass  # only to check the file
        else:
            check_file(index, "an index of weights", text=True)
    return str(content.get("model_type")) if isinstance(content, dict) else "none"


def _kind_on_hub(model: str, where: str) -> str:
    try:
        content, _ = Sam2VideoConfig.get_config_dict(model)
    except OSError as error:
        raise ConfigError(_unreachable(model, where)) from error
    return str(content.get("model_type"))


def _unreachable(model: str, where: str) -> str:
    return (
        f"{where}: '{model}' is neither a local folder nor in the download cache, and the Hugging Face hub could not be "
        f"reached or does not have it. {HOW_TO_GET}"
    )


def _check_kind(kind: str, memory: bool, where: str) -> None:
    if kind not in KINDS:
        raise ConfigError(
            f"{where}: config.json says model_type '{kind}', wanted one of {', '.join(KINDS)}. {HOW_TO_GET}"
        )
    if memory and kind != "sam2_video":
        raise ConfigError(
            f"{where}: config.json says model_type '{kind}', a model without memory: use a checkpoint of model_type "
            "'sam2_video' (the published ones are), or set 'memory' to false."
        )


def _read(source: str, memory: bool, local: bool, where: str) -> Any:
    cls = Sam2VideoModel if memory else Sam2Model
    try:
        with silenced_transformers():  # the published checkpoints are of the video model and serve both
            model, notes = cls.from_pretrained(
                source,
                local_files_only=local,
                use_safetensors=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                output_loading_info=True,
            )
    except SafetensorError as error:
        raise ConfigError(f"{where}: the weights are damaged ({error}): download them again. {HOW_TO_GET}") from error
    except OSError as error:
        if local:
            raise ConfigError(f"{where}: a file is missing or cannot be read: {error}. {HOW_TO_GET}") from error
        raise ConfigError(f"{_unreachable(source, where)} ({error})") from error
    except (StrictDataclassError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        words = " ".join(str(error).split())[:300]
        raise ConfigError(f"{where}: config.json does not make a SAM 2 model: {words}. {HOW_TO_GET}") from error
    lacking = sorted([*notes["missing_keys"], *(str(key[0]) for key in notes["mismatched_keys"])])
    if lacking:
        raise ConfigError(
            f"{where}: {len(lacking)} of the model's weights are missing or of another size, the first is '{lacking[0]}': "
            f"config.json and weights do not belong together. {HOW_TO_GET}"
        )
    _check_sizes(model.config, where)
    with setting(where):
        check_finite(dict(model.named_parameters()), "the weights")
    return model.eval()


def _check_sizes(config: Any, where: str) -> None:
    """Check sizes that loading ignores: with wrong ones, points would land in the wrong place."""
    prompts, coarse = config.prompt_encoder_config, config.vision_config.backbone_feature_sizes[-1]
    if [prompts.image_size // prompts.patch_size] * 2 != list(coarse):
        raise ConfigError(
            f"{where}: config.json says prompt_encoder_config.image_size {prompts.image_size}, which does not match "
            f"vision_config.backbone_feature_sizes {list(coarse)}: the file was changed, download it again. {HOW_TO_GET}"
        )
