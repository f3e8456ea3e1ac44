"""The deep testbed's model: fresh blocks below the small testbed's trained ones.

The small model fetches the evidence in its first layer, because there the key is the row's own token. Here the key is
elsewhere in the text, and the fresh blocks can learn to bring it: retrieval then is where the trained blocks are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRotaryEmbedding

from rampipe.testbed.architecture import initialise, make_config
from rampipe.testbed.deep.attention import NAME
from rampipe.testbed.parts import decoder_layers, language_model, text_config, vision_tower, word_embeddings
from rampipe.testbed.vocabulary import TOKEN_IDS as SMALL_TOKEN_IDS

NUM_LAYERS = 8
NUM_FRESH_LAYERS = 3
SMALL_ROPE_BASE = 1e4
OUTPUT_DAMPING = 0.3
"""Fresh blocks write softly at first, so that the trained ones still know their inputs."""


def build_deep_model(small: Path, *, seed: int) -> Qwen2VLForConditionalGeneration:
    """Fresh blocks, then the first blocks of the small model in the folder; its frozen tower, embeddings and norm."""
    trained = Qwen2VLForConditionalGeneration.from_pretrained(small, dtype=torch.float32, local_files_only=True)
    model = Qwen2VLForConditionalGeneration(make_config(num_layers=NUM_LAYERS))
    model.set_attn_implementation("eager")
    generator = torch.Generator().manual_seed(seed)
    initialise(model, generator=generator)
    model.tie_weights()
    vision_tower(model).load_state_dict(vision_tower(trained).state_dict())
    vision_tower(model).requires_grad_(False)
    language_model(model).norm.load_state_dict(language_model(trained).norm.state_dict())
    with torch.no_grad():
        num_known = len(SMALL_TOKEN_IDS)
        word_embeddings(model)[:num_known] = word_embeddings(trained)[:num_known]
        layers = decoder_layers(model)
        for layer in layers[:NUM_FRESH_LAYERS]:
            layer.self_attn.o_proj.weight.mul_(OUTPUT_DAMPING)
            layer.mlp.down_proj.weight.mul_(OUTPUT_DAMPING)
    for layer, source in zip(layers[NUM_FRESH_LAYERS:], decoder_layers(trained), strict=False):
        layer.load_state_dict(source.state_dict())
    language_model(model).set_attn_implementation(NAME)
    return model


def set_rope_base(model: Qwen2VLForConditionalGeneration, base: float) -> None:
    """Sets the base of the rotary frequencies. The higher it is, the more of a head's 12 numbers ignore distance."""
    config: Any = text_config(model.config)
    config.rope_parameters["rope_theta"] = base
    language_model(model).rotary_emb = Qwen2VLRotaryEmbedding(config)
