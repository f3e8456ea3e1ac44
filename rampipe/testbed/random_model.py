"""A small random Qwen2-VL checkpoint around any tokenizer: long real prompts through the pipeline, meaning nothing."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from transformers import AutoTokenizer, GenerationConfig, Qwen2VLConfig, Qwen2VLForConditionalGeneration

from rampipe.errors import ModelError
from rampipe.testbed.architecture import MERGE, TEMPORAL_PATCH, initialise
from rampipe.testbed.checkpoint import save_processors
from rampipe.testbed.parts import text_config

NUM_HEADS = 4
NUM_KV_HEADS = 2
PATCH_PX = 14
MIN_PIXELS = 56 * 56
MAX_PIXELS = 1280 * 28 * 28
VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")

CHAT_TEMPLATE = """{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type == 'video' -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif part.type == 'text' -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
"""ChatML with vision tokens, as Qwen2-VL writes it, without its default system message."""


def make_config(*, token_ids: list[int], vocabulary_size: int, hidden: int, num_layers: int) -> Qwen2VLConfig:
    """token_ids: of VISION_TOKENS, in that order. Four heads of hidden / 4 dimensions, two kv_heads."""
    half_head = hidden // NUM_HEADS // 2
    temporal = half_head // 4
    columns = (half_head - temporal) // 2
    text = {
        "vocab_size": vocabulary_size,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": num_layers,
        "num_attention_heads": NUM_HEADS,
        "num_key_value_heads": NUM_KV_HEADS,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [temporal, half_head - temporal - columns, columns],
        },
        "bos_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": 1,
        "embed_dim": 32,
        "hidden_size": hidden,
        "num_heads": 2,
        "mlp_ratio": 2,
        "patch_size": PATCH_PX,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": TEMPORAL_PATCH,
    }
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return Qwen2VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True, **dict(zip(names, token_ids, strict=True))
    )


def write_random_model(
    folder: Path | str, *, tokenizer_folder: Path | str, seed: int = 0, hidden: int = 64, num_layers: int = 2
) -> None:
    """Writes an untrained checkpoint with the given tokenizer, a ChatML template and 28 px visual tokens.

    hidden: a multiple of 32. Images of up to 1,280 visual tokens are not scaled down.
    Raises ModelError when the tokenizer lacks one of VISION_TOKENS.
    """
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in VISION_TOKENS if token not in vocabulary]
    if missing:
        raise ModelError(
            f"tokenizer {tokenizer_folder}: has no {', '.join(missing)}. Give a tokenizer of the Qwen2-VL family."
        )
    config = make_config(
        token_ids=[vocabulary[token] for token in VISION_TOKENS],
        vocabulary_size=max(vocabulary.values()) + 1,
        hidden=hidden,
        num_layers=num_layers,
    )
    model = Qwen2VLForConditionalGeneration(config)
    initialise(model, generator=torch.Generator().manual_seed(seed))
    model.tie_weights()
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = text_config(config).max_position_embeddings
    cast("torch.nn.Module", model).to(torch.float16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_processors(Path(folder), patch_px=PATCH_PX, pixel_range=(MIN_PIXELS, MAX_PIXELS))
