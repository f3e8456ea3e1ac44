"""LLaVA-NeXT: the whole image in one tile, then at a higher resolution in tiles stitched to one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from rampipe.models.anyres import Tiling, base_boxes, count_tiles, stitched_boxes
from rampipe.models.family import ImageTensors
from rampipe.models.vision import Vision

MODEL_TYPES = ("llava_next",)
VIDEO = False


def image_token_id(model_config: Any) -> int:
    """Id of `<image>`."""
    return int(model_config.image_token_id)


def placeholder(vision: Vision) -> str:
    """The image token."""
    return vision.image_token


def process_images(vision: Vision, images: Sequence[Image.Image]) -> dict[str, Tensor]:
    """`pixel_values` [tile, channel, height, width] of all images one after another, `image_sizes` [image, 2].

    image_sizes: (height, width) of each stored image. The processor fills up images of few tiles with empty ones,
    which are dropped here: the model would drop them too.
    """
    features = vision.image_processor(images=list(images), do_pad=True, return_tensors="pt")
    sizes = torch.as_tensor(features["image_sizes"])
    counts = [count_tiles((width, height), tiling_of(vision.config)) for height, width in sizes.tolist()]
    tiles = [of_image[:count] for of_image, count in zip(features["pixel_values"], counts, strict=True)]
    return {"pixel_values": torch.cat(tiles), "image_sizes": sizes}


def expand_placeholders(vision: Vision, tensors: ImageTensors) -> list[str]:
    """Base view, rows of the stitched view, and a newline for each row: all are the image token."""
    sizes = [(width, height) for height, width in tensors["image_sizes"].tolist()]
    return [vision.image_token * len(boxes) for boxes in visual_boxes(vision, tensors, sizes)]


def visual_boxes(vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]) -> list[Float[Tensor, "_ 4"]]:
    """Base view first, then the stitched view. NaN for newlines."""
    tiling = tiling_of(vision.config)
    return [torch.cat([base_boxes(size, tiling), stitched_boxes(size, tiling)]) for size in sizes]


def token_inputs(vision: Vision, input_ids: Int[Tensor, " token"]) -> dict[str, Tensor]:
    """Nothing: positions are 0, 1, 2..."""
    return {}


def forward_inputs(model: Any, tensors: Sequence[ImageTensors], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tiles and sizes of all images of the batch."""
    with_images = [entry for entry in tensors if entry]
    return {name: torch.cat([entry[name] for entry in with_images]) for name in (with_images or [{}])[0]}


def tiling_of(config: Any) -> Tiling:
    """Canvases and tiles of a configuration."""
    tower = config.vision_config
    return Tiling(config.image_grid_pinpoints, int(tower.image_size), int(tower.patch_size))
