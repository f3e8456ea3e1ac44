"""A loaded model with all that is needed to turn samples into its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rampipe.models.family import Family
from rampipe.models.vision import Vision


@dataclass(frozen=True)
class Replica:
    """One model on one device, or its layers on several: inputs go to `device`. `models/loading.py` makes it.

    model: a transformers `PreTrainedModel` in eval mode without gradients. tokenizer: a fast tokenizer whose
    `chat_template` is the processor's. vision: None for models of text.
    """

    model: Any
    tokenizer: Any
    family: Family
    vision: Vision | None
    device: torch.device
    max_tokens: int
    """Longest prompt, teacher-forced answer included: see `longest_context`."""
    visual_token_ids: tuple[int, ...]
    """Ids of the tokens that stand for visual tokens: of images, of videos. Empty for models of text."""
    control_tokens: tuple[str, ...]
    """Strings that the tokenizer reads as markup: user text must not hold them."""
