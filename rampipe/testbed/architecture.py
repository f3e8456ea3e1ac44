"""The testbed's model: a stock Qwen2-VL of 2.5 M parameters, whose merged visual token is one 32 x 32 px cell."""

from __future__ import annotations

import torch
from torch import nn
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from rampipe.testbed.parts import text_config
from rampipe.testbed.vocabulary import END, IMAGE, PAD, TOKEN_IDS, VIDEO, VISION_END, VISION_START, VOCABULARY_SIZE

HIDDEN = 192
NUM_LAYERS = 6
NUM_HEADS = 16
NUM_KV_HEADS = 8
PATCH_PX = 16
MERGE = 2
TEMPORAL_PATCH = 2
OUTPUT_GAIN = 0.04
"""Standard deviation of o_proj and down_proj before the division by sqrt(2 layers)."""


def make_config(*, num_layers: int = NUM_LAYERS) -> Qwen2VLConfig:
    """The configuration of the testbed's model."""
    text = {
        "vocab_size": VOCABULARY_SIZE,
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": num_layers,
        "num_attention_heads": NUM_HEADS,
        "num_key_value_heads": NUM_KV_HEADS,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 2, 3]},
        "bos_token_id": None,
        "eos_token_id": TOKEN_IDS[END],
        "pad_token_id": TOKEN_IDS[PAD],
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": 1,
        "embed_dim": 96,
        "hidden_size": HIDDEN,
        "num_heads": 4,
        "mlp_ratio": 2,
        "patch_size": PATCH_PX,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": TEMPORAL_PATCH,
    }
    return Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=TOKEN_IDS[IMAGE],
        video_token_id=TOKEN_IDS[VIDEO],
        vision_start_token_id=TOKEN_IDS[VISION_START],
        vision_end_token_id=TOKEN_IDS[VISION_END],
        tie_word_embeddings=True,
    )


def initialise(model: Qwen2VLForConditionalGeneration, *, generator: torch.Generator) -> None:
    """Draws all weights anew from the generator: std = fan_in^-0.5, small where a block writes to the residual."""
    num_layers = text_config(model.config).num_hidden_layers
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Embedding):
                module.weight.normal_(0.0, module.embedding_dim**-0.5, generator=generator)
            elif isinstance(module, nn.Linear | nn.Conv3d) and name != "lm_head":
                std = module.weight[0].numel() ** -0.5
                if name.endswith(("o_proj", "down_proj")):
                    std = OUTPUT_GAIN / (2 * num_layers) ** 0.5
                module.weight.normal_(0.0, std, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()


def build_model(*, seed: int, num_layers: int = NUM_LAYERS) -> Qwen2VLForConditionalGeneration:
    """An untrained model with eager attention: on a CPU its backward pass is several times faster than SDPA's."""
    config = make_config(num_layers=num_layers)
    model = Qwen2VLForConditionalGeneration(config)
    model.set_attn_implementation("eager")
    initialise(model, generator=torch.Generator().manual_seed(seed))
    model.tie_weights()
    return model
