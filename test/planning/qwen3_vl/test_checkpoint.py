"""Checkpoints that are incomplete, damaged, inconsistent or too large are refused in one sentence that says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_qwen3_vl import byte_tokenizer, like_the_hub, save_tiny, word_tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from stvla_ros.config import ConfigError
from stvla_ros.devices import Placement, choose_placement
from stvla_ros.planning.qwen3_vl import checkpoint
from stvla_ros.planning.qwen3_vl import folder as folders
from stvla_ros.planning.qwen3_vl.checkpoint import load
from stvla_ros.planning.qwen3_vl.processor import ImageOnlyQwen3VLProcessor, read_processor

CPU = Placement(torch.device("cpu"), torch.float32)
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "bytes")


def without(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def with_content(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content)


def with_setting(file: str, *path: str, value: object) -> Change:
    def change(folder: Path) -> None:
        config = json.loads((folder / file).read_text())
        section = config
        for name in path[:-1]:
            section = section[name]
        section[path[-1]] = value
        (folder / file).write_text(json.dumps(config))

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lacking_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.language_model.norm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100_000])


def in_parts_of_which_one_is_missing(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def of_other_words(folder: Path) -> None:
    word_tokenizer().save_pretrained(folder)


def without_image_tokens(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("image_pad", "imagepad"))


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json")


def not_finite(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = max(name for name in weights if name.endswith("norm.weight"))
    weights[name][0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def without_an_end(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    with_setting("tokenizer_config.json", "eos_token", value=None)(folder)


ROPE = ("text_config", "rope_parameters", "mrope_section")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("config.json"), r"lacks config\.json"),
        (without("model.safetensors"), r"lacks model\.safetensors.*hf download"),
        (without("tokenizer.json"), r"lacks tokenizer\.json"),
        (without("processor_config.json"), r"lacks preprocessor_config\.json"),
        (without_template, "no chat template"),
        (pickled, r"pytorch_model\.bin is a pickle, which is never read"),
        (with_content("config.json", b"{"), "not valid JSON"),
        (with_content("config.json", b"[]"), "holds a list"),
        (with_content("tokenizer.json", b"{}"), "tokenizer cannot be read"),
        (with_content("processor_config.json", b"nonsense"), "preprocessor_config|unusable"),
        (with_setting("config.json", "model_type", value="qwen2_5_vl"), r"model_type 'qwen2_5_vl', wanted qwen3_vl"),
        (with_setting("config.json", *ROPE, value=[4, 4, 4]), r"mrope_section \[4, 4, 4\].*half of head_dim, 8"),
        (with_setting("config.json", *ROPE, value=[8]), "mrope_section"),
        (with_setting("config.json", "vision_config", "num_position_embeddings", value=48), "wanted a square"),
        (with_setting("config.json", "vision_config", "patch_size", value=14), "another size|patch_size"),
        (with_setting("config.json", "text_config", "hidden_size", value="wide"), "does not make a Qwen3-VL model"),
        (with_setting("config.json", "image_token_id", value=3), "id of .*image_pad"),
        (with_setting("processor_config.json", "image_processor", "merge_size", value=1), "merge_size is 1"),
        (of_other_words, "files of two checkpoints"),
        (without_image_tokens, r"no token <\|image_pad\|>"),
        (without_an_end, "no end-of-answer token"),
        (lacking_a_weight, r"1 of the model's weights.*norm\.weight"),
        (cut_short, "cut off"),
        *[
            (with_content(name, LFS), f"{name.replace('.', '[.]')}: a pointer of Git LFS.*git lfs pull")
            for name in FILES
        ],
        (with_content("tokenizer.json", b"<!DOCTYPE html><html>"), r"tokenizer\.json: a web page"),
        (with_content("model.safetensors", b"Entry not found"), r"model\.safetensors: text, .*Entry not found"),
        (with_content("config.json", b'{"a": "\xfc"}'), "save it as UTF-8"),
        (not_finite, r"'model\..*' has values that are not finite"),
        (in_parts_of_which_one_is_missing, r"lacks model-00002-of-00002\.safetensors"),
    ],
)
def test_a_bad_checkpoint_is_refused_in_one_sentence(tiny: Path, tmp_path: Path, change: Change, message: str) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(tiny, folder)
    change(folder)
    with pytest.raises(ConfigError, match=message) as error:
        load(str(folder), CPU, "planner.qwen3_vl")
    assert str(error.value).startswith("planner.qwen3_vl.model: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "message"), [("", "got nothing"), ("/nowhere/x", "is not one"), ("a b", "is not one")]
)
def test_no_checkpoint_is_told_how_to_get_one(model: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"{message}.*hf download Qwen/Qwen3-VL-4B-Instruct"):
        load(model, CPU, "planner.qwen3_vl")


def test_a_repository_is_taken_from_the_cache_first(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(model: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        asked.append((model, local_files_only))
        assert not any(pattern.endswith((".bin", ".py")) for pattern in allow_patterns)
        return str(tiny)

    monkeypatch.setattr(folders, "snapshot_download", download)
    assert load("Qwen/Qwen3-VL-4B-Instruct", CPU, "x").name == "Qwen/Qwen3-VL-4B-Instruct"
    assert asked == [("Qwen/Qwen3-VL-4B-Instruct", True)]


def test_a_repository_out_of_reach_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr(folders, "snapshot_download", download)
    with pytest.raises(ConfigError, match=r"nor in the download cache.*hf download"):
        load("Qwen/Qwen3-VL-4B-Instruct", CPU, "x")


def test_a_model_larger_than_the_memory_is_refused_before_it_is_read(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = sum(w.numel() for w in load_file(tiny / "model.safetensors").values())
    assert checkpoint.weights_bytes([tiny / "model.safetensors"], torch.bfloat16, "x") == 2 * numbers
    monkeypatch.setattr(checkpoint, "free_bytes", lambda device: 2 * numbers)
    with pytest.raises(ConfigError, match=r"take .* GB as float32 and cpu has .* GB free.*backend openai"):
        load(str(tiny), CPU, "x")


@pytest.mark.parametrize(
    ("device", "words"), [("gpu", "wanted auto, cpu"), ("cuda:99", "is not there"), ("mps", "wanted")]
)
def test_a_device_that_is_not_there_is_refused(device: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"x\.device: .*{words}"):
        choose_placement(device, "auto", "x")


def test_precision_on_a_cpu() -> None:
    assert choose_placement("cpu", "auto", "x").dtype is torch.float32
    assert choose_placement("cpu", "bf16", "x").dtype is torch.bfloat16


def test_pixels_must_be_in_order(tiny: Path) -> None:
    with pytest.raises(ConfigError, match="min_pixels is above max_pixels"):
        load(str(tiny), CPU, "x", min_pixels=9000, max_pixels=100)


def test_processor_is_saved_and_loaded_whole(tiny: Path) -> None:
    """The library's automatic class gives a tokenizer without a word: ours is asked for by name."""
    processor = ImageOnlyQwen3VLProcessor.from_pretrained(tiny)
    assert isinstance(processor, ImageOnlyQwen3VLProcessor)
    ours = read_processor(tiny, "x")
    assert ours.chat_template == processor.chat_template
    assert ours.tokenizer.get_vocab() == processor.tokenizer.get_vocab()


@pytest.mark.parametrize("make", [byte_tokenizer, word_tokenizer])
def test_tokenizers_of_both_kinds_come_back(make: Callable[[], PreTrainedTokenizerBase], tmp_path: Path) -> None:
    folder, made = save_tiny(tmp_path / "tiny", make()), make()
    read = read_processor(like_the_hub(folder, tmp_path / "hub"), "x").tokenizer
    text = "<|im_start|>user\nPoint to the red block: [(643, 367), (1000, 0)]<|im_end|>"
    assert read(text)["input_ids"] == made(text)["input_ids"]
    assert AutoTokenizer.from_pretrained(folder)(text)["input_ids"] == made(text)["input_ids"]
