"""GLM-4V, 4.1V, 4.5V, 4.6V: the whole image is resized to a grid of patches, and 2 x 2 patches make one token."""

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

MODEL_TYPES = ("glm4v", "glm4v_moe", "glm46v")
VIDEO = False


def image_token_id(model_config: Any) -> int:
    """Id of `<|image|>`, which frames of videos have too."""
    return int(model_config.image_token_id)


def placeholder(vision: Vision) -> str:
    """The template puts `<|begin_of_image|>` and `<|end_of_image|>` around it itself."""
    return vision.image_token


def process_images(vision: Vision, images: Sequence[Image.Image]) -> dict[str, Tensor]:
    """`pixel_values` [patch, values] of all images one after another, and `image_grid_thw` [image, 3] in patches."""
    features = vision.image_processor(images=list(images), return_tensors="pt")
    return {"pixel_values": features["pixel_values"], "image_grid_thw": features["image_grid_thw"]}


def expand_placeholders(vision: Vision, tensors: ImageTensors) -> list[str]:
    """One image token for each merged patch."""
    return [vision.image_token * (num_rows * num_columns) for num_rows, num_columns in _merged_grids(vision, tensors)]


def visual_boxes(vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]) -> list[Float[Tensor, "_ 4"]]:
    """Row by row. The resize distorts both sides a little (to multiples of 28 px) and crops nothing."""
    grids = _merged_grids(vision, tensors)
    return [grid_boxes(num_rows, num_columns, size) for (num_rows, num_columns), size in zip(grids, sizes, strict=True)]


def token_inputs(vision: Vision, input_ids: Int[Tensor, " token"]) -> dict[str, Tensor]:
    """`mm_token_type_ids`: 1 at image tokens, which take positions by row and column."""
    return {"mm_token_type_ids": (input_ids == image_token_id(vision.config)).to(torch.int64)}


def forward_inputs(model: Any, tensors: Sequence[ImageTensors], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Image tensors of the batch and three-dimensional `position_ids` [3, batch, token], which the model would keep."""
    with_images = [entry for entry in tensors if entry]
    images = {name: torch.cat([entry[name] for entry in with_images]) for name in (with_images or [{}])[0]}
    position_ids, _ = model.model.get_rope_index(
        batch["input_ids"],
        batch["mm_token_type_ids"],
        image_grid_thw=images.get("image_grid_thw"),
        attention_mask=batch["attention_mask"],
    )
    return {**images, "position_ids": position_ids}


def _merged_grids(vision: Vision, tensors: ImageTensors) -> list[tuple[int, int]]:
    """(rows, columns) of merged patches of each image."""
    merge = int(vision.image_processor.merge_size)
    return [(int(height) // merge, int(width) // merge) for _, height, width in tensors["image_grid_thw"].tolist()]
