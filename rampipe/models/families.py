"""The families that we know. Adding one is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    qwen3_vl,
    smolvlm,
    text,
)
from rampipe.models.family import Family

FAMILIES: tuple[Family, ...] = (
    qwen2_vl,
    qwen3_vl,
    llava,
    llava_next,
    llava_onevision,
    internvl,
    glm4v,
    mistral3,
    gemma3,
    gemma4,
    idefics3,
    smolvlm,
    text,
)


def family_type(model_config: Mapping[str, Any]) -> str:
    """`model_type` of a config.json, with the vision tower behind it where that makes another family (Pixtral 12B)."""
    tower = model_config.get("vision_config") or {}
    is_pixtral = model_config["model_type"] == "llava" and tower.get("model_type") == "pixtral"
    return "llava+pixtral" if is_pixtral else str(model_config["model_type"])


def find_family(model_type: str) -> Family:
    """The family of a checkpoint by the `family_type` of its config.json. Raises ModelError, which lists all."""
    for family in FAMILIES:
        if model_type in family.MODEL_TYPES:
            return family
    known = sorted(name for family in FAMILIES for name in family.MODEL_TYPES)
    raise ModelError(
        f"model_type {model_type!r} is not known. Known: {', '.join(known)}. "
        "Use such a checkpoint, or add a family file to rampipe/models/."
    )
