"""Small random Gemma 4 decoders whose layers are not alike."""

from __future__ import annotations

import torch
from transformers import Gemma4ForCausalLM, Gemma4TextConfig

SHAPE = {
    "vocab_size": 64,
    "vocab_size_per_layer_input": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "global_head_dim": 16,
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "hidden_size_per_layer_input": 4,
}
SHARED_KEYS = {"num_kv_shared_layers": 2}
UNLIKE_KV_HEADS = {"attention_k_eq_v": True, "num_global_key_value_heads": 1}


def build_gemma4(**options) -> Gemma4ForCausalLM:
    """Its last two layers use keys of the first two with `SHARED_KEYS`."""
    torch.manual_seed(0)
    model = Gemma4ForCausalLM(Gemma4TextConfig(**SHAPE, **options)).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model


def some_tokens() -> dict[str, torch.Tensor]:
    """Two sequences, one padded on the left."""
    ids = torch.randint(3, 60, (2, 14), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    return {"input_ids": ids, "attention_mask": mask}
