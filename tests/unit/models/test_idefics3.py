"""Idefics3: tiles at the size of the published checkpoints, against the pixels of each token."""

from __future__ import annotations

from transformers import Idefics3Config, Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

from rampipe.models import idefics3
from rampipe.models.vision import Vision
from tests.unit.models.coordinates import SIZES, coordinate_image, largest_error, read_cells

TILE = {"image_size": 364, "patch_size": 14}


def _idefics3(**settings):
    processor = Idefics3ImageProcessorPil(size={"longest_edge": 3 * 364}, max_image_size={"longest_edge": 364})
    for name, value in settings.items():
        setattr(processor, name, value)
    return Vision(Idefics3Config(vision_config=TILE), processor, {}, {}, "#")


def _encode(vision, sizes):
    tensors = idefics3.process_images(vision, [coordinate_image(*size) for size in sizes])
    return tensors, idefics3.visual_boxes(vision, tensors, sizes)


def _num_tiles(tensors) -> list[int]:
    return (tensors["rows"] * tensors["cols"] + 1).tolist()


def test_boxes_are_where_the_pixels_came_from():
    vision = _idefics3()
    tensors, boxes = _encode(vision, SIZES)
    views = read_cells(vision.image_processor, tensors["pixel_values"][0], 28).split(_num_tiles(tensors))
    for size, of_image, cells in zip(SIZES, boxes, views, strict=True):
        assert largest_error(of_image, cells.flatten(0, 1)) < 0.75, size


def test_tiles_in_another_order_fail_the_oracle():
    vision, size = _idefics3(), (230, 90)
    tensors, (boxes,) = _encode(vision, [size])
    cells = read_cells(vision.image_processor, tensors["pixel_values"][0], 28)
    assert len(cells) == 7
    assert largest_error(boxes, cells.flip(0).flatten(0, 1)) > 20


def test_an_image_that_is_not_split_is_shown_once():
    vision = _idefics3(do_image_splitting=False)
    tensors, (boxes,) = _encode(vision, [(230, 90)])
    assert tensors["rows"].tolist() == [0]
    assert len(boxes) == 169
    assert boxes[-1, 2:].tolist() == [230, 90]
    assert idefics3.expand_placeholders(vision, tensors) == [
        "<fake_token_around_image><global-img>" + "#" * 169 + "<fake_token_around_image>"
    ]


def test_text_is_that_of_the_processor():
    vision = _idefics3()
    tensors, _ = _encode(vision, SIZES)
    processor = Idefics3Processor.__new__(Idefics3Processor)
    processor.image_token, processor.image_seq_len = "#", 169
    processor.fake_image_token, processor.global_image_tag = "<fake_token_around_image>", "<global-img>"
    grids = {"rows": [tensors["rows"].tolist()], "cols": [tensors["cols"].tolist()]}
    expected = [processor.replace_image_token(grids, index) for index in range(len(SIZES))]
    assert idefics3.expand_placeholders(vision, tensors) == expected
