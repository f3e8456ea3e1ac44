"""Mistral Small 3.1, Pixtral 12B."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
)
from transformers.models.pixtral import image_processing_pil_pixtral

from rampipe.models.replica import Replica
from tests.families.builder import Builder
from tests.families.parts import vocab_size, write_json, write_model, write_tokenizer

MARKUP = ("<pad>", "<s>", "</s>", "[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]")
TEMPLATE = (
    "<s>{% for message in messages %}[INST]{% for block in message['content'] %}"
    "{% if block['type'] == 'image' %}[IMG]{% else %}{{ block['text'] }}{% endif %}{% endfor %}[/INST]{% endfor %}"
)
TEXT = {
    "model_type": "mistral",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "sliding_window": None,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
}
VISION = {
    "model_type": "pixtral",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "head_dim": 16,
    "patch_size": 8,
    "image_size": 128,
}


def write_mistral3(folder: Path) -> None:
    """Patches of 8 px, of which 2 x 2 make a token."""
    ids = write_tokenizer(folder, MARKUP, template=TEMPLATE, bos="<s>")
    special = {"bos_token_id": ids["<s>"], "eos_token_id": ids["</s>"], "pad_token_id": ids["<pad>"]}
    config = Mistral3Config(
        text_config={**TEXT, "vocab_size": vocab_size(ids), **special},
        vision_config=VISION,
        image_token_index=ids["[IMG]"],
        spatial_merge_size=2,
    )
    write_model(folder, Mistral3ForConditionalGeneration, config)
    size = {"size": {"longest_edge": 128}, "patch_size": {"height": 8, "width": 8}}
    write_json(folder, "preprocessor_config.json", {"image_processor_type": "PixtralImageProcessor", **size})
    settings = {"processor_class": "PixtralProcessor", "patch_size": 8, "spatial_merge_size": 2}
    write_json(folder, "processor_config.json", {**settings, "image_token": "[IMG]"})


def write_pixtral(folder: Path) -> None:
    """The same tower as LLaVA's, without merging."""
    ids = write_tokenizer(folder, MARKUP, template=TEMPLATE, bos="<s>")
    config = LlavaConfig(
        text_config={**TEXT, "vocab_size": vocab_size(ids)},
        vision_config=VISION,
        image_token_index=ids["[IMG]"],
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    write_model(folder, LlavaForConditionalGeneration, config)
    size = {"size": {"longest_edge": 64}, "patch_size": {"height": 8, "width": 8}}
    write_json(folder, "preprocessor_config.json", {"image_processor_type": "PixtralImageProcessor", **size})
    write_json(folder, "processor_config.json", {"processor_class": "PixtralProcessor", "patch_size": 8})


def make_processor(replica: Replica, *, merge: int) -> Any:
    """Its module imports a function from one that needs torchvision, and that Pillow's has as well."""
    vision, tokenizer = replica.vision, replica.tokenizer
    assert vision is not None
    package = "transformers.models.pixtral"
    with patch.dict(sys.modules, {f"{package}.image_processing_pixtral": image_processing_pil_pixtral}):
        module = importlib.import_module(f"{package}.processing_pixtral")
    processor = module.PixtralProcessor(
        vision.image_processor, tokenizer, patch_size=8, spatial_merge_size=merge, chat_template=tokenizer.chat_template
    )
    processor.text_kwargs = {}  # ids as lists, as by the others
    return processor


BUILDERS = (
    Builder("Mistral Small 3", "mistral3", write_mistral3, partial(make_processor, merge=2)),
    Builder("Pixtral 12B", "llava+pixtral", write_pixtral, partial(make_processor, merge=1)),
)
