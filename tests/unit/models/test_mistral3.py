"""Mistral 3: rows of tokens at the size of the published checkpoints, against the pixels of each token."""

from __future__ import annotations

import pytest
import torch
from transformers import Mistral3Config
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

from rampipe.models import mistral3
from rampipe.models.vision import Vision
from tests.unit.models.coordinates import SIZES, coordinate_image, largest_error, read_cells


@pytest.fixture(scope="module")
def vision():
    processor = PixtralImageProcessorPil(size={"longest_edge": 1540}, patch_size={"height": 14, "width": 14})
    return Vision(Mistral3Config(), processor, {}, {}, "#")


def _encode(vision, sizes):
    tensors = mistral3.process_images(vision, [coordinate_image(*size) for size in sizes])
    return tensors, mistral3.visual_boxes(vision, tensors, sizes)


def _read_tokens(vision, tensors) -> list[torch.Tensor]:
    """(x, y, share of image) [token, 3] of each image, without the padding on its right and below."""
    images = zip(tensors["pixel_values"], tensors["image_sizes"].tolist(), strict=True)
    shown = [image[None, :, :height, :width] for image, (height, width) in images]
    return [read_cells(vision.image_processor, image, 28)[0] for image in shown]


def test_boxes_are_where_the_pixels_came_from(vision):
    tensors, boxes = _encode(vision, SIZES)
    for size, of_image, tokens in zip(SIZES, boxes, _read_tokens(vision, tensors), strict=True):
        assert largest_error(of_image, tokens) < 0.75, size
        assert of_image[-1, 2:].tolist() == pytest.approx(size)


def test_images_over_the_limit_are_shrunk_and_not_cut(vision):
    size = (2000, 250)
    _, (boxes,) = _encode(vision, [size])
    assert len(boxes) == 55 * 7
    assert boxes[-1, 2:].tolist() == pytest.approx(size)


def test_transposed_grid_fails_the_oracle(vision):
    size = (230, 90)
    tensors, _ = _encode(vision, [size])
    (boxes,) = mistral3.visual_boxes(vision, {"image_sizes": tensors["image_sizes"].flip(1)}, [size])
    assert largest_error(boxes, _read_tokens(vision, tensors)[0]) > 20


def test_every_row_is_closed_and_the_last_one_ends_the_image(vision):
    """The rule of the installed source, whose module does not import without torchvision."""
    tensors, _ = _encode(vision, [(84, 50), (28, 28)])
    assert mistral3.expand_placeholders(vision, tensors) == ["###[IMG_BREAK]###[IMG_END]", "#[IMG_END]"]
    named = Vision(vision.config, vision.image_processor, {"image_break_token": "|"}, {}, "#")
    assert mistral3.expand_placeholders(named, tensors)[0] == "###|###[IMG_END]"


def test_images_of_a_batch_are_padded_to_the_largest(vision):
    wide, tall = (mistral3.process_images(vision, [coordinate_image(*size)]) for size in ((230, 90), (60, 250)))
    inputs = mistral3.forward_inputs(None, [wide, {}, tall], {})
    assert tuple(inputs["pixel_values"].shape) == (2, 3, 252, 252)
    assert inputs["image_sizes"].tolist() == [[112, 252], [252, 84]]
    assert torch.equal(inputs["pixel_values"][1, :, :, :84], tall["pixel_values"][0])
    assert mistral3.forward_inputs(None, [{}, {}], {}) == {}
