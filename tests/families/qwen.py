"""Qwen2-VL, Qwen2.5-VL."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
)

from rampipe.models.replica import Replica
from tests.families.builder import Builder
from tests.families.parts import vocab_size, write_json, write_model, write_tokenizer

MARKUP = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == 'video' or 'video' in content %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
    "bos_token_id": None,
    "tie_word_embeddings": True,
}
LIMITS = {"shortest_edge": 16 * 16 * 4, "longest_edge": 16 * 16 * 40}


def write_qwen(folder: Path, *, model_class: Any, config_class: Any, vision: dict[str, Any]) -> None:
    """Patches of 8 px, of which 2 x 2 make a token."""
    ids = write_tokenizer(folder, MARKUP, template=TEMPLATE)
    names = {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
    names |= {"image": "<|image_pad|>", "video": "<|video_pad|>"}
    text = {**TEXT, "vocab_size": vocab_size(ids), "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids[MARKUP[0]]}
    config = config_class(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        **{f"{name}_token_id": ids[token] for name, token in names.items()},
    )
    write_model(folder, model_class, config)
    processor = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2, "size": LIMITS}
    write_json(folder, "preprocessor_config.json", {"image_processor_type": "Qwen2VLImageProcessor", **processor})


def make_processor(replica: Replica) -> Any:
    """Without a video processor, which needs torchvision."""
    vision, tokenizer = replica.vision, replica.tokenizer
    assert vision is not None
    processor = Qwen2VLProcessor.__new__(Qwen2VLProcessor)
    processor.image_processor, processor.tokenizer = vision.image_processor, tokenizer
    processor.chat_template = tokenizer.chat_template
    processor.image_token, processor.video_token = vision.image_token, "<|video_pad|>"
    processor.image_token_id = tokenizer.convert_tokens_to_ids(processor.image_token)
    processor.video_token_id = tokenizer.convert_tokens_to_ids(processor.video_token)
    return processor


BUILDERS = (
    Builder(
        "Qwen2-VL",
        "qwen2_vl",
        partial(
            write_qwen,
            model_class=Qwen2VLForConditionalGeneration,
            config_class=Qwen2VLConfig,
            vision={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8},
        ),
        make_processor,
    ),
    Builder(
        "Qwen2.5-VL",
        "qwen2_5_vl",
        partial(
            write_qwen,
            model_class=Qwen2_5_VLForConditionalGeneration,
            config_class=Qwen2_5_VLConfig,
            vision={
                "depth": 2,
                "hidden_size": 32,
                "out_hidden_size": 32,
                "num_heads": 2,
                "intermediate_size": 48,
                "patch_size": 8,
                "window_size": 32,
                "fullatt_block_indexes": [1],
            },
        ),
        make_processor,
    ),
)
