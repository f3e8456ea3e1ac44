"""Mistral Small 3.1 and later: Pixtral's tower, 2 x 2 patches to a token, every row of tokens closed by a mark.

Pixtral 12B too, published as LLaVA with this tower: a token of it is one patch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from rampipe.models.family import ImageTensors
from rampipe.models.grid import grid_boxes
from rampipe.models.vision import Vision

MODEL_TYPES = ("mistral3", "llava+pixtral")
VIDEO = False
ROW_END = "[IMG_BREAK]"
IMAGE_END = "[IMG_END]"


def image_token_id(model_config: Any) -> int:
    """Id of `[IMG]`. The marks at row ends have ids of their own: they are text."""
    return int(model_config.image_token_id)


def placeholder(vision: Vision) -> str:
    """The image token itself."""
    return vision.image_token


def process_images(vision: Vision, images: Sequence[Image.Image]) -> dict[str, Tensor]:
    """`pixel_values` [image, channel, height, width], padded on the right and below, and `image_sizes` [image, 2].

    Sizes are (height, width) without padding. Both sides are resized to multiples of a token's side, not of a patch's.
    """
    features = vision.image_processor(images=list(images), patch_size=_token_px(vision.config), return_tensors="pt")
    return {"pixel_values": features["pixel_values"], "image_sizes": torch.as_tensor(features["image_sizes"])}


def expand_placeholders(vision: Vision, tensors: ImageTensors) -> list[str]:
    """Rows of image tokens with a mark behind each; the last one says that the image ends."""
    row_end = str(vision.settings.get("image_break_token", ROW_END))
    image_end = str(vision.settings.get("image_end_token", IMAGE_END))
    grids = _grids(vision, tensors)
    return [row_end.join([vision.image_token * num_columns] * num_rows) + image_end for num_rows, num_columns in grids]


def visual_boxes(vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]) -> list[Float[Tensor, "_ 4"]]:
    """Row by row. The resize distorts both sides a little and crops nothing; the padding has no tokens."""
    grids = _grids(vision, tensors)
    return [grid_boxes(num_rows, num_columns, size) for (num_rows, num_columns), size in zip(grids, sizes, strict=True)]


def token_inputs(vision: Vision, input_ids: Int[Tensor, " token"]) -> dict[str, Tensor]:
    """None: text and image tokens are treated alike."""
    return {}


def forward_inputs(model: Any, tensors: Sequence[ImageTensors], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Images of the batch, padded to the largest of them. The tower cuts the padding off again."""
    with_images = [entry for entry in tensors if entry]
    if not with_images:
        return {}
    height, width = (max(entry["pixel_values"].shape[axis] for entry in with_images) for axis in (-2, -1))
    padded = [
        pad(
            entry["pixel_values"],
            (0, width - entry["pixel_values"].shape[-1], 0, height - entry["pixel_values"].shape[-2]),
        )
        for entry in with_images
    ]
    return {
        "pixel_values": torch.cat(padded),
        "image_sizes": torch.cat([entry["image_sizes"] for entry in with_images]),
    }


def _grids(vision: Vision, tensors: ImageTensors) -> list[tuple[int, int]]:
    """(rows, columns) of tokens of each image."""
    token_px = _token_px(vision.config)
    return [(int(height) // token_px, int(width) // token_px) for height, width in tensors["image_sizes"].tolist()]


def _token_px(model_config: Any) -> int:
    """Side of the square of the resized image that a token shows."""
    return int(model_config.vision_config.patch_size) * int(getattr(model_config, "spatial_merge_size", 1))
