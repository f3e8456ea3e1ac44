"""LLaVA 1.5: the image fills a square by its shorter side, and what the square cuts off the model never sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from rampipe.errors import ModelError
from rampipe.models.axis import cross, patch_spans, place_spans
from rampipe.models.family import ImageTensors
from rampipe.models.vision import Vision

MODEL_TYPES = ("llava",)
VIDEO = False
TOWERS = {"clip_vision_model": 1, "siglip_vision_model": 0}
"""Vision towers, and the class tokens that each puts before its patches."""


def image_token_id(model_config: Any) -> int:
    """Id of `<image>`. Raises ModelError for a vision tower whose geometry is not known."""
    count_class_tokens(model_config)
    return int(model_config.image_token_id)


def placeholder(vision: Vision) -> str:
    """The image token."""
    return vision.image_token


def process_images(vision: Vision, images: Sequence[Image.Image]) -> dict[str, Tensor]:
    """`pixel_values` [image, channel, height, width] of the squares."""
    return {"pixel_values": vision.image_processor(images=list(images), return_tensors="pt")["pixel_values"]}


def expand_placeholders(vision: Vision, tensors: ImageTensors) -> list[str]:
    """One image token for each patch, all images alike."""
    height, width = tensors["pixel_values"].shape[-2:]
    patch_px = int(vision.config.vision_config.patch_size)
    count = (height // patch_px) * (width // patch_px) + count_class_tokens(vision.config)
    return [vision.image_token * count] * len(tensors["pixel_values"])


def visual_boxes(vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]) -> list[Float[Tensor, "_ 4"]]:
    """Row by row; what the square cuts off has no token. NaN for a class token, and for padding."""
    height, width = tensors["pixel_values"].shape[-2:]
    patch_px = int(vision.config.vision_config.patch_size)
    nowhere = torch.full((count_class_tokens(vision.config), 4), torch.nan, dtype=torch.float64)
    spans = [patch_spans(1, square_px, patch_px) for square_px in (width, height)]
    boxes: list[Tensor] = []
    for size in sizes:
        places = _places(vision.image_processor, size, square=(width, height))
        columns, rows = (
            place_spans(of_side, offset_px=offset_px, shown_px=shown_px, stored_px=side)
            for of_side, (offset_px, shown_px), side in zip(spans, places, size, strict=True)
        )
        boxes.append(torch.cat([nowhere, cross(rows, columns)]))
    return boxes


def token_inputs(vision: Vision, input_ids: Int[Tensor, " token"]) -> dict[str, Tensor]:
    """Nothing: positions are 0, 1, 2..."""
    return {}


def forward_inputs(model: Any, tensors: Sequence[ImageTensors], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Squares of all images of the batch."""
    squares = [entry["pixel_values"] for entry in tensors if entry]
    return {"pixel_values": torch.cat(squares)} if squares else {}


def count_class_tokens(config: Any) -> int:
    """Class tokens before the patches of one view that reach the text model: none with the `default` strategy."""
    tower = config.vision_config.model_type
    if tower not in TOWERS:
        raise ModelError(
            f"a LLaVA model with vision tower {tower!r} is not known; towers: {', '.join(TOWERS)}. "
            "Use a checkpoint with one of these."
        )
    return TOWERS[tower] if config.vision_feature_select_strategy == "full" else 0


def _places(processor: Any, size: tuple[int, int], *, square: tuple[int, int]) -> list[tuple[float, float]]:
    """(offset, length) in pixels of the square of the image's width and height; a negative offset is cut off."""
    canvas = (max(size), max(size)) if processor.do_pad else size
    resized = _resize(processor, canvas) if processor.do_resize else canvas
    places: list[tuple[float, float]] = []
    for side, canvas_px, resized_px, square_px in zip(size, canvas, resized, square, strict=True):
        scale = resized_px / canvas_px
        places.append(((canvas_px - side) // 2 * scale - (resized_px - square_px) // 2, side * scale))
    return places


def _resize(processor: Any, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) after the resize. Raises ModelError for rules that no LLaVA uses."""
    width, height = size
    target = dict(processor.size)
    if set(target) == {"height", "width"}:
        return int(target["width"]), int(target["height"])
    if set(target) != {"shortest_edge"}:
        raise ModelError(
            f"preprocessor_config.json has size {target}, which is not a rule of LLaVA. "
            "It needs shortest_edge, or height and width."
        )
    edge = int(target["shortest_edge"])
    return (edge, int(edge * height / width)) if width <= height else (int(edge * width / height), edge)
