"""Gemma 3: the square view and its crops at the size of the published checkpoints, against the pixels of each token."""

from __future__ import annotations

import pytest
from transformers import Gemma3Config, Gemma3ImageProcessorPil
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor

from rampipe.models import gemma3
from rampipe.models.vision import Vision
from tests.unit.models.coordinates import SIZES, coordinate_image, largest_error, read_cells

CROPPED = {"images_kwargs": {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 16}}


@pytest.fixture(scope="module")
def vision():
    return _vision({})


def _vision(settings):
    processor = Gemma3ImageProcessorPil(size={"height": 896, "width": 896}, do_pan_and_scan=True)
    return Vision(Gemma3Config(), processor, settings, {}, "#")


def _encode(vision, sizes):
    tensors = gemma3.process_images(vision, [coordinate_image(*size) for size in sizes])
    return tensors, gemma3.visual_boxes(vision, tensors, sizes)


@pytest.mark.parametrize("settings", [{}, CROPPED])
def test_boxes_are_where_the_pixels_came_from(settings):
    vision = _vision(settings)
    tensors, boxes = _encode(vision, SIZES)
    assert bool(tensors["num_crops"].any()) == bool(settings)
    views = read_cells(vision.image_processor, tensors["pixel_values"], 56).split((tensors["num_crops"] + 1).tolist())
    for size, of_image, cells in zip(SIZES, boxes, views, strict=True):
        assert largest_error(of_image, cells.flatten(0, 1)) < 0.75, size


def test_transposed_boxes_fail_the_oracle(vision):
    size = (230, 90)
    tensors, (boxes,) = _encode(vision, [size])
    cells = read_cells(vision.image_processor, tensors["pixel_values"], 56).flatten(0, 1)
    assert largest_error(boxes.reshape(16, 16, 4).transpose(0, 1).reshape(-1, 4), cells) > 20


def test_crops_of_the_other_side_fail_the_oracle():
    vision, size = _vision(CROPPED), (230, 90)
    tensors, (boxes,) = _encode(vision, [size])
    cells = read_cells(vision.image_processor, tensors["pixel_values"], 56)
    assert len(cells) == 4
    assert largest_error(boxes, cells[[0, 3, 2, 1]].flatten(0, 1)) > 20


def test_the_last_crop_is_what_remains():
    assert gemma3.crop_regions((1000, 300), 3) == [(0, 0, 334, 300), (334, 0, 668, 300), (668, 0, 1000, 300)]
    assert gemma3.crop_regions((300, 501), 2) == [(0, 0, 300, 251), (0, 251, 300, 501)]
    assert gemma3.crop_regions((300, 300), 0) == []


@pytest.mark.parametrize("settings", [{}, CROPPED])
def test_text_is_that_of_the_processor(settings):
    vision = _vision(settings)
    tensors, _ = _encode(vision, SIZES)
    processor = Gemma3Processor.__new__(Gemma3Processor)
    processor.full_image_sequence = "\n\n<start_of_image>" + "#" * 256 + "<end_of_image>\n\n"
    expected = [processor.replace_image_token(tensors, index) for index in range(len(SIZES))]
    assert gemma3.expand_placeholders(vision, tensors) == expected


def test_the_image_processors_own_file_does_not_switch_crops_on(vision):
    """As in the family's processor, whose defaults come with every call."""
    assert vision.image_processor.do_pan_and_scan
    assert Gemma3Processor.images_kwargs == {"do_convert_rgb": True, **gemma3.PAN_AND_SCAN}
