"""Patches, merges and views of the published checkpoints: exactly the tokens whose boxes meet a changed part change.

The models are narrow and random, their towers local, and images are resized without a filter, so nothing bleeds.
"""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4ImageProcessorPil,
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vImageProcessorPil,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
)
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

from rampipe.models import gemma3, gemma4, glm4v, idefics3, mistral3, smolvlm
from rampipe.models.tokens import overlap_frac
from rampipe.models.vision import Vision
from tests.families.checks import without_tower_attention

WIDTHS = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {**WIDTHS, "vocab_size": 8, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
SAMPLES = [[(640, 480)], [(210, 700)], [(300, 200), (200, 310)]]
CROPS = {"images_kwargs": {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 64}}


def _glm4v() -> tuple[Any, ...]:
    tower = {"depth": 1, "hidden_size": 16, "num_heads": 2, "out_hidden_size": 16, "intermediate_size": 16}
    config = Glm4vConfig(text_config={**TEXT, "rope_parameters": None}, vision_config=tower)
    return glm4v, Glm4vForConditionalGeneration(config), Glm4vImageProcessorPil(resample=0), {}


def _mistral3() -> tuple[Any, ...]:
    tower = {"model_type": "pixtral", **WIDTHS, "head_dim": 8, "patch_size": 14, "image_size": 1540}
    config = Mistral3Config(text_config={"model_type": "mistral", **TEXT}, vision_config=tower)
    processor = PixtralImageProcessorPil(size={"longest_edge": 1540}, resample=0)
    return mistral3, Mistral3ForConditionalGeneration(config), processor, {}


def _gemma3() -> tuple[Any, ...]:
    tower = {"model_type": "siglip_vision_model", **WIDTHS, "patch_size": 14, "image_size": 896}
    model = Gemma3ForConditionalGeneration(Gemma3Config(text_config=TEXT, vision_config=tower))
    model.model.multi_modal_projector.mm_input_projection_weight.data.normal_()
    return gemma3, model, Gemma3ImageProcessorPil(size={"height": 896, "width": 896}, resample=0), {}


def _gemma3_crops() -> tuple[Any, ...]:
    return (*_gemma3()[:3], CROPS)


def _gemma4() -> tuple[Any, ...]:
    text = {**TEXT, "vocab_size_per_layer_input": 8, "hidden_size_per_layer_input": 0}
    tower = {**WIDTHS, "num_key_value_heads": 2, "head_dim": 8}
    model = Gemma4ForConditionalGeneration(Gemma4Config(text_config=text, vision_config=tower, audio_config=None))
    return gemma4, model, Gemma4ImageProcessorPil(resample=0), {}


def _idefics3() -> tuple[Any, ...]:
    config = Idefics3Config(text_config=TEXT, vision_config={**WIDTHS, "patch_size": 14, "image_size": 364})
    size = {"size": {"longest_edge": 4 * 364}, "max_image_size": {"longest_edge": 364}}
    return idefics3, Idefics3ForConditionalGeneration(config), Idefics3ImageProcessorPil(**size, resample=0), {}


def _smolvlm() -> tuple[Any, ...]:
    tower = {**WIDTHS, "patch_size": 16, "image_size": 512}
    config = SmolVLMConfig(text_config=TEXT, vision_config=tower, scale_factor=4)
    size = {"size": {"longest_edge": 1024}, "max_image_size": {"longest_edge": 512}}  # 2048 when published
    return smolvlm, SmolVLMForConditionalGeneration(config), SmolVLMImageProcessorPil(**size, resample=0), {}


def _features(family: Any, model: Any, vision: Vision, images: list[np.ndarray]) -> tuple[Any, torch.Tensor]:
    tensors = family.process_images(vision, [Image.fromarray(image) for image in images])
    wanted = inspect.signature(model.model.get_image_features).parameters
    with torch.no_grad(), without_tower_attention(SimpleNamespace(model=model)) as hushed:
        output = model.model.get_image_features(**{name: tensors[name] for name in tensors if name in wanted})
    assert hushed
    features = output.pooler_output
    return tensors, torch.cat([of_image.reshape(-1, of_image.shape[-1]) for of_image in features])


def _num_wrong(build: Any, sizes: list[tuple[int, int]], *, mirrored: bool = False) -> int:
    """Tokens that changed and should not, or should and did not, over three parts of each image."""
    torch.manual_seed(0)
    family, model, processor, settings = build()
    vision = Vision(model.config, processor, settings, {}, "#")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 128, (height, width, 3), dtype=np.uint8) for width, height in sizes]
    tensors, before = _features(family, model.eval(), vision, images)
    boxes = family.visual_boxes(vision, tensors, sizes)
    if mirrored:
        for (_, height), of_image in zip(sizes, boxes, strict=True):
            of_image[:, [1, 3]] = height - of_image[:, [3, 1]]
    num_wrong = 0
    for index, (width, height) in enumerate(sizes):
        for column, row in ((0, 0), (3, 2), (6, 4)):
            left, top = width * column // 7, height * row // 5
            right, bottom = width * (column + 1) // 7, height * (row + 1) // 5
            changed = [image.copy() for image in images]
            changed[index][top:bottom, left:right] += 127
            _, after = _features(family, model, vision, changed)
            is_changed = (after - before).abs().amax(dim=1) > 1e-6
            part = (float(left), float(top), float(right), float(bottom))
            of_images = [overlap_frac(box.numpy(), part) * (other == index) for other, box in enumerate(boxes)]
            shares = torch.from_numpy(np.concatenate(of_images))
            # A share too small to hold the middle of a pixel of the resized image changes nothing.
            num_wrong += int((is_changed & (shares == 0)).sum() + (~is_changed & (shares > 0.1)).sum())
    return num_wrong


BUILDS = [_glm4v, _mistral3, _gemma3, _gemma3_crops, _gemma4, _idefics3, _smolvlm]


@pytest.mark.parametrize("sizes", SAMPLES, ids=str)
@pytest.mark.parametrize("build", BUILDS)
def test_tokens_that_change_are_those_whose_boxes_were_changed(build, sizes):
    assert _num_wrong(build, sizes) == 0


@pytest.mark.parametrize("build", BUILDS)
def test_mirrored_boxes_are_noticed(build):
    assert _num_wrong(build, SAMPLES[0], mirrored=True) > 10
