"""InternVL: tiles and thumbnail at the size of the published checkpoints, against the pixels of each token."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import GotOcr2ImageProcessorPil, InternVLConfig
from transformers.models.internvl.processing_internvl import InternVLProcessor

from rampipe.errors import SampleError
from rampipe.models import internvl
from rampipe.models.vision import Vision
from tests.unit.models.coordinates import CLOSE_PX, SIZES, coordinate_image, largest_error, read_cells


@pytest.fixture(scope="module")
def vision():
    processor = GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}, min_patches=1, max_patches=4)
    return Vision(InternVLConfig(), processor, {}, {}, "#")


def _encode(vision, sizes):
    tensors = internvl.process_images(vision, [coordinate_image(*size) for size in sizes])
    return tensors, internvl.visual_boxes(vision, tensors, sizes)


def test_boxes_are_where_the_pixels_came_from(vision):
    tensors, boxes = _encode(vision, SIZES)
    views = read_cells(vision.image_processor, tensors["pixel_values"], 28).split(tensors["num_patches"].tolist())
    for size, of_image, cells in zip(SIZES, boxes, views, strict=True):
        assert largest_error(of_image, cells.flatten(0, 1)) < CLOSE_PX, size


def test_tiles_in_another_order_fail_the_oracle(vision):
    size = (230, 90)
    tensors, (boxes,) = _encode(vision, [size])
    cells = read_cells(vision.image_processor, tensors["pixel_values"], 28)
    assert len(cells) > 2
    assert largest_error(boxes, cells.flip(0).flatten(0, 1)) > 20


def test_text_is_that_of_the_processor(vision):
    """The rule of the installed source, which cannot be built whole without torchvision."""
    tensors, _ = _encode(vision, SIZES)
    processor = InternVLProcessor.__new__(InternVLProcessor)
    processor.image_token, processor.image_seq_length = "#", 256
    processor.start_image_token, processor.end_image_token = "<img>", "</img>"
    counts = {"num_patches": tensors["num_patches"].tolist()}
    expected = [processor.replace_image_token(counts, index) for index in range(len(SIZES))]
    assert internvl.expand_placeholders(vision, tensors) == expected


def test_small_square_has_one_tile_and_no_thumbnail():
    processor = GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}, min_patches=1, max_patches=1)
    vision = Vision(InternVLConfig(), processor, {}, {}, "#")
    tensors, (boxes,) = _encode(vision, [(90, 60)])
    assert tensors["num_patches"].tolist() == [1]
    assert len(boxes) == 256
    assert boxes[-1, 2:].tolist() == [90, 60]


def _encode_video(vision, size, num_frames):
    """A video of equal frames, and one of a single other frame."""
    frames = [coordinate_image(*size)] * num_frames
    tensors = internvl.process_videos(vision, [frames, [coordinate_image(30, 30)]])
    return tensors, internvl.video_boxes(vision, tensors, [size, (30, 30)])


def test_frames_of_videos_are_one_tile_each(vision):
    size = (60, 250)
    tensors, ((boxes, frames), (_, of_second)) = _encode_video(vision, size, 3)
    cells = read_cells(vision.image_processor, tensors["pixel_values_videos"], 28)
    assert largest_error(boxes, cells[:3].flatten(0, 1)) < CLOSE_PX
    assert frames.flatten().tolist() == [0] * 256 + [1] * 256 + [2] * 256
    assert of_second.flatten().tolist() == [0] * 256
    assert largest_error(boxes[:, [1, 0, 3, 2]], cells[:3].flatten(0, 1)) > 20


def test_text_of_videos_is_that_of_the_processor(vision):
    tensors, _ = _encode_video(vision, (60, 250), 3)
    processor = InternVLProcessor.__new__(InternVLProcessor)
    processor.image_token, processor.image_seq_length = "#", 256
    processor.start_image_token, processor.end_image_token = "<img>", "</img>"
    stacked = {"pixel_values_videos": tensors["pixel_values_videos"].split([3, 1])}
    expected = [processor.replace_video_token(stacked, index) for index in range(2)]
    assert internvl.expand_videos(vision, tensors) == expected


def test_images_and_frames_keep_the_order_of_the_prompt():
    config = InternVLConfig(image_token_id=7, vision_config={"image_size": [8, 8], "patch_size": [4, 4]})
    model = SimpleNamespace(config=config)
    images = {"pixel_values": torch.tensor([0.0, 1, 2, 3, 4]), "num_patches": torch.tensor([3, 2])}
    videos = {"pixel_values_videos": torch.tensor([10.0, 11]), "num_frames": torch.tensor([2])}
    runs = [3, 1, 1, 2]
    ids = torch.tensor([0] + [token for length in runs for token in [7] * length + [1, 2]])
    inputs = internvl.forward_inputs(model, [{**images, **videos}, {}, images], {"input_ids": torch.stack([ids] * 3)})
    assert inputs["pixel_values"].tolist() == [0, 1, 2, 10, 11, 3, 4, 0, 1, 2, 3, 4]
    single = {**images, "num_patches": torch.tensor([4, 1])}
    with pytest.raises(SampleError, match="one tile"):
        internvl.forward_inputs(model, [{**single, **videos}], {"input_ids": ids[None]})
    assert internvl.forward_inputs(model, [{}], {"input_ids": ids[None]}) == {}
