"""Words to what a network takes; nothing is downloaded unless an id was asked for."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from stvla_ros.config import ConfigError
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.policy import text_input
from stvla_ros.policy.checkpoint.clip_text import read_tokenizer
from stvla_ros.policy.checkpoint.policy_file import PolicyFile
from stvla_ros.policy.network.config import DIFFUSER_ACTOR, FLOWMATCH_ACTOR, NetworkConfig
from stvla_ros.policy.text_input import for_policy
from stvla_ros.policy.words import Vocabulary

START, END = 49406, 49407
WORDS = NetworkConfig(image_px=32, visual="nano", text="words", vocabulary=4, subsample_factor=2)


def policy(network: NetworkConfig, **more: Any) -> PolicyFile:
    return PolicyFile(network, {}, **more)


def write_tokenizer(folder: Path, first: int = START) -> None:
    """CLIP's tokenizer with the letters as its only words, its marks where CLIP has them."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{x}</w>" for x in letters)]
    vocabulary = {word: i for i, word in enumerate(words)} | {"<|startoftext|>": first, "<|endoftext|>": first + 1}
    CLIPTokenizer(vocab=vocabulary, merges=[("t", "h"), ("th", "e</w>")][:0]).save_pretrained(folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tokenizer and a text model of one small layer."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    config = CLIPTextConfig(num_hidden_layers=1, intermediate_size=32)
    CLIPTextModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids that somebody tried to download."""
    asked: list[str] = []

    def ask(source: str, *_: Any, **how: Any) -> None:
        if not Path(source).is_dir() and not how.get("local_files_only"):
            asked.append(source)
        raise OSError("not there")

    real = CLIPTokenizer.from_pretrained

    def read(source: str, **how: Any) -> Any:
        return real(source, **how) if Path(source).is_dir() else ask(source, **how)

    monkeypatch.setattr(CLIPTokenizer, "from_pretrained", read)
    return asked


def test_words_of_its_own() -> None:
    text = for_policy(policy(WORDS, vocabulary=Vocabulary(("block", "put", "red"))))
    assert text("Put the red block!").tolist() == [[2, 0, 3, 1]]


def test_clip_ids_are_not_padded(clip: Path) -> None:
    ids = for_policy(policy(FLOWMATCH_ACTOR), str(clip))("Ab c")
    assert ids.tolist() == [[START, 0, 27, 28, END]]
    assert ids.dtype == torch.int64


def test_features_are_of_53_tokens_and_no_mask(clip: Path) -> None:
    features = for_policy(policy(DIFFUSER_ACTOR), str(clip))("ab c")
    assert features.shape == (1, 53, 512)
    assert features.dtype == torch.float32
    ids = torch.tensor([[START, 0, 27, 28] + [END] * 49])
    model = CLIPTextModel.from_pretrained(clip, local_files_only=True).eval()
    with torch.no_grad():
        assert torch.allclose(features, model(ids).last_hidden_state, atol=1e-6)
    assert not features.requires_grad


def test_the_file_names_the_folder(clip: Path) -> None:
    assert for_policy(policy(FLOWMATCH_ACTOR, tokenizer=str(clip)))("a").tolist() == [[START, 26, END]]


@pytest.mark.parametrize(("network", "letters", "fits"), [(FLOWMATCH_ACTOR, 75, True), (FLOWMATCH_ACTOR, 76, False),
                                                         (DIFFUSER_ACTOR, 51, True), (DIFFUSER_ACTOR, 52, False)])  # fmt: skip
def test_too_long(clip: Path, network: NetworkConfig, letters: int, fits: bool) -> None:
    text = for_policy(policy(network), str(clip))
    instruction = " ".join("a" * letters)
    if fits:
        assert text(instruction).shape[1] == letters + 2
        return
    with pytest.raises(StageError, match=f"has {letters + 2} tokens, this policy reads at most {letters + 1}") as error:
        text(instruction)
    assert error.value.code is OutcomeCode.INVALID_GOAL


@pytest.mark.parametrize("path", ["/nowhere/clip", "./clip", "~/clip-nowhere", "clip", "a/b/c", "runs/clip"])
def test_a_path_never_leads_to_a_download(
    path: str, offline: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"wanted a folder with CLIP ViT-B/32's tokenizer, found no folder"):
        for_policy(policy(FLOWMATCH_ACTOR), path)
    assert offline == []


def test_only_an_id_that_was_asked_for_is_downloaded(offline: list[str]) -> None:
    named = policy(FLOWMATCH_ACTOR, tokenizer="openai/clip-vit-base-patch32")
    with pytest.raises(ConfigError, match="is no folder here and not in the download cache"):
        for_policy(named)
    assert offline == []
    with pytest.raises(ConfigError, match=r"no tokenizer of CLIP in 'openai/clip-vit-base-patch32'.*hf download"):
        for_policy(named, "openai/clip-vit-base-patch32")
    assert offline == ["openai/clip-vit-base-patch32"]


def test_nothing_named() -> None:
    with pytest.raises(ConfigError, match="its file names none"):
        for_policy(policy(FLOWMATCH_ACTOR))


def test_another_tokenizer(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, first=60)
    with pytest.raises(
        ConfigError, match=r"marks the start and end of a text with \(60, 61\), CLIP's with \(49406, 49407\)"
    ):
        for_policy(policy(FLOWMATCH_ACTOR), str(tmp_path))


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.safetensors"])
def test_a_folder_cloned_without_its_large_files(clip: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(clip, folder)
    (folder / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(ConfigError, match=rf"^tokenizer: {folder / name}: a pointer of Git LFS.*git lfs pull"):
        read_tokenizer(str(folder), local=True)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tokenizer"):
        for_policy(policy(FLOWMATCH_ACTOR), str(tmp_path))


def test_a_folder_without_the_text_model(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="no text model of CLIP in"):
        for_policy(policy(DIFFUSER_ACTOR), str(tmp_path))
    for_policy(policy(FLOWMATCH_ACTOR), str(tmp_path))  # which has one inside


def test_a_text_model_of_another_width(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    small = CLIPTextConfig(
        hidden_size=32, num_hidden_layers=1, intermediate_size=8, num_attention_heads=2, vocab_size=99
    )
    CLIPTextModel(small).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has 32 channels, wanted CLIP ViT-B/32's 512"):
        for_policy(policy(DIFFUSER_ACTOR), str(tmp_path))


def test_a_text_model_that_is_not_complete(clip: Path, tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    config = json.loads((clip / "config.json").read_text()) | {"num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").symlink_to(clip / "model.safetensors")
    with pytest.raises(ConfigError, match=r"lacks 16 weights, the first is '.*layers.1.*'"):
        for_policy(policy(DIFFUSER_ACTOR), str(tmp_path))


def test_vocabulary_of_another_network() -> None:
    with pytest.raises(ConfigError, match="3 word ids for a network that knows 4"):
        for_policy(policy(WORDS, vocabulary=Vocabulary(("a", "b"))))


def test_length_of_words() -> None:
    text = for_policy(policy(replace(WORDS, vocabulary=2), vocabulary=Vocabulary(("a",))))
    with pytest.raises(StageError, match="78 tokens, this policy reads at most 77"):
        text("a " * 78)
    assert text_input.FEATURE_TOKENS == 53
