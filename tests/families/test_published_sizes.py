"""Tiles and patches of the published checkpoints: exactly the tokens whose boxes meet a changed part change.

The models are narrow and random, their towers local, and images are resized without a filter, so nothing bleeds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
)

from rampipe.models import internvl, llava, llava_next, llava_onevision
from rampipe.models.tokens import overlap_frac
from rampipe.models.vision import Vision

NEAREST = {"resample": 0}
SQUARE = {"height": 336, "width": 336}
WIDTHS = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**WIDTHS, "vocab_size": 8, "num_key_value_heads": 2}
CLIP = {"model_type": "clip_vision_model", **WIDTHS, "image_size": 336, "patch_size": 14}
SIGLIP = {**CLIP, "model_type": "siglip_vision_model", "image_size": 384}
IMAGE_ID = 5
SAMPLES = [[(640, 480)], [(210, 700)], [(300, 200), (200, 310)]]


def _llava() -> tuple[Any, Any, Any]:
    config = LlavaConfig(vision_config=CLIP, text_config={"model_type": "llama", **TEXT}, image_token_index=IMAGE_ID)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size=SQUARE, **NEAREST)
    return llava, LlavaForConditionalGeneration(config), processor


def _llava_next() -> tuple[Any, Any, Any]:
    text = {"model_type": "mistral", **TEXT}
    config = LlavaNextConfig(vision_config=CLIP, text_config=text, image_token_index=IMAGE_ID)
    processor = LlavaNextImageProcessorPil(size={"shortest_edge": 336}, crop_size=SQUARE, **NEAREST)
    return llava_next, LlavaNextForConditionalGeneration(config), processor


def _llava_onevision() -> tuple[Any, Any, Any]:
    text = {"model_type": "qwen2", **TEXT}
    config = LlavaOnevisionConfig(vision_config=SIGLIP, text_config=text, image_token_index=IMAGE_ID)
    return llava_onevision, LlavaOnevisionForConditionalGeneration(config), LlavaOnevisionImageProcessorPil(**NEAREST)


def _llava_onevision_shrunk() -> tuple[Any, Any, Any]:
    """As with the largest images: more tokens than 9 tiles have are blended to fewer, here more than 4."""
    family, model, processor = _llava_onevision()
    model.config.vision_aspect_ratio = "anyres_max_4"
    return family, model, processor


def _internvl() -> tuple[Any, Any, Any]:
    text = {"model_type": "qwen2", **TEXT}
    config = InternVLConfig(vision_config=WIDTHS, text_config=text, image_token_id=IMAGE_ID)
    processor = GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}, **NEAREST)
    return internvl, InternVLForConditionalGeneration(config), processor


def _make_local(model: Any) -> None:
    """Attention of the tower adds nothing: each patch sees itself alone."""
    names = [name for name, _ in model.named_parameters() if "vision_tower" in name]
    hushed = [name for name in names if ".out_proj.weight" in name or ".projection_layer.weight" in name]
    assert hushed
    for name in hushed:
        model.get_parameter(name).data.zero_()


def _features(family: Any, model: Any, vision: Vision, images: list[np.ndarray]) -> tuple[Any, torch.Tensor]:
    tensors = family.process_images(vision, [Image.fromarray(image) for image in images])
    inputs = family.forward_inputs(model, [tensors], {"input_ids": torch.zeros(1, 1, dtype=torch.int64)})
    with torch.no_grad():
        features = model.model.get_image_features(**inputs).pooler_output
    return tensors, torch.cat([of_image.reshape(-1, of_image.shape[-1]) for of_image in features])


def _num_wrong(build, sizes, *, mirrored: bool = False) -> int:
    """Tokens that changed and should not, or should and did not, over three parts of each image."""
    torch.manual_seed(0)
    family, model, processor = build()
    _make_local(model.eval())
    vision = Vision(model.config, processor, {}, {}, "#")
    images = [np.full((height, width, 3), 100, dtype=np.uint8) for width, height in sizes]
    tensors, before = _features(family, model, vision, images)
    boxes = family.visual_boxes(vision, tensors, sizes)
    if mirrored:
        for (width, _), of_image in zip(sizes, boxes, strict=True):
            of_image[:, [0, 2]] = width - of_image[:, [2, 0]]
    num_wrong = 0
    for index, (width, height) in enumerate(sizes):
        for column, row in ((0, 0), (3, 2), (6, 4)):
            left, top = width * column // 7, height * row // 5
            right, bottom = width * (column + 1) // 7, height * (row + 1) // 5
            changed = [image.copy() for image in images]
            changed[index][top:bottom, left:right] = (255, 0, 200)
            _, after = _features(family, model, vision, changed)
            is_changed = (after - before).abs().amax(dim=1) > 0
            part = (float(left), float(top), float(right), float(bottom))
            of_images = [overlap_frac(box.numpy(), part) * (other == index) for other, box in enumerate(boxes)]
            shares = torch.from_numpy(np.concatenate(of_images))
            # A share too small to hold the middle of a pixel of the resized image changes nothing.
            num_wrong += int((is_changed & (shares == 0)).sum() + (~is_changed & (shares > 0.1)).sum())
    return num_wrong


@pytest.mark.parametrize("sizes", SAMPLES, ids=str)
@pytest.mark.parametrize("build", [_llava, _llava_next, _llava_onevision, _llava_onevision_shrunk, _internvl])
def test_tokens_that_change_are_those_whose_boxes_were_changed(build, sizes):
    assert _num_wrong(build, sizes) == 0


@pytest.mark.parametrize("build", [_llava, _llava_next, _llava_onevision, _internvl])
def test_mirrored_boxes_are_noticed(build):
    assert _num_wrong(build, SAMPLES[0], mirrored=True) > 10
