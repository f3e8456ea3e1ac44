"""LLaVA-OneVision at the size of the published checkpoints: any resolution, shrunken, and padded squares."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import LlavaOnevisionConfig, LlavaOnevisionImageProcessorPil, LlavaOnevisionProcessor
from transformers.image_utils import PILImageResampling
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

from rampipe.models import llava_onevision as family
from rampipe.models.vision import Vision
from tests.unit.models.coordinates import (
    CLOSE_PX,
    SIZES,
    coordinate_image,
    largest_error,
    mean_blue,
    read_cells,
)


def _vision(max_tiles: int) -> Vision:
    """The real sizes, but fewer tiles before the view is shrunk: test images are small."""
    pinpoints = [[rows * 384, columns * 384] for rows in range(1, 4) for columns in range(1, 4)]
    config = LlavaOnevisionConfig(image_grid_pinpoints=pinpoints, vision_aspect_ratio=f"anyres_max_{max_tiles}")
    processor = LlavaOnevisionImageProcessorPil(image_grid_pinpoints=pinpoints)
    return Vision(config, processor, {}, {}, "#", "@")


def _processor(vision: Vision) -> LlavaOnevisionProcessor:
    processor = LlavaOnevisionProcessor.__new__(LlavaOnevisionProcessor)
    processor.image_processor, processor.image_token, processor.num_image_tokens = vision.image_processor, "#", 729
    processor.vision_feature_select_strategy = "full"
    processor.vision_aspect_ratio = vision.config.vision_aspect_ratio
    return processor


def _pack(vision, tensors, *, padding: float = 0.0) -> list[torch.Tensor]:
    """(x, y, share of image) of every token as the model would order features of the tiles; a newline is -1."""
    cells = read_cells(vision.image_processor, tensors["pixel_values"], 14, padding=padding)
    num_images = len(tensors["image_sizes"])
    model = SimpleNamespace(config=vision.config)
    packed, _ = LlavaOnevisionModel.pack_image_features(
        model,
        cells.split([len(cells)] if num_images == 1 else [1] * num_images),
        tensors["image_sizes"],
        image_newline=torch.full((3,), -1.0, dtype=torch.float64),
        vision_aspect_ratio=vision.config.vision_aspect_ratio,
    )
    return packed


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("max_tiles", [9, 4])
def test_one_image_in_any_resolution(size, max_tiles):
    vision = _vision(max_tiles)
    tensors = family.process_images(vision, [coordinate_image(*size)])
    (boxes,) = family.visual_boxes(vision, tensors, [size])
    (cells,) = _pack(vision, tensors)
    reach = 28 * max(size) / 384
    assert largest_error(boxes, cells) < (CLOSE_PX if max_tiles == 9 else reach)
    assert bool(boxes[cells[:, 2] == -1].isnan().all())
    inputs = {**tensors, "pixel_values": tensors["pixel_values"][None], "batch_num_images": [1]}
    assert family.expand_placeholders(vision, tensors) == [_processor(vision).replace_image_token(inputs, 0)]


def test_several_images_as_padded_squares():
    vision = _vision(9)
    vision.image_processor.resample = PILImageResampling.NEAREST  # others mix the image with the colour around it
    tensors = family.process_images(vision, [coordinate_image(*size) for size in SIZES])
    boxes = family.visual_boxes(vision, tensors, SIZES)
    for of_image, cells in zip(boxes, _pack(vision, tensors, padding=mean_blue(vision.image_processor)), strict=True):
        assert largest_error(of_image, cells) < CLOSE_PX
        assert bool(of_image[-1].isnan().all())
    inputs = {**tensors, "batch_num_images": [len(SIZES)]}
    processor = _processor(vision)
    expected = [processor.replace_image_token(inputs, index) for index in range(len(SIZES))]
    assert family.expand_placeholders(vision, tensors) == expected


def test_tiling_several_images_fails_the_oracle():
    vision = _vision(9)
    sizes = [(230, 90), (60, 250)]
    tensors = family.process_images(vision, [coordinate_image(*size) for size in sizes])
    (tiled,) = family.visual_boxes(vision, tensors, sizes[:1])
    assert len(tiled) != len(_pack(vision, tensors)[0])


@pytest.mark.parametrize("size", SIZES)
def test_frames_of_a_video_are_pooled(size):
    """Cells of the tower, pooled by the model's own function."""
    vision = _vision(9)
    tensors = family.process_videos(vision, [[coordinate_image(*size)] * 2] * 2)
    places = family.video_boxes(vision, tensors, [size] * 2)
    cells = read_cells(vision.image_processor, tensors["pixel_values_videos"][0], 14)
    pooled = LlavaOnevisionModel.apply_pooling(SimpleNamespace(config=vision.config), cells)
    assert pooled.shape[1] == 14**2
    for boxes, frames in places:
        assert largest_error(boxes[:-1], pooled.flatten(0, 1)) < 14 * max(size) / 384
        assert largest_error(boxes[:-1].flip(0), pooled.flatten(0, 1)) > max(size) / 2
        assert bool(boxes[-1].isnan().all())
        assert frames.flatten().tolist() == [0] * 196 + [1] * 196 + [-1]


def test_text_of_videos_is_that_of_the_processor():
    vision = _vision(9)
    tensors = family.process_videos(vision, [[coordinate_image(30, 20)] * 3])
    processor = _processor(vision)
    processor.video_token = "@"
    assert family.expand_videos(vision, tensors) == [processor.replace_video_token(tensors, 0)]


def test_videos_of_several_lengths_are_refused():
    vision = _vision(9)
    frame = coordinate_image(30, 20)
    with pytest.raises(ValueError, match="1 and 2 frames"):
        family.process_videos(vision, [[frame], [frame, frame]])
    one, two = (family.process_videos(vision, [[frame] * count]) for count in (1, 2))
    with pytest.raises(RuntimeError, match="Sizes of tensors"):
        family.forward_inputs(None, [one, two], {})
    joined = family.forward_inputs(None, [one, {}, one], {})
    assert joined["pixel_values_videos"].shape == (2, 1, 3, 384, 384)
