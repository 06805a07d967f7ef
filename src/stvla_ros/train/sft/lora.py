"""LoRA in the language model's linear layers; everything else is frozen."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model

from stvla_ros.config import ConfigError
from stvla_ros.planning.qwen3_vl.folder import read_json
from stvla_ros.train.sft.experiments import SftExperiment

FROZEN = r".*visual.*"
"""Vision tower and aligner (the tower's merger layers): the paper freezes both."""


def adapted(model: Any, experiment: SftExperiment, adapter: Path | None = None) -> Any:
    """The model with a new LoRA adapter, or with that of an earlier stage.

    Raises:
        ConfigError: The earlier adapter has another shape, or belongs to another model.
    """
    wanted = LoraConfig(
        r=experiment.rank,
        lora_alpha=experiment.alpha,
        lora_dropout=experiment.dropout,
        target_modules="all-linear",
        exclude_modules=FROZEN,
        task_type="CAUSAL_LM",
    )
    if adapter is None:
        with _without_future_warnings():
            return check_trainable(get_peft_model(model, wanted))
    found = read_json(adapter / "adapter_config.json", "sft --adapter")
    if (found.get("r"), found.get("lora_alpha")) != (experiment.rank, experiment.alpha):
        raise ConfigError(
            f"{adapter}: wanted rank {experiment.rank} and alpha {experiment.alpha} as in {experiment.name}, found "
            f"{found.get('r')} and {found.get('lora_alpha')}: merge it into the model first, or choose its experiment."
        )
    try:
        with _without_future_warnings():
            return check_trainable(PeftModel.from_pretrained(model, str(adapter), is_trainable=True))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(f"{adapter}: does not fit the model ({' '.join(str(error).split())[:300]}).") from error


@contextmanager
def _without_future_warnings() -> Iterator[None]:
    """Hide warnings about names that peft 0.21 uses and transformers 6 will drop: no user can act on them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*gradient_checkpointing.*")
        yield


def check_trainable(model: Any) -> Any:
    """The model, after a check that only LoRA weights of the language model are trained.

    Raises:
        ConfigError: Something else is trained, or nothing.
    """
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    wrong = [name for name in trained if "lora_" not in name or ".visual." in name]
    if wrong or not trained:
        found = wrong[0] if wrong else "nothing"
        raise ConfigError(f"LoRA: wanted only adapters of the language model to be trained, found {found}.")
    return model


def use_gradient_checkpointing(model: Any) -> None:
    """Recompute activations in the backward pass instead of storing them."""
    with _without_future_warnings():
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()


def parameter_counts(model: Any) -> tuple[int, int]:
    """Number of trained parameters, and of all."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)
