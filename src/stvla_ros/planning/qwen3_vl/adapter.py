"""LoRA adapters (peft's folders): checked, added to a model, and merged into its weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError

from stvla_ros.config import ConfigError
from stvla_ros.planning.qwen3_vl.folder import find, read_json, weight_files
from stvla_ros.weights import open_tensors, silenced_transformers

HOW_TO_GET = "`stvla sft` makes one; leave 'adapter' empty for the model alone."


def merged(model: Any, adapter: str, where: str) -> Any:
    """The model with a LoRA adapter merged into its weights, as fast as the model alone.

    Args:
        model: The model that the adapter was trained on.
        adapter: Folder with ``adapter_config.json`` and ``adapter_model.safetensors``, or an id on the hub.
        where: Name of the backend, for messages.

    Raises:
        ConfigError: Not found, incomplete, not a LoRA adapter, or one of another model.
    """
    place = f"{where}.adapter"
    folder = find(adapter, "a LoRA adapter", place, HOW_TO_GET)
    settings = read_json(folder / "adapter_config.json", place)
    if settings.get("peft_type") != "LORA":
        raise ConfigError(
            f"{place}: {folder}/adapter_config.json says peft_type '{settings.get('peft_type')}', wanted LORA."
        )
    (file, *_) = weight_files(folder, "adapter_model", place, HOW_TO_GET)
    return _merge(model, folder, file, place)


def _merge(model: Any, folder: Path, file: Path, where: str) -> Any:
    try:
        with silenced_transformers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # missing weights are refused by name below
            config = PeftConfig.from_pretrained(str(folder))
            adapted = PeftModel.from_pretrained(model, str(folder), config=config, is_trainable=False)
            _check_complete(adapted, file, where)
            whole = adapted.merge_and_unload(safe_merge=True)  # refuses weights that are not finite
    except SafetensorError as error:
        raise ConfigError(f"{where}: {file} is damaged ({error}): copy it again.") from error
    except torch.OutOfMemoryError as error:
        raise ConfigError(f"{where}: too little memory to add {folder} to the model: use a smaller model.") from error
    except ConfigError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        words = " ".join(str(error).split())[:300]
        raise ConfigError(f"{where}: {folder} does not fit the model ({words}): set 'model' to its base.") from error
    return whole.eval().requires_grad_(False)


def _check_complete(adapted: Any, file: Path, where: str) -> None:
    """Refuse missing or surplus weights, which the library silently accepts."""
    wanted = set(get_peft_model_state_dict(adapted))
    with open_tensors(file) as content:
        found = set(content.keys())
    if wanted != found:
        odd = sorted(wanted ^ found)
        raise ConfigError(
            f"{where}: {len(odd)} weights of {file} are missing or have no place in the model, the first is '{odd[0]}': set "
            "'model' to the adapter's base."
        )
