"""Gemma 3 and Gemma 4, each as the checkpoints that differ in their attention."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor
from transformers.models.gemma4.processing_gemma4 import Gemma4Processor

from rampipe.models.replica import Replica
from tests.families.builder import Builder
from tests.families.parts import vocab_size, write_json, write_model, write_tokenizer

NAMED_3 = {"boi_token": "<start_of_image>", "image_token": "<image_soft_token>", "eoi_token": "<end_of_image>"}
NAMED_4 = {
    "boi_token": "<|image>",
    "image_token": "<|image|>",
    "eoi_token": "<image|>",
    "boa_token": "<|audio>",
    "audio_token": "<|audio|>",
    "eoa_token": "<audio|>",
}
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}START{{ message['role'] }}\n{% for item in message['content'] %}"
    "{% if item['type'] == 'image' %}IMAGE{% elif item['type'] == 'video' %}<|video|>"
    "{% elif item['type'] == 'text' %}{{ item['text'] | trim }}{% endif %}"
    "{% endfor %}END\n{% endfor %}{% if add_generation_prompt %}STARTmodel\n{% endif %}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
    "sliding_window": 24,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
TOKENS_PER_VIEW = 16


def write_gemma3(folder: Path, *, images_kwargs: dict[str, Any]) -> None:
    """Views of 64 px; patches of 8 px, of which 2 x 2 make a token."""
    ids = _write_tokenizer(folder, NAMED_3, start="<start_of_turn>", end="<end_of_turn>", image="<start_of_image>")
    config = Gemma3Config(
        text_config={**TEXT, "query_pre_attn_scalar": 8, **_special(ids, end="<end_of_turn>")},
        vision_config={**VISION, "model_type": "siglip_vision_model", "patch_size": 8, "image_size": 64},
        mm_tokens_per_image=TOKENS_PER_VIEW,
        **{f"{name}_index": ids[token] for name, token in NAMED_3.items()},
    )
    write_model(folder, Gemma3ForConditionalGeneration, config)
    size = {"size": {"height": 64, "width": 64}}
    write_json(folder, "preprocessor_config.json", {"image_processor_type": "Gemma3ImageProcessor", **size})
    settings = {"image_seq_length": TOKENS_PER_VIEW, "images_kwargs": images_kwargs}
    write_json(folder, "processor_config.json", settings)


def write_gemma4(folder: Path, *, text: dict[str, Any]) -> None:
    """At most 140 tokens an image and 70 a frame; patches of 4 px, of which 3 x 3 make a token."""
    ids = _write_tokenizer(folder, NAMED_4, start="<|turn>", end="<turn|>", image="<|image|>")
    names = {"boi_token_id": "boi", "image_token_id": "image", "eoi_token_id": "eoi"}
    names |= {"boa_token_id": "boa", "audio_token_id": "audio", "eoa_token_index": "eoa"}
    sizes = {"vocab_size_per_layer_input": vocab_size(ids), "hidden_size_per_layer_input": 4, "global_head_dim": 16}
    config = Gemma4Config(
        text_config={**TEXT, **sizes, **_special(ids, end="<turn|>"), **text},
        vision_config={**VISION, "num_key_value_heads": 2, "head_dim": 16, "patch_size": 4},
        audio_config=None,
        video_token_id=ids["<|video|>"],
        **{field: ids[NAMED_4[f"{name}_token"]] for field, name in names.items()},
    )
    write_model(folder, Gemma4ForConditionalGeneration, config)
    size = {"patch_size": 4, "max_soft_tokens": 140, "pooling_kernel_size": 3}
    write_json(folder, "preprocessor_config.json", {"image_processor_type": "Gemma4ImageProcessor", **size})
    write_json(folder, "video_preprocessor_config.json", {"max_soft_tokens": 70, "fps": 2})


def _write_tokenizer(folder: Path, named: dict[str, str], *, start: str, end: str, image: str) -> dict[str, int]:
    """The named tokens are attributes of the tokenizer, which the family's processor reads."""
    template = TEMPLATE.replace("START", start).replace("END", end).replace("IMAGE", image)
    markup = ("<pad>", "<bos>", start, end, "<|video|>", *named.values())
    ids = write_tokenizer(folder, markup, template=template, bos="<bos>")
    PreTrainedTokenizerFast.from_pretrained(folder, extra_special_tokens=named).save_pretrained(folder)
    return ids


def _special(ids: dict[str, int], *, end: str) -> dict[str, int]:
    names = {"bos_token_id": "<bos>", "eos_token_id": end, "pad_token_id": "<pad>"}
    return {"vocab_size": vocab_size(ids), **{field: ids[token] for field, token in names.items()}}


def make_gemma3_processor(replica: Replica, *, images_kwargs: dict[str, Any]) -> Any:
    """The crops that processor_config.json asks for are an argument of each call there."""
    vision, tokenizer = replica.vision, replica.tokenizer
    assert vision is not None
    processor = Gemma3Processor(
        vision.image_processor, tokenizer, chat_template=tokenizer.chat_template, image_seq_length=TOKENS_PER_VIEW
    )
    processor.images_kwargs = {**Gemma3Processor.images_kwargs, **images_kwargs}
    return processor


def make_gemma4_processor(replica: Replica) -> Any:
    """Without audio and without a video processor, which needs torchvision."""
    vision, tokenizer = replica.vision, replica.tokenizer
    assert vision is not None
    processor = Gemma4Processor.__new__(Gemma4Processor)
    processor.image_processor, processor.tokenizer = vision.image_processor, tokenizer
    processor.chat_template = tokenizer.chat_template
    processor.video_token = "<|video|>"
    for name, token in NAMED_4.items():
        setattr(processor, name, token)
    for name in ("image", "video", "audio"):
        token_id = tokenizer.convert_tokens_to_ids(f"<|{name}|>")
        setattr(processor, f"{name}_token_id", token_id)
    return processor


CROPS = {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 32}
SHARED_KEYS = {
    "num_hidden_layers": 5,
    "layer_types": [*TEXT["layer_types"][1:], *TEXT["layer_types"]],
    "num_kv_shared_layers": 2,
}
BOTH_WAYS = "rows see keys behind them"
BUILDERS = (
    Builder(
        "Gemma 3",
        "gemma3",
        partial(write_gemma3, images_kwargs={}),
        partial(make_gemma3_processor, images_kwargs={}),
        BOTH_WAYS,
    ),
    Builder(
        "Gemma 3 (pan and scan)",
        "gemma3",
        partial(write_gemma3, images_kwargs=CROPS),
        partial(make_gemma3_processor, images_kwargs=CROPS),
        BOTH_WAYS,
    ),
    Builder(
        "Gemma 4 E (shared keys)",
        "gemma4",
        partial(write_gemma4, text=SHARED_KEYS),
        make_gemma4_processor,
        "layers use keys of others",
    ),
    Builder(
        "Gemma 4",
        "gemma4",
        partial(
            write_gemma4,
            text={
                "use_bidirectional_attention": "vision",
                "hidden_size_per_layer_input": 0,
                "attention_k_eq_v": True,
                "num_global_key_value_heads": 1,
            },
        ),
        make_gemma4_processor,
        "layers differ in their number of kv_heads",
    ),
)
