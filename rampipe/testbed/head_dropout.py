"""Silences heads at random while training, so that the answer comes to need only those that look at cells.

A head that looks sharply at cells is never silenced: dropout of the heads that retrieve would breed spare copies of
them, and then removing a few would no longer show. Which cell a head looks at plays no part.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import Qwen2VLForConditionalGeneration

from rampipe.testbed.parts import decoder_layers, text_config

DROPOUT_RATE = 0.25
MEMORY = 0.9
"""How much of a head's past sharpness is left after a step in which it was less sharp."""

OutputInputs = tuple[Float[Tensor, "image token width"]]


class HeadDropout:
    """Head dropout by image, on the inputs of o_proj. free_sharpness: above it a head is spared."""

    def __init__(
        self, model: Qwen2VLForConditionalGeneration, *, free_sharpness: float, rng: np.random.Generator
    ) -> None:
        config = text_config(model.config)
        self._outputs = [layer.self_attn.o_proj for layer in decoder_layers(model)]
        self._num_heads = config.num_attention_heads
        self._free_sharpness = free_sharpness
        self._rng = rng
        self.sharpness: Float[Tensor, "layer head"] | None = None
        """How sharply each head looked of late; None before the first step."""

    def record(self, per_head: Float[Tensor, "layer head"]) -> None:
        """Takes the heads' sharpness in one step."""
        past = torch.zeros_like(per_head) if self.sharpness is None else self.sharpness
        self.sharpness = torch.maximum(per_head.detach(), MEMORY * past)

    def draw(self, *, num_images: int) -> Bool[Tensor, "layer image head"]:
        """Which heads are silenced for which image. None before the first `record`, as no head is known to be blunt."""
        shape = (len(self._outputs), num_images, self._num_heads)
        if self.sharpness is None:
            return torch.zeros(shape, dtype=torch.bool)
        return (
            torch.from_numpy(self._rng.random(shape) < DROPOUT_RATE) & (self.sharpness <= self._free_sharpness)[:, None]
        )

    @contextmanager
    def active(self, *, num_images: int) -> Generator[None]:
        """Silences a fresh draw of heads while the context lasts."""
        silenced = self.draw(num_images=num_images)
        handles = [
            output.register_forward_pre_hook(_silence(silenced[layer])) for layer, output in enumerate(self._outputs)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _silence(silenced: Bool[Tensor, "image head"]) -> Callable[[nn.Module, OutputInputs], OutputInputs]:
    def hook(_module: nn.Module, arguments: OutputInputs) -> OutputInputs:
        by_head = arguments[0].unflatten(-1, (silenced.shape[1], -1))
        return (by_head.masked_fill(silenced[:, None, :, None], 0.0).flatten(-2),)

    return hook
