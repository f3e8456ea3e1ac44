"""LLaVA 1.5, LLaVA-NeXT, LLaVA-OneVision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionProcessor,
    LlavaProcessor,
)

from rampipe.models.replica import Replica
from tests.families.builder import Builder
from tests.families.parts import vocab_size, write_json, write_model, write_tokenizer

LLAMA_MARKUP = ("<unk>", "<s>", "</s>", "<image>")
QWEN_MARKUP = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
IMAGES = "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
VIDEOS = "{% for part in message['content'] if part['type'] == 'video' %}{{ '<video>\n' }}{% endfor %}"
TEXTS = "{% for part in message['content'] if part['type'] == 'text' %}"
VICUNA = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}" + IMAGES + TEXTS + "{{ part['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
MISTRAL = (
    "{% for message in messages %}{{ '[INST] ' }}" + IMAGES + TEXTS + "{{ part['text'] }}{% endfor %}"
    "{{ ' [/INST]' }}{% endfor %}"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}" + IMAGES + VIDEOS + TEXTS + ""
    "{{ '\n' + part['text'] }}{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""All images first, then the texts, whatever the order of the message."""

TILE_PX, PATCH_PX = 32, 8
TILE = {"height": TILE_PX, "width": TILE_PX}
WIDTHS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = {**WIDTHS, "num_key_value_heads": 2, "max_position_embeddings": 2048}
CLIP = {"model_type": "clip_vision_model", **WIDTHS, "image_size": TILE_PX, "patch_size": PATCH_PX}
CLIP_SETTINGS = {
    "image_token": "<image>",
    "num_additional_image_tokens": 1,
    "patch_size": PATCH_PX,
    "vision_feature_select_strategy": "default",
}
SIGLIP_SETTINGS = {**CLIP_SETTINGS, "num_additional_image_tokens": 0, "vision_feature_select_strategy": "full"}
CANVASES = [[TILE_PX * rows, TILE_PX * columns] for rows, columns in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))]
SIGLIP_TILE_PX = TILE_PX + PATCH_PX // 2
"""No multiple of a patch, as in the published checkpoints: the rest of each tile is in no token."""


def write_llava(folder: Path) -> None:
    """Llama behind CLIP, without its class token; the tokenizer adds the start token."""
    ids = write_tokenizer(folder, LLAMA_MARKUP, template=VICUNA, bos="<s>")
    text = {"model_type": "llama", **TEXT, "vocab_size": vocab_size(ids)}
    config = LlavaConfig(vision_config=CLIP, text_config=text, image_token_index=ids["<image>"])
    write_model(folder, LlavaForConditionalGeneration, config)
    processor = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": TILE_PX}, "crop_size": TILE}
    write_json(folder, "preprocessor_config.json", processor)
    write_json(folder, "processor_config.json", CLIP_SETTINGS)


def write_llava_interleave(folder: Path) -> None:
    """Qwen2 behind SigLIP, which has no class token; the image is distorted to the square."""
    ids = write_tokenizer(folder, QWEN_MARKUP, template=CHATML)
    config = LlavaConfig(
        vision_config={**CLIP, "model_type": "siglip_vision_model", "vision_use_head": False},
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": vocab_size(ids)},
        image_token_index=ids["<image>"],
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    write_model(folder, LlavaForConditionalGeneration, config)
    write_json(folder, "preprocessor_config.json", {"image_processor_type": "SiglipImageProcessor", "size": TILE})
    write_json(folder, "processor_config.json", SIGLIP_SETTINGS)


def write_llava_next(folder: Path) -> None:
    """Mistral behind CLIP."""
    ids = write_tokenizer(folder, LLAMA_MARKUP, template=MISTRAL, bos="<s>")
    config = LlavaNextConfig(
        vision_config=CLIP,
        text_config={"model_type": "mistral", **TEXT, "sliding_window": None, "vocab_size": vocab_size(ids)},
        image_token_index=ids["<image>"],
        image_grid_pinpoints=CANVASES,
    )
    write_model(folder, LlavaNextForConditionalGeneration, config)
    processor = {"image_processor_type": "LlavaNextImageProcessor", "size": {"shortest_edge": TILE_PX}}
    processor |= {"crop_size": TILE, "image_grid_pinpoints": CANVASES}
    write_json(folder, "preprocessor_config.json", processor)
    write_json(folder, "processor_config.json", CLIP_SETTINGS)


def write_llava_onevision(folder: Path) -> None:
    """Qwen2 behind SigLIP; the stitched view is shrunk over the tokens of 4 tiles."""
    ids = write_tokenizer(folder, QWEN_MARKUP, template=CHATML)
    canvases = [[SIGLIP_TILE_PX * rows, SIGLIP_TILE_PX * columns] for rows in range(1, 5) for columns in range(1, 5)]
    tower = {**CLIP, "model_type": "siglip_vision_model", "image_size": SIGLIP_TILE_PX, "vision_use_head": False}
    config = LlavaOnevisionConfig(
        vision_config=tower,
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": vocab_size(ids)},
        image_token_index=ids["<image>"],
        video_token_index=ids["<video>"],
        image_grid_pinpoints=canvases,
        vision_aspect_ratio="anyres_max_4",
    )
    write_model(folder, LlavaOnevisionForConditionalGeneration, config)
    size = {"size": {"height": SIGLIP_TILE_PX, "width": SIGLIP_TILE_PX}}
    processor = {"image_processor_type": "LlavaOnevisionImageProcessor", "image_grid_pinpoints": canvases, **size}
    write_json(folder, "preprocessor_config.json", processor)
    video_processor = {"video_processor_type": "LlavaOnevisionVideoProcessor", **size}
    write_json(folder, "video_preprocessor_config.json", video_processor)
    settings = {"num_image_tokens": 16, "vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_4"}
    write_json(folder, "processor_config.json", settings)


def make_clip_processor(replica: Replica) -> Any:
    """LLaVA's, or LLaVA-NeXT's."""
    assert replica.vision is not None
    is_next = replica.vision.config.model_type == "llava_next"
    return (LlavaNextProcessor if is_next else LlavaProcessor)(
        image_processor=replica.vision.image_processor,
        tokenizer=replica.tokenizer,
        chat_template=replica.tokenizer.chat_template,
        **replica.vision.settings,
    )


def make_onevision_processor(replica: Replica) -> Any:
    """Without a video processor, which needs torchvision."""
    vision, tokenizer = replica.vision, replica.tokenizer
    assert vision is not None
    processor = LlavaOnevisionProcessor.__new__(LlavaOnevisionProcessor)
    processor.image_processor, processor.tokenizer = vision.image_processor, tokenizer
    processor.chat_template = tokenizer.chat_template
    processor.image_token, processor.video_token = vision.image_token, vision.video_token
    processor.image_token_id = tokenizer.convert_tokens_to_ids(processor.image_token)
    processor.video_token_id = tokenizer.convert_tokens_to_ids(processor.video_token)
    for name, value in vision.settings.items():
        setattr(processor, name, value)
    return processor


BUILDERS = (
    Builder("LLaVA-1.5", "llava", write_llava, make_clip_processor),
    Builder("LLaVA-Interleave", "llava", write_llava_interleave, make_clip_processor),
    Builder("LLaVA-NeXT", "llava_next", write_llava_next, make_clip_processor),
    Builder("LLaVA-OneVision", "llava_onevision", write_llava_onevision, make_onevision_processor),
)
