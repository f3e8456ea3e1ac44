"""Gemma 4: the image keeps its aspect, up to a number of tokens; 3 x 3 patches make one token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from rampipe.models.family import ImageTensors
from rampipe.models.grid import grid_boxes
from rampipe.models.vision import Vision

MODEL_TYPES = ("gemma4",)
VIDEO = False
IMAGE_START = "<|image>"
IMAGE_END = "<image|>"


def image_token_id(model_config: Any) -> int:
    """Id of `<|image|>`."""
    return int(model_config.image_token_id)


def placeholder(vision: Vision) -> str:
    """The image token itself."""
    return vision.image_token


def process_images(vision: Vision, images: Sequence[Image.Image]) -> dict[str, Tensor]:
    """`pixel_values` [image, patch, values] and `image_position_ids` [image, patch, 2] of (column, row).

    Both are padded to the most patches that an image may have; positions of padding are -1.
    """
    features = vision.image_processor(images=list(images), return_tensors="pt")
    return {name: features[name] for name in ("pixel_values", "image_position_ids")}


def expand_placeholders(vision: Vision, tensors: ImageTensors) -> list[str]:
    """One image token for each square of pooled patches, between two marks."""
    return [
        f"{IMAGE_START}{vision.image_token * (rows * columns)}{IMAGE_END}" for rows, columns in _grids(vision, tensors)
    ]


def visual_boxes(vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]) -> list[Float[Tensor, "_ 4"]]:
    """Row by row. Both sides are resized to multiples of a token's, so that the aspect changes a little."""
    return [
        grid_boxes(rows, columns, size) for (rows, columns), size in zip(_grids(vision, tensors), sizes, strict=True)
    ]


def token_inputs(vision: Vision, input_ids: Int[Tensor, " token"]) -> dict[str, Tensor]:
    """`mm_token_type_ids`: 1 at image tokens. In larger checkpoints those of one image see each other both ways."""
    return {"mm_token_type_ids": (input_ids == image_token_id(vision.config)).to(torch.int64)}


def forward_inputs(model: Any, tensors: Sequence[ImageTensors], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Image tensors of the batch."""
    with_images = [entry for entry in tensors if entry]
    return {name: torch.cat([entry[name] for entry in with_images]) for name in (with_images or [{}])[0]}


def _grids(vision: Vision, tensors: ImageTensors) -> list[tuple[int, int]]:
    """(rows, columns) of tokens of each image."""
    pooled = int(vision.config.vision_config.pooling_kernel_size)
    last = tensors["image_position_ids"].amax(dim=1).tolist()
    return [((int(row) + 1) // pooled, (int(column) + 1) // pooled) for column, row in last]
