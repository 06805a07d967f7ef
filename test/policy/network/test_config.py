"""Which configurations are refused, and with what sentence."""

import pytest

from stvla_ros.policy.network.config import DIFFUSER_ACTOR, FLOWMATCH_ACTOR, NetworkConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 100}, "width is 100; wanted a multiple of 6"),
        ({"width": 60, "heads": 8}, "multiple of heads, 8"),
        ({"heads": 0}, "heads is 0; wanted 1 or more"),
        ({"hands": 3}, "hands is 3; wanted 1 or 2"),
        ({"image_px": 250}, "image_px is 250; wanted a multiple of 32"),
        ({"visual_stride": 4}, "visual_stride is 4; visual 'clip_rn50' has"),
        ({"visual": "resnet"}, "visual is 'resnet'; wanted one of"),
        ({"text": "t5"}, "text is 't5'"),
        ({"text": "words"}, "vocabulary is 0 with text 'words'"),
        ({"vocabulary": 5}, "vocabulary is 5 with text 'clip'"),
        ({"rotary": "none"}, "rotary is 'none'"),
        ({"subsampler": "random"}, "subsampler is 'random'"),
        ({"subsample_factor": 2000}, "only 1024 image tokens"),
        ({"denoiser": "ddim"}, "denoiser is 'ddim'"),
        ({"steps": 0}, "steps is 0"),
        ({"dropout": 1.0}, "dropout is 1.0; wanted 0 or more and less than 1"),
        ({"rotary_dropout": -0.1}, "rotary_dropout is -0.1"),
        ({"shared_scene": True, "modulate_kv": False}, "shared_scene needs modulate_kv"),
        ({"path_channels": True}, "path_channels needs visual_cloud"),
    ],
)
def test_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=r"^NetworkConfig: ") as error:
        NetworkConfig(**values)
    assert message in str(error.value)


def test_published_ones() -> None:
    assert (FLOWMATCH_ACTOR.tokens, FLOWMATCH_ACTOR.sampled, FLOWMATCH_ACTOR.steps) == (1024, 256, 5)
    assert (DIFFUSER_ACTOR.tokens, DIFFUSER_ACTOR.sampled, DIFFUSER_ACTOR.steps) == (1024, 204, 100)
