"""LLaVA-NeXT at the size of the published checkpoints: pixels of each token, moved by the model's own packing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import LlavaNextConfig, LlavaNextImageProcessorPil, LlavaNextProcessor
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel

from rampipe.models import llava_next
from rampipe.models.vision import Vision
from tests.unit.models.coordinates import CLOSE_PX, SIZES, coordinate_image, largest_error, read_cells


@pytest.fixture(scope="module")
def vision():
    processor = LlavaNextImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    return Vision(LlavaNextConfig(), processor, {}, {}, "#")


def _pack(vision, tensors, sizes) -> list[torch.Tensor]:
    """(x, y, share of image) of every token as the model would order features of the tiles; a newline is -1."""
    cells = read_cells(vision.image_processor, tensors["pixel_values"], 14)
    counts = [llava_next.count_tiles(size, llava_next.tiling_of(vision.config)) for size in sizes]
    model = SimpleNamespace(config=vision.config)
    newline = torch.full((3,), -1.0, dtype=torch.float64)
    packed, _ = LlavaNextModel.pack_image_features(
        model, cells.split(counts), tensors["image_sizes"], "default", image_newline=newline
    )
    return packed


def test_boxes_are_where_the_pixels_came_from(vision):
    tensors = llava_next.process_images(vision, [coordinate_image(*size) for size in SIZES])
    boxes = llava_next.visual_boxes(vision, tensors, SIZES)
    for size, of_image, cells in zip(SIZES, boxes, _pack(vision, tensors, SIZES), strict=True):
        assert largest_error(of_image, cells) < CLOSE_PX, size
        is_newline = cells[:, 2] == -1
        assert bool(of_image[is_newline].isnan().all())
        assert bool(of_image[:576].isfinite().all())


def test_stitched_view_before_the_base_fails_the_oracle(vision):
    size = (230, 90)
    tensors = llava_next.process_images(vision, [coordinate_image(*size)])
    (boxes,) = llava_next.visual_boxes(vision, tensors, [size])
    (cells,) = _pack(vision, tensors, [size])
    assert largest_error(boxes.roll(-576, dims=0).nan_to_num(0), cells) > 20


def test_text_is_that_of_the_processor(vision):
    tensors = llava_next.process_images(vision, [coordinate_image(*size) for size in SIZES])
    processor = LlavaNextProcessor.__new__(LlavaNextProcessor)
    processor.image_processor, processor.image_token, processor.patch_size = vision.image_processor, "#", 14
    processor.vision_feature_select_strategy, processor.num_additional_image_tokens = "default", 1
    inputs = {"image_sizes": tensors["image_sizes"], "pixel_values": tensors["pixel_values"][None]}
    expected = [processor.replace_image_token(inputs, index) for index in range(len(SIZES))]
    assert llava_next.expand_placeholders(vision, tensors) == expected
