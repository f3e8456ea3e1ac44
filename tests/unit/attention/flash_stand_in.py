"""What a flash kernel does, by PyTorch on a CPU: causal, aligned to the last key, a window, padding in two dimensions.

It stands behind transformers' own name, so masks and code paths are chosen as for the real one.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "flash_attention_2"


@contextmanager
def on_flash(model) -> Generator[list[int]]:
    """The decoder runs on it while the context lasts. Yields the layers that it ran, one entry a call."""
    layers: list[int] = []

    def attend(module, query, key, value, attention_mask, *, scaling, sliding_window=None, **arguments):
        assert attention_mask is None or attention_mask.dim() == 2
        layers.append(module.layer_idx)
        num_queries, num_keys = query.shape[2], key.shape[2]
        distance = torch.arange(num_keys - num_queries, num_keys)[:, None] - torch.arange(num_keys)
        seen = (distance >= 0) & (distance < (sliding_window or num_keys))
        if attention_mask is not None:
            seen = seen & attention_mask[:, None, None, -num_keys:].bool()
        output = scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scaling, enable_gqa=True)
        return output.nan_to_num(0).transpose(1, 2), None

    configs = {
        id(module.config): module.config for module in model.get_decoder().modules() if hasattr(module, "config")
    }
    before = [(config, config._attn_implementation) for config in configs.values()]
    ALL_ATTENTION_FUNCTIONS[NAME] = attend
    try:
        for config, _ in before:
            config._attn_implementation = NAME
        yield layers
    finally:
        for config, name in before:
            config._attn_implementation = name
        del ALL_ATTENTION_FUNCTIONS[NAME]
