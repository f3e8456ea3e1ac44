"""The families that we know. Adding one is one file and one line here."""

from __future__ import annotations

from rampipe.errors import ModelError
from rampipe.models import (
    gemma3,
    gemma4,
    glm4v,
    idefics3,
    internvl,
    llava,
    llava_next,
    llava_onevision,
    mistral3,
    qwen2_vl,
)
from rampipe.models.family import Family

FAMILIES: tuple[Family, ...] = (
    qwen2_vl,
    llava,
    llava_next,
    llava_onevision,
    internvl,
    glm4v,
    mistral3,
    gemma3,
    gemma4,
    idefics3,
)


def find_family(model_type: str) -> Family:
    """The family of a checkpoint by `model_type` of its config.json. Raises ModelError that lists the known ones."""
    for family in FAMILIES:
        if model_type in family.MODEL_TYPES:
            return family
    known = sorted(name for family in FAMILIES for name in family.MODEL_TYPES)
    raise ModelError(
        f"model_type {model_type!r} is not known. Known: {', '.join(known)}. "
        "Use such a checkpoint, or add a family file to rampipe/models/."
    )
