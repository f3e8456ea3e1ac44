"""A loaded model with all that is needed to turn samples into its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rampipe.models.family import Family


@dataclass(frozen=True)
class Replica:
    """One model on one device. `models/loading.py` makes it.

    model: a transformers `PreTrainedModel` in eval mode without gradients. tokenizer: a fast tokenizer whose
    `chat_template` is the processor's. image_processor: the PIL variant, so pixels do not depend on torchvision.
    """

    model: Any
    tokenizer: Any
    image_processor: Any
    family: Family
    device: torch.device
    max_tokens: int
    """Longest context of the configuration (`max_position_embeddings`)."""
    image_token: str
    image_token_id: int
    control_tokens: tuple[str, ...]
    """Strings that the tokenizer reads as markup: user text must not hold them."""
