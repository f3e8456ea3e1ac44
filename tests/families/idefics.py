"""Idefics3 and SmolVLM."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor

from rampipe.models.replica import Replica
from tests.families.builder import Builder
from tests.families.parts import vocab_size, write_json, write_model, write_tokenizer

PLACES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
MARKUP = (
    "<|endoftext|>",
    "<|im_start|>",
    "<end_of_utterance>",
    "<fake_token_around_image>",
    "<global-img>",
    "<image>",
    *PLACES,
)
TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% elif line['type'] == 'video' %}{{ '<video>' }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
TEXT = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 64,
}
TOKENS_PER_TILE = 16


def write_idefics3(folder: Path, *, model_class: Any, config_class: Any, processor: str) -> None:
    """Tiles of 64 px; patches of 8 px, of which 2 x 2 make a token; at most 2 tiles a side."""
    ids = write_tokenizer(folder, MARKUP, template=TEMPLATE)
    special = {"bos_token_id": ids["<|im_start|>"], "eos_token_id": ids["<end_of_utterance>"]}
    config = config_class(
        text_config={**TEXT, "vocab_size": vocab_size(ids), "pad_token_id": ids[MARKUP[0]], **special},
        vision_config=VISION,
        image_token_id=ids["<image>"],
        scale_factor=2,
    )
    write_model(folder, model_class, config)
    size = {"size": {"longest_edge": 128}, "max_image_size": {"longest_edge": 64}}
    write_json(folder, "preprocessor_config.json", {"image_processor_type": processor, **size})
    write_json(folder, "processor_config.json", {"image_seq_len": TOKENS_PER_TILE})


def make_processor(replica: Replica, *, processor_class: Any) -> Any:
    """Without SmolVLM's video processor, which needs torchvision, and its wording of numbers, which needs num2words."""
    vision, tokenizer = replica.vision, replica.tokenizer
    assert vision is not None
    processor = processor_class.__new__(processor_class)
    processor.image_processor, processor.tokenizer = vision.image_processor, tokenizer
    processor.chat_template = tokenizer.chat_template
    processor.image_seq_len = TOKENS_PER_TILE
    processor.video_processor = SimpleNamespace(num_frames=1, fps=1)
    processor.image_token, processor.video_token = vision.image_token, None
    processor.fake_image_token = "<fake_token_around_image>"
    processor.global_image_tag = processor.global_image_token = "<global-img>"
    processor.image_token_id = tokenizer.convert_tokens_to_ids(vision.image_token)
    processor.fake_image_token_id = tokenizer.convert_tokens_to_ids(processor.fake_image_token)
    return processor


BUILDERS = (
    Builder(
        "Idefics3",
        "idefics3",
        partial(
            write_idefics3,
            model_class=Idefics3ForConditionalGeneration,
            config_class=Idefics3Config,
            processor="Idefics3ImageProcessor",
        ),
        partial(make_processor, processor_class=Idefics3Processor),
    ),
    Builder(
        "SmolVLM",
        "smolvlm",
        partial(
            write_idefics3,
            model_class=SmolVLMForConditionalGeneration,
            config_class=SmolVLMConfig,
            processor="SmolVLMImageProcessor",
        ),
        partial(make_processor, processor_class=SmolVLMProcessor),
    ),
)
