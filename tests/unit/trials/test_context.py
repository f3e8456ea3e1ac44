"""What makes two contexts one."""

from __future__ import annotations

from dataclasses import replace

from rampipe.trials.context import context_key
from rampipe.types import ContextPart, Sample, StoredImage

RED, BLUE = StoredImage(b"red", "a.png"), StoredImage(b"blue", "b.png")
IMAGE, TEXT = ContextPart(kind="image", image=0), ContextPart(kind="text", text="page one")
SAMPLE = Sample(
    sample_id="a",
    domain="d",
    context=(IMAGE, TEXT),
    images=(RED,),
    question="q",
    answers=("x",),
    choices=None,
    evidence=(),
)


def test_is_stable_over_versions():
    assert context_key(SAMPLE) == "059be656fc7b4d1f"


def test_same_context_has_one_key():
    same = [
        replace(SAMPLE, sample_id="b", domain="e", question="other?", answers=()),
        replace(SAMPLE, images=(RED, BLUE)),
        replace(SAMPLE, images=(BLUE, RED), context=(ContextPart(kind="image", image=1), TEXT)),
        replace(SAMPLE, images=(StoredImage(b"red", "renamed.png"),)),
    ]
    assert {context_key(sample) for sample in same} == {context_key(SAMPLE)}


def test_another_context_has_another_key():
    others = [
        replace(SAMPLE, images=(BLUE,)),
        replace(SAMPLE, context=(TEXT, IMAGE)),
        replace(SAMPLE, context=(IMAGE,)),
        replace(SAMPLE, context=(IMAGE, replace(TEXT, text="page two"))),
        replace(SAMPLE, context=(IMAGE, replace(TEXT, text="page "), replace(TEXT, text="one"))),
        replace(SAMPLE, context=(ContextPart(kind="video", frames=(0,)), TEXT)),
        replace(SAMPLE, context=(ContextPart(kind="text", text="red"), TEXT)),
    ]
    assert len({context_key(sample) for sample in [SAMPLE, *others]}) == len(others) + 1
