"""What turns images and videos of a prompt into the inputs of one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Vision:
    """Read from a checkpoint's folder; the functions of a family take it first.

    config: the model's transformers configuration. image_processor: Pillow's variant, so that pixels do not depend on
    torchvision. image_token: the string that stands for one visual token of an image.
    """

    config: Any
    image_processor: Any
    settings: Mapping[str, Any]
    """processor_config.json; empty without one."""
    video_settings: Mapping[str, Any]
    """The configuration of the video processor, which needs torchvision and is never made; empty without one."""
    image_token: str
    video_token: str | None = None
    """The same of a video; None where the family or the tokenizer has none, and no video can be shown."""
