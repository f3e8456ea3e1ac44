"""GLM-4.1V, its mixture of experts GLM-4.5V, and GLM-4.6V."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from transformers import (
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vMoeConfig,
    Glm4vMoeForConditionalGeneration,
    Glm46VConfig,
    Glm46VForConditionalGeneration,
)
from transformers.models.glm4v.processing_glm4v import Glm4vProcessor
from transformers.models.glm46v.processing_glm46v import Glm46VProcessor

from rampipe.models.replica import Replica
from tests.families.builder import Builder
from tests.families.parts import vocab_size, write_json, write_model, write_tokenizer

MARKUP = (
    "<|endoftext|>",
    "[gMASK]",
    "<sop>",
    "<|user|>",
    "<|assistant|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|video|>",
)
TEMPLATE = (
    "[gMASK]<sop>\n{% for message in messages %}<|{{ message['role'] }}|>\n{% for item in message['content'] %}"
    "{% if item['type'] == 'video' %}<|begin_of_video|><|video|><|end_of_video|>"
    "{% elif item['type'] == 'image' %}<|begin_of_image|><|image|><|end_of_image|>"
    "{% else %}{{ item['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "bos_token_id": None,
}
ROPE = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 0]}
EXPERTS = {"head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
VISION = {
    "depth": 1,
    "hidden_size": 32,
    "num_heads": 2,
    "patch_size": 8,
    "image_size": 64,
    "out_hidden_size": 32,
    "intermediate_size": 48,
}
LIMITS = {"shortest_edge": 2 * 16 * 16 * 4, "longest_edge": 2 * 16 * 16 * 40}
"""In pixels of both frames that make a patch."""
FRAME_LIMITS = {"shortest_edge": 16 * 16 * 4, "longest_edge": 16 * 16 * 100}
"""In pixels of all frames."""


def write_glm(folder: Path, *, model_class: Any, config_class: Any, extra: dict[str, Any], processor: str) -> None:
    """Patches of 8 px, of which 2 x 2 make a token."""
    ids = write_tokenizer(folder, MARKUP, template=TEMPLATE)
    names = {"image": "<|image|>", "image_start": "<|begin_of_image|>", "image_end": "<|end_of_image|>"}
    names |= {"video": "<|video|>", "video_start": "<|begin_of_video|>", "video_end": "<|end_of_video|>"}
    special = {"eos_token_id": ids["<|user|>"], "pad_token_id": ids[MARKUP[0]]}
    config = config_class(
        text_config={**TEXT, "rope_parameters": ROPE, "vocab_size": vocab_size(ids), **special, **extra},
        vision_config=VISION,
        **{f"{name}_token_id": ids[token] for name, token in names.items()},
    )
    write_model(folder, model_class, config)
    settings = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2, "size": LIMITS}
    write_json(folder, "preprocessor_config.json", {"image_processor_type": processor, **settings})
    write_json(folder, "video_preprocessor_config.json", {**settings, "size": FRAME_LIMITS, "fps": 2})


def make_processor(replica: Replica, *, processor_class: Any) -> Any:
    """Without a video processor."""
    vision, tokenizer = replica.vision, replica.tokenizer
    assert vision is not None
    processor = processor_class.__new__(processor_class)
    processor.image_processor, processor.tokenizer = vision.image_processor, tokenizer
    processor.chat_template = tokenizer.chat_template
    processor.image_token, processor.video_token = "<|image|>", "<|video|>"
    for name in ("image", "video"):
        setattr(processor, f"{name}_token_id", tokenizer.convert_tokens_to_ids(f"<|{name}|>"))
    processor.video_start_id = tokenizer.convert_tokens_to_ids("<|begin_of_video|>")
    processor.video_end_id = tokenizer.convert_tokens_to_ids("<|end_of_video|>")
    return processor


BUILDERS = tuple(
    Builder(
        name,
        model_type,
        partial(write_glm, model_class=model_class, config_class=config_class, extra=extra, processor=processor),
        partial(make_processor, processor_class=processor_class),
    )
    for name, model_type, model_class, config_class, extra, processor, processor_class in (
        (
            "GLM-4.1V",
            "glm4v",
            Glm4vForConditionalGeneration,
            Glm4vConfig,
            {},
            "Glm4vImageProcessor",
            Glm4vProcessor,
        ),
        (
            "GLM-4.5V (experts)",
            "glm4v_moe",
            Glm4vMoeForConditionalGeneration,
            Glm4vMoeConfig,
            EXPERTS,
            "Glm4vImageProcessor",
            Glm4vProcessor,
        ),
        (
            "GLM-4.6V",
            "glm46v",
            Glm46VForConditionalGeneration,
            Glm46VConfig,
            {},
            "Glm46VImageProcessor",
            Glm46VProcessor,
        ),
    )
)
