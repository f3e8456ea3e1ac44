"""GLM-4V: merged patches at the size of the published checkpoints, against the pixels of each token."""

from __future__ import annotations

import pytest
import torch
from transformers import Glm4vConfig, Glm4vImageProcessorPil
from transformers.models.glm4v.processing_glm4v import Glm4vProcessor

from rampipe.models import glm4v
from rampipe.models.vision import Vision
from tests.unit.models.coordinates import SIZES, coordinate_image, largest_error


@pytest.fixture(scope="module")
def vision():
    return Vision(Glm4vConfig(), Glm4vImageProcessorPil(), {}, {}, "#")


def _encode(vision, sizes):
    tensors = glm4v.process_images(vision, [coordinate_image(*size) for size in sizes])
    return tensors, glm4v.visual_boxes(vision, tensors, sizes)


def _read_tokens(processor, tensors) -> list[torch.Tensor]:
    """(x, y, 1) [token, 3] of each image: four neighbouring rows of `pixel_values` are one token."""
    pixels = tensors["pixel_values"].double().reshape(-1, 4, 3, 2, 14 * 14).mean(dim=(1, 3, 4))
    colours = pixels * torch.tensor(processor.image_std) + torch.tensor(processor.image_mean)
    colours[:, :2] = colours[:, :2] * 255 + 0.5
    return list(colours.split((tensors["image_grid_thw"].prod(dim=1) // 4).tolist()))


def test_boxes_are_where_the_pixels_came_from(vision):
    tensors, boxes = _encode(vision, SIZES)
    for size, of_image, tokens in zip(SIZES, boxes, _read_tokens(vision.image_processor, tensors), strict=True):
        assert largest_error(of_image, tokens) < 0.75, size
        assert of_image[-1, 2:].tolist() == pytest.approx(size)


def test_transposed_grid_fails_the_oracle(vision):
    size = (230, 90)
    tensors, _ = _encode(vision, [size])
    turned = {"image_grid_thw": tensors["image_grid_thw"][:, [0, 2, 1]]}
    (boxes,) = glm4v.visual_boxes(vision, turned, [size])
    assert largest_error(boxes, _read_tokens(vision.image_processor, tensors)[0]) > 20


def test_text_is_that_of_the_processor(vision):
    tensors, _ = _encode(vision, SIZES)
    processor = Glm4vProcessor.__new__(Glm4vProcessor)
    processor.image_token, processor.image_processor = "#", vision.image_processor
    expected = [processor.replace_image_token(tensors, index) for index in range(len(SIZES))]
    assert glm4v.expand_placeholders(vision, tensors) == expected
