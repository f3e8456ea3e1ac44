"""Gemma 4: pooled patches at the size of the published checkpoints, against the pixels of each token."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma4Config, Gemma4ImageProcessorPil
from transformers.models.gemma4.processing_gemma4 import Gemma4Processor

from rampipe.models import gemma4
from rampipe.models.vision import Vision
from tests.unit.models.coordinates import SIZES, coordinate_image, largest_error


@pytest.fixture(scope="module")
def vision():
    return Vision(Gemma4Config(vision_config={}), Gemma4ImageProcessorPil(), {}, {}, "#")


def _encode(vision, sizes):
    tensors = gemma4.process_images(vision, [coordinate_image(*size) for size in sizes])
    return tensors, gemma4.visual_boxes(vision, tensors, sizes)


def _read_tokens(tensors) -> list[torch.Tensor]:
    """(x, y, 1) [token, 3] of each image: patches go to tokens by the positions that come with them."""
    tokens: list[torch.Tensor] = []
    for pixels, positions in zip(tensors["pixel_values"], tensors["image_position_ids"], strict=True):
        is_patch = positions[:, 0] >= 0
        colours = pixels[is_patch].double().reshape(-1, 16 * 16, 3).mean(dim=1)
        column, row = (positions[is_patch] // 3).unbind(dim=1)
        index = row * (int(column.max()) + 1) + column
        sums = torch.zeros(int(index.max()) + 1, 3, dtype=torch.float64).index_add(0, index, colours / 9)
        sums[:, :2] = sums[:, :2] * 255 + 0.5
        tokens.append(sums)
    return tokens


def test_boxes_are_where_the_pixels_came_from(vision):
    tensors, boxes = _encode(vision, SIZES)
    for size, of_image, tokens in zip(SIZES, boxes, _read_tokens(tensors), strict=True):
        assert 140 < len(of_image) <= 280
        assert largest_error(of_image, tokens) < 0.75, size
        assert of_image[-1, 2:].tolist() == pytest.approx(size)


def test_transposed_grid_fails_the_oracle(vision):
    size = (230, 90)
    tensors, _ = _encode(vision, [size])
    (boxes,) = gemma4.visual_boxes(vision, {"image_position_ids": tensors["image_position_ids"].flip(2)}, [size])
    assert largest_error(boxes, _read_tokens(tensors)[0]) > 20


def test_text_is_that_of_the_processor(vision):
    images = [coordinate_image(*size) for size in SIZES]
    counts = vision.image_processor(images=images, return_tensors="pt")
    processor = Gemma4Processor.__new__(Gemma4Processor)
    processor.boi_token, processor.image_token, processor.eoi_token = "<|image>", "#", "<image|>"
    expected = [processor.replace_image_token(counts, index) for index in range(len(images))]
    assert gemma4.expand_placeholders(vision, gemma4.process_images(vision, images)) == expected
