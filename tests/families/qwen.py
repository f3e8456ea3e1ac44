"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import transformers
from transformers import Qwen2VLProcessor

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


def write_qwen(folder: Path, *, name: str, vision: dict[str, Any], text: dict[str, Any] | None = None) -> None:
    """Patches of 8 px, of which 2 x 2 make a token. name: of the classes, as in `Qwen2VLConfig`."""
    ids = write_tokenizer(folder, MARKUP, template=TEMPLATE)
    names = {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
    names |= {"image": "<|image_pad|>", "video": "<|video_pad|>"}
    shape = {**TEXT, **(text or {})}
    shape |= {"vocab_size": vocab_size(ids), "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids[MARKUP[0]]}
    config = getattr(transformers, f"{name}Config")(
        text_config=shape,
        vision_config=vision,
        tie_word_embeddings=True,
        **{f"{name}_token_id": ids[token] for name, token in names.items()},
    )
    write_model(folder, getattr(transformers, f"{name}ForConditionalGeneration"), config)
    processor = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2, "size": LIMITS}
    write_json(folder, "preprocessor_config.json", {"image_processor_type": "Qwen2VLImageProcessor", **processor})
    # The limits of Qwen3 hold for all frames together, those of Qwen2 for each.
    limits = {"shortest_edge": 16 * 16 * 4, "longest_edge": 16 * 16 * (100 if name.startswith("Qwen3") else 30)}
    write_json(folder, "video_preprocessor_config.json", {**processor, "size": limits, "fps": 2})


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


DEEP = {"depth": 2, "hidden_size": 32, "num_heads": 2, "patch_size": 8}
QWEN2 = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8}
QWEN2_5 = {**DEEP, "out_hidden_size": 32, "intermediate_size": 48, "window_size": 32, "fullatt_block_indexes": [1]}
QWEN3_5 = {**DEEP, "out_hidden_size": 32, "intermediate_size": 48, "num_position_embeddings": 64}
QWEN3 = {**QWEN3_5, "deepstack_visual_indexes": [0]}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
HEADS = {"head_dim": 8}
LINEAR = {
    "num_hidden_layers": 3,
    "layer_types": ["linear_attention", "full_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "head_dim": 16,
}

BUILDERS = (
    Builder("Qwen2-VL", "qwen2_vl", partial(write_qwen, name="Qwen2VL", vision=QWEN2), make_processor),
    Builder("Qwen2.5-VL", "qwen2_5_vl", partial(write_qwen, name="Qwen2_5_VL", vision=QWEN2_5), make_processor),
    Builder("Qwen3-VL", "qwen3_vl", partial(write_qwen, name="Qwen3VL", vision=QWEN3, text=HEADS), make_processor),
    Builder(
        "Qwen3-VL MoE",
        "qwen3_vl_moe",
        partial(write_qwen, name="Qwen3VLMoe", vision=QWEN3, text={**HEADS, **EXPERTS}),
        make_processor,
    ),
    Builder(
        "Qwen3.5 (hybrid)",
        "qwen3_5",
        partial(write_qwen, name="Qwen3_5", vision=QWEN3_5, text=LINEAR),
        make_processor,
    ),
    Builder(
        "Qwen3.5 MoE (hybrid)",
        "qwen3_5_moe",
        partial(
            write_qwen,
            name="Qwen3_5Moe",
            vision=QWEN3_5,
            text={**LINEAR, **EXPERTS, "shared_expert_intermediate_size": 16},
        ),
        make_processor,
    ),
)
