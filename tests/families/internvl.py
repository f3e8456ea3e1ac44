"""InternVL 2.5 and 3 with Qwen2 as text model, InternVL 3.5 with Qwen3, of experts too."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from transformers import InternVLConfig, InternVLForConditionalGeneration
from transformers.models.internvl.processing_internvl import InternVLProcessor

from rampipe.models.replica import Replica
from tests.families.builder import Builder
from tests.families.parts import vocab_size, write_json, write_model, write_tokenizer

MARKUP = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}{% elif part['type'] == 'video' %}{{ '<video>\n' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WIDTHS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = {**WIDTHS, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 2048}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
TOWER = {**WIDTHS, "image_size": [32, 32], "patch_size": [4, 4]}
TOKENS_OF_TILE = 16
SIZE = {"size": {"height": 32, "width": 32}}


def write_internvl(folder: Path, *, text_type: str, **text: int) -> None:
    """Tiles of 32 px and 4 x 4 tokens, up to 6 of them."""
    ids = write_tokenizer(folder, MARKUP, template=TEMPLATE)
    config = InternVLConfig(
        vision_config=TOWER,
        text_config={"model_type": text_type, **TEXT, **text, "vocab_size": vocab_size(ids)},
        image_token_id=ids["<IMG_CONTEXT>"],
        image_seq_length=TOKENS_OF_TILE,
    )
    write_model(folder, InternVLForConditionalGeneration, config)
    processor = {"image_processor_type": "GotOcr2ImageProcessorFast", "min_patches": 1, "max_patches": 6, **SIZE}
    write_json(folder, "preprocessor_config.json", processor)
    write_json(folder, "video_preprocessor_config.json", {"video_processor_type": "InternVLVideoProcessor", **SIZE})
    write_json(folder, "processor_config.json", {"image_seq_length": TOKENS_OF_TILE})


def make_processor(replica: Replica) -> Any:
    """Without a video processor, which needs torchvision."""
    vision, tokenizer = replica.vision, replica.tokenizer
    assert vision is not None
    processor = InternVLProcessor.__new__(InternVLProcessor)
    processor.image_processor, processor.tokenizer = vision.image_processor, tokenizer
    processor.chat_template, processor.image_seq_length = tokenizer.chat_template, TOKENS_OF_TILE
    processor.start_image_token, processor.end_image_token = "<img>", "</img>"
    processor.image_token, processor.video_token = vision.image_token, "<video>"
    processor.multimodal_pattern = re.compile("(?P<image><IMG_CONTEXT>)|(?P<video><video>)")
    return processor


BUILDERS = (
    Builder("InternVL 2.5, 3", "internvl", partial(write_internvl, text_type="qwen2"), make_processor),
    Builder("InternVL 3.5", "internvl", partial(write_internvl, text_type="qwen3"), make_processor),
    Builder(
        "InternVL 3.5 (experts)", "internvl", partial(write_internvl, text_type="qwen3_moe", **EXPERTS), make_processor
    ),
)
