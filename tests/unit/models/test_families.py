"""Which family a config.json belongs to."""

from __future__ import annotations

from rampipe.models import llava, mistral3
from rampipe.models.families import family_type, find_family


def test_pixtral_is_published_as_llava():
    config = {"model_type": "llava", "vision_config": {"model_type": "pixtral"}}
    assert find_family(family_type(config)) is mistral3


def test_other_towers_leave_the_model_type():
    for tower in ({"vision_config": {"model_type": "clip_vision_model"}}, {"vision_config": None}, {}):
        assert find_family(family_type({"model_type": "llava", **tower})) is llava
    assert family_type({"model_type": "mistral3", "vision_config": {"model_type": "pixtral"}}) == "mistral3"
