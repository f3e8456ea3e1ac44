"""Gemma 3: the image is distorted to a square of 256 tokens; long ones may be shown again in two to four crops."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from rampipe.models.family import ImageTensors
from rampipe.models.grid import grid_boxes
from rampipe.models.vision import Vision

MODEL_TYPES = ("gemma3",)
VIDEO = False
IMAGE_START = "<start_of_image>"
IMAGE_END = "<end_of_image>"
PAN_AND_SCAN = {
    "do_pan_and_scan": False,
    "pan_and_scan_min_crop_size": 256,
    "pan_and_scan_max_num_crops": 4,
    "pan_and_scan_min_ratio_to_activate": 1.2,
}
"""What the family's processor passes with every call: it overrules preprocessor_config.json, which holds nulls."""


def image_token_id(model_config: Any) -> int:
    """Id of `<image_soft_token>`."""
    return int(model_config.image_token_id)


def placeholder(vision: Vision) -> str:
    """`<start_of_image>`: the template knows nothing of the image tokens."""
    return IMAGE_START


def process_images(vision: Vision, images: Sequence[Image.Image]) -> dict[str, Tensor]:
    """`pixel_values` [view, channel, side, side], each image before its crops, and `num_crops` [image]."""
    options = {**PAN_AND_SCAN, **vision.settings.get("images_kwargs", {})}
    features = vision.image_processor(images=list(images), return_tensors="pt", **options)
    return {"pixel_values": features["pixel_values"], "num_crops": torch.as_tensor(features["num_crops"])}


def expand_placeholders(vision: Vision, tensors: ImageTensors) -> list[str]:
    """A view is a paragraph of its own; words of the family's processor introduce the crops."""
    view = f"\n\n{IMAGE_START}{vision.image_token * _side(vision) ** 2}{IMAGE_END}\n\n"
    lead = f"Here is the original image {view} and here are some crops to help you see better "
    return [lead + " ".join([view] * count) if count else view for count in tensors["num_crops"].tolist()]


def visual_boxes(vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]) -> list[Float[Tensor, "_ 4"]]:
    """Row by row within each view: of the whole image first, then of its crops."""
    side = _side(vision)
    boxes: list[Float[Tensor, "_ 4"]] = []
    for size, num_crops in zip(sizes, tensors["num_crops"].tolist(), strict=True):
        regions = [None, *crop_regions(size, num_crops)]
        boxes.append(torch.cat([grid_boxes(side, side, size, region=region) for region in regions]))
    return boxes


def crop_regions(size: tuple[int, int], num_crops: int) -> list[tuple[float, float, float, float]]:
    """(x0, y0, x1, y1) of the crops: equal parts of the longer side, the last one a little shorter."""
    width, height = map(float, size)
    longer = max(width, height)
    step = float(math.ceil(longer / max(num_crops, 1)))
    edges = [(index * step, min((index + 1) * step, longer)) for index in range(num_crops)]
    return [(start, 0.0, stop, height) if width >= height else (0.0, start, width, stop) for start, stop in edges]


def token_inputs(vision: Vision, input_ids: Int[Tensor, " token"]) -> dict[str, Tensor]:
    """`token_type_ids`: 1 at image tokens, which see all of their own view. Without it they see only what is before."""
    return {"token_type_ids": (input_ids == image_token_id(vision.config)).to(torch.int64)}


def forward_inputs(model: Any, tensors: Sequence[ImageTensors], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Views of the batch, in the order of its tokens."""
    views = [entry["pixel_values"] for entry in tensors if entry]
    return {"pixel_values": torch.cat(views)} if views else {}


def _side(vision: Vision) -> int:
    """Tokens along one side of a view."""
    return math.isqrt(int(vision.config.mm_tokens_per_image))
