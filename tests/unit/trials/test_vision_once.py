from __future__ import annotations

import pytest
import torch

from rampipe.models.prompts import collate
from rampipe.trials.trial import prepare
from rampipe.trials.vision_once import see_images_once


@pytest.fixture
def seen(replica):
    calls = []
    handle = replica.model.base_model.visual.register_forward_pre_hook(lambda *_: calls.append(1))
    yield calls
    handle.remove()


@pytest.fixture(scope="module")
def batches(replica, samples, config):
    """The same images under two questions, and others."""
    trials = [prepare(replica, sample, config=config) for sample in samples[:2]]
    prompts = [trials[0].prompt, trials[0].null_prompt, trials[1].prompt]
    return [collate(replica, [prompt]).inputs for prompt in prompts]


def hidden(replica, inputs):
    with torch.inference_mode():
        return replica.model.base_model(**inputs, use_cache=False).last_hidden_state


def test_the_same_images_are_seen_once_and_others_anew(replica, batches, seen):
    expected = [hidden(replica, inputs) for inputs in batches]
    assert len(seen) == 3
    seen.clear()
    with see_images_once(replica.model):
        found = [hidden(replica, inputs) for inputs in batches]
        assert len(seen) == 2
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_one_pixel_makes_another_image(replica, batches, seen):
    pixels = batches[0]["pixel_values"].clone()
    pixels[0, 0] += 1
    with see_images_once(replica.model):
        hidden(replica, batches[0])
        hidden(replica, {**batches[0], "pixel_values": pixels})
    assert len(seen) == 2


def test_afterwards_the_model_is_as_it_was(replica, batches, seen):
    base = replica.model.base_model
    with pytest.raises(KeyError), see_images_once(replica.model):
        assert "get_image_features" in vars(base)
        raise KeyError
    assert "get_image_features" not in vars(base)
    assert "get_video_features" not in vars(base)
    hidden(replica, batches[0])
    hidden(replica, batches[0])
    assert len(seen) == 2
