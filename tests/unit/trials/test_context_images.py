"""Samples of one context that follow each other: one decode, one processing, one copy in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rampipe.errors import SampleError
from rampipe.models.features import process_images
from rampipe.models.images import decode_images
from rampipe.trials import context_images
from rampipe.trials.context_images import ContextImages
from rampipe.types import ContextPart

MAX_PIXELS = 10**6


@pytest.fixture
def decoded(monkeypatch):
    """Ids of the samples whose images were decoded."""
    ids = []

    def count(sample, *, max_pixels):
        ids.append(sample.sample_id)
        return decode_images(sample, max_pixels=max_pixels)

    monkeypatch.setattr(context_images, "decode_images", count)
    return ids


def test_a_context_is_processed_once_for_questions_that_follow_each_other(replica, samples, decoded):
    images = ContextImages(replica, max_pixels=MAX_PIXELS)
    first = replace(samples[0], sample_id="a")
    again = replace(first, sample_id="b", question="another?")
    other = replace(samples[1], sample_id="c")
    assert images.of(first) is images.of(again)
    assert images.of(other) is not images.of(first)
    assert decoded == ["a", "c", "a"]


@pytest.mark.parametrize("what", ["images", "context"])
def test_another_image_or_another_order_is_another_context(what, replica, samples, decoded):
    images = ContextImages(replica, max_pixels=MAX_PIXELS)
    first = replace(samples[0], images=(*samples[0].images, *samples[1].images))
    changed = {
        "images": replace(first, images=first.images[::-1]),
        "context": replace(first, context=(ContextPart("image", image=1),)),
    }[what]
    images.of(first)
    found = images.of(changed)
    expected = process_images(replica, changed, decode_images(changed, max_pixels=MAX_PIXELS))
    assert [part.frames.tolist() for part in found.parts] == [part.frames.tolist() for part in expected.parts]
    assert (found.tensors["pixel_values"] == expected.tensors["pixel_values"]).all()
    assert len(decoded) == 2


def test_a_broken_image_is_an_error_each_time_and_nothing_is_remembered(replica, samples):
    images = ContextImages(replica, max_pixels=MAX_PIXELS)
    broken = replace(samples[0], images=(replace(samples[0].images[0], bytes=b"no image"),))
    for _ in range(2):
        with pytest.raises(SampleError, match="cannot be decoded"):
            images.of(broken)
    assert images.of(samples[0]).parts
