"""LLaVA 1.5 at the size of the published checkpoints: what the centre crop keeps, and what it loses."""

from __future__ import annotations

import pytest
import torch
from transformers import LlavaConfig, LlavaImageProcessorPil, LlavaProcessor
from transformers.image_utils import PILImageResampling

from rampipe.errors import ModelError
from rampipe.models import llava
from rampipe.models.vision import Vision
from tests.unit.models.coordinates import (
    CLOSE_PX,
    SIZES,
    coordinate_image,
    largest_error,
    mean_blue,
    read_cells,
)

SQUARE = {"height": 336, "width": 336}
NEAREST = {"resample": PILImageResampling.NEAREST}
"""Other filters mix the image with the colour around it."""


def _vision(config: LlavaConfig | None = None, **options) -> Vision:
    processor = LlavaImageProcessorPil(**{"size": {"shortest_edge": 336}, "crop_size": SQUARE, **options})
    return Vision(config or LlavaConfig(), processor, {}, {}, "#")


def _encode(vision, sizes):
    tensors = llava.process_images(vision, [coordinate_image(*size) for size in sizes])
    return tensors, llava.visual_boxes(vision, tensors, sizes)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_pad": True, **NEAREST},
        {"size": SQUARE},
        {"size": {"shortest_edge": 300}},
        {"size": {"shortest_edge": 500}},
        {"size": {"shortest_edge": 301}, "do_pad": True, **NEAREST},
    ],
)
def test_boxes_are_where_the_pixels_came_from(options):
    vision = _vision(**options)
    tensors, boxes = _encode(vision, SIZES)
    padding = mean_blue(vision.image_processor) if options.get("do_pad") else 0.0
    squares = read_cells(vision.image_processor, tensors["pixel_values"], 14, padding=padding)
    for size, of_image, cells in zip(SIZES, boxes, squares, strict=True):
        assert largest_error(of_image, cells) < CLOSE_PX, size


def test_transposed_boxes_fail_the_oracle():
    vision = _vision()
    tensors, (boxes,) = _encode(vision, [(230, 90)])
    (cells,) = read_cells(vision.image_processor, tensors["pixel_values"], 14)
    assert largest_error(boxes[:, [1, 0, 3, 2]], cells) > 20


def test_what_the_crop_cuts_off_has_no_token():
    _, (boxes,) = _encode(_vision(), [(250, 50)])
    assert boxes[:, 0].min().item() == pytest.approx(100)
    assert boxes[:, 2].max().item() == pytest.approx(150)
    _, (padded,) = _encode(_vision(do_pad=True), [(250, 50)])
    assert padded[:, 2].nan_to_num(0).max().item() == 250
    assert padded.isnan().any(dim=1).sum() > 24 * 24 / 2


@pytest.mark.parametrize(("strategy", "additional"), [("default", 1), ("full", 1)])
def test_text_is_that_of_the_processor(strategy, additional):
    vision = _vision(LlavaConfig(vision_feature_select_strategy=strategy))
    tensors, boxes = _encode(vision, SIZES)
    processor = LlavaProcessor.__new__(LlavaProcessor)
    processor.image_token, processor.patch_size = "#", 14
    processor.vision_feature_select_strategy, processor.num_additional_image_tokens = strategy, additional
    expected = [processor.replace_image_token(tensors, index) for index in range(len(SIZES))]
    assert llava.expand_placeholders(vision, tensors) == expected
    assert [len(of_image) for of_image in boxes] == [len(text) for text in expected]
    assert bool(boxes[0][0].isnan().all()) == (strategy == "full")


def test_other_towers_and_rules_are_refused():
    with pytest.raises(ModelError, match="siglip2"):
        llava.image_token_id(LlavaConfig(vision_config={"model_type": "siglip2_vision_model"}))
    assert llava.image_token_id(LlavaConfig(vision_config={"model_type": "siglip_vision_model"})) == 32000
    vision = _vision(size={"longest_edge": 336, "shortest_edge": 300})
    with pytest.raises(ModelError, match="longest_edge"):
        llava.visual_boxes(vision, {"pixel_values": torch.zeros(1, 3, 336, 336)}, [(4, 4)])
