"""Words as ids."""

from stvla_ros.policy.words import UNKNOWN, Vocabulary


def test_ids_are_stable_and_distinct() -> None:
    v = Vocabulary.of(["Put the red block in the plate.", "Push the blue button."])
    assert v == Vocabulary.of(["Push the blue button.", "Put the red block in the plate."])
    ids = v.encode("put the RED block, in the plate")
    assert len(ids) == 7
    assert ids == v.encode("Put the red block in the plate.")
    assert max(ids) < len(v)
    assert ids[1] == ids[5] != UNKNOWN


def test_a_colour_may_be_spelled_otherwise() -> None:
    v = Vocabulary.of(["put the gray block"])
    assert v.encode("Put the grey block.") == v.encode("put the gray block")
    own = Vocabulary.of(["put the grey block", "put the gray one"])
    assert own.encode("grey") != own.encode("gray")
    assert Vocabulary.of(["put the red block"]).encode("grey") == [UNKNOWN]


def test_unknown_words_share_one_id() -> None:
    v = Vocabulary.of(["put the red block"])
    assert v.encode("put the zebra block") == [*v.encode("put the"), UNKNOWN, *v.encode("block")]
    assert v.encode("?!") == [UNKNOWN]
