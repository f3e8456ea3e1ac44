"""Boxes of visual tokens against the pixels themselves: an image that holds its own coordinates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2VLConfig, Qwen2VLImageProcessorPil

from rampipe.models import qwen2_vl
from rampipe.models.vision import Vision

SIZES = [(112, 56), (56, 168), (255, 120), (90, 250), (200, 200), (30, 170)]
LIMITS = {"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 30}


def _vision(processor) -> Vision:
    return Vision(Qwen2VLConfig(), processor, settings={}, video_settings={}, image_token="#")


def _coordinate_image(width: int, height: int) -> Image.Image:
    """Red is x, green is y, in pixels."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x, y, np.full_like(x, 255)], axis=-1).astype(np.uint8))


def _read_centres(processor, tensors) -> list[torch.Tensor]:
    """(x, y) [visual, 2] of each merged token of each image, read back from what the model gets to see."""
    per_token = processor.merge_size**2
    shape = (3, processor.temporal_patch_size, processor.patch_size, processor.patch_size)
    pixels = tensors["pixel_values"].reshape(-1, *shape).mean(dim=(2, 3, 4))
    colours = (pixels * torch.tensor(processor.image_std) + torch.tensor(processor.image_mean)) * 255
    centres = colours[:, :2].reshape(-1, per_token, 2).mean(dim=1) + 0.5
    counts = (tensors["image_grid_thw"].prod(dim=1) // per_token).tolist()
    return list(centres.split(counts))


def _largest_error(boxes, centres) -> float:
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    return float((middle - centres).abs().max())


@pytest.mark.parametrize("merge_size", [1, 2, 4])
def test_boxes_are_where_the_pixels_came_from(merge_size):
    processor = Qwen2VLImageProcessorPil(size=LIMITS, merge_size=merge_size)
    images = [_coordinate_image(*size) for size in SIZES]
    tensors = qwen2_vl.process_images(_vision(processor), images)
    boxes = qwen2_vl.visual_boxes(_vision(processor), tensors, SIZES)
    texts = qwen2_vl.expand_placeholders(_vision(processor), tensors)
    for size, of_image, centres, text in zip(SIZES, boxes, _read_centres(processor, tensors), texts, strict=True):
        assert len(of_image) == len(centres) == len(text)
        assert _largest_error(of_image, centres) < 0.75, size
        assert of_image[-1, 2:].tolist() == pytest.approx(size)


def test_transposed_grid_fails_the_oracle():
    processor = Qwen2VLImageProcessorPil(size=LIMITS)
    size = (112, 56)
    tensors = qwen2_vl.process_images(_vision(processor), [_coordinate_image(*size)])
    transposed = {"image_grid_thw": tensors["image_grid_thw"][:, [0, 2, 1]]}
    (boxes,) = qwen2_vl.visual_boxes(_vision(processor), transposed, [size])
    assert _largest_error(boxes, _read_centres(processor, tensors)[0]) > 20


def test_patches_in_row_order_fail_the_oracle():
    """Merging matters: patch order without it is wrong for images of several rows."""
    merged, plain = Qwen2VLImageProcessorPil(size=LIMITS), Qwen2VLImageProcessorPil(size=LIMITS, merge_size=1)
    size = (112, 112)
    tensors = qwen2_vl.process_images(_vision(merged), [_coordinate_image(*size)])
    (boxes,) = qwen2_vl.visual_boxes(_vision(plain), tensors, [size])
    per_patch = _read_centres(plain, tensors)[0]
    assert _largest_error(boxes, per_patch) > 10


def test_real_documents_have_boxes_over_the_whole_page(real_data: Path):
    paths = sorted((real_data / "sroie" / "images").glob("*.jpg"))[:2]
    if not paths:
        pytest.skip(f"no images in {real_data}/sroie/images")
    processor = Qwen2VLImageProcessorPil()
    images = [Image.open(path).convert("RGB") for path in paths]
    tensors = qwen2_vl.process_images(_vision(processor), images)
    for image, boxes in zip(
        images, qwen2_vl.visual_boxes(_vision(processor), tensors, [i.size for i in images]), strict=True
    ):
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        assert float(areas.sum()) == pytest.approx(image.width * image.height)
