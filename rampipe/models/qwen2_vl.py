"""Qwen2-VL and Qwen2.5-VL: the whole image is resized to a grid of patches, and 2 x 2 patches make one token."""

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
from rampipe.models.merged_frames import frame_limits, frames_per_s, merged_boxes, merged_grids, process_merged
from rampipe.models.vision import Vision

MODEL_TYPES = ("qwen2_vl", "qwen2_5_vl")
VIDEO = True
FORWARDED = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw", "second_per_grid_ts")
"""Tensors of images and videos that the forward takes, as far as a prompt has them."""
FRAME_LIMITS = {"shortest": 128 * 28 * 28, "longest": 768 * 28 * 28}
"""Pixels of a frame where the checkpoint says nothing."""
MAX_VIDEO_TOKENS = 128000
"""What `cap_pixels_per_frame` shares among the frames where the checkpoint says nothing."""


def image_token_id(model_config: Any) -> int:
    """Id of `<|image_pad|>`."""
    return int(model_config.image_token_id)


def placeholder(vision: Vision) -> str:
    """The image token; the template writes the marks around it."""
    return vision.image_token


def process_images(vision: Vision, images: Sequence[Image.Image]) -> dict[str, Tensor]:
    """`pixel_values` [patch, values] of all images one after another, and `image_grid_thw` [image, 3] in patches."""
    features = vision.image_processor(images=list(images), return_tensors="pt")
    return {"pixel_values": features["pixel_values"], "image_grid_thw": features["image_grid_thw"]}


def expand_placeholders(vision: Vision, tensors: ImageTensors) -> list[str]:
    """One image token for each merged patch."""
    grids = _merged_grids(vision, tensors)
    return [vision.image_token * (num_rows * num_columns) for num_rows, num_columns in grids]


def visual_boxes(vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]) -> list[Float[Tensor, "_ 4"]]:
    """Row by row: the processor lays patches out so that the four of one token are neighbours in memory.

    The resize distorts both sides a little (to multiples of 28 px) and crops nothing, so each token shows exactly
    1 / columns of the stored width and 1 / rows of the stored height.
    """
    grids = _merged_grids(vision, tensors)
    return [grid_boxes(num_rows, num_columns, size) for (num_rows, num_columns), size in zip(grids, sizes, strict=True)]


def video_token_id(model_config: Any) -> int:
    """Id of `<|video_pad|>`."""
    return int(model_config.video_token_id)


def video_placeholder(vision: Vision) -> str:
    """The video token; the template writes the marks around it."""
    return str(vision.video_token)


def process_videos(vision: Vision, videos: Sequence[Sequence[Image.Image]]) -> dict[str, Tensor]:
    """As `process_merged`. Qwen2.5-VL, which tells times by positions, has `second_per_grid_ts` [video] besides."""
    tensors = process_merged(vision, videos, lambda count, height, width: _frame_size(vision, count, (height, width)))
    if vision.config.model_type == "qwen2_5_vl":
        seconds = vision.image_processor.temporal_patch_size / frames_per_s(vision)
        tensors["second_per_grid_ts"] = torch.full((len(videos),), seconds)
    return tensors


def expand_videos(vision: Vision, tensors: ImageTensors) -> list[str]:
    """One video token for each merged patch of each group of frames."""
    return [str(vision.video_token) * math.prod(grid) for grid in merged_grids(vision, tensors)]


def video_boxes(
    vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]
) -> list[tuple[Float[Tensor, "_ 4"], Int[Tensor, "_ _"]]]:
    """As `merged_boxes`."""
    return merged_boxes(vision, tensors, sizes)


def token_inputs(vision: Vision, input_ids: Int[Tensor, " token"]) -> dict[str, Tensor]:
    """`mm_token_type_ids`: 1 at image tokens, 2 at video tokens. Without it positions are silently one-dimensional."""
    is_image, is_video = (input_ids == of(vision.config) for of in (image_token_id, video_token_id))
    return {"mm_token_type_ids": is_image.to(torch.int64) + 2 * is_video.to(torch.int64)}


def forward_inputs(model: Any, tensors: Sequence[ImageTensors], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Image and video tensors of the batch and three-dimensional `position_ids` [3, batch, token].

    Positions are given, not left to the model: it would keep `rope_deltas` of an earlier batch as state, and would
    count padding in a batch without images. Ids at padding are 0; the attention mask hides them.
    """
    names = [name for name in FORWARDED if any(name in entry for entry in tensors)]
    visual = {name: torch.cat([entry[name] for entry in tensors if name in entry]) for name in names}
    position_ids, _ = model.model.get_rope_index(
        batch["input_ids"],
        batch["mm_token_type_ids"],
        attention_mask=batch["attention_mask"],
        **{name: tensor for name, tensor in visual.items() if not name.startswith("pixel_values")},
    )
    return {**visual, "position_ids": position_ids}


def _frame_size(vision: Vision, num_frames: int, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of all frames, by the rule of the video processor."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    processor, settings = vision.image_processor, vision.video_settings
    factor = int(processor.patch_size * processor.merge_size)
    least, most = frame_limits(vision, **FRAME_LIMITS)
    if settings.get("cap_pixels_per_frame"):
        budget = int(settings.get("max_video_tokens", MAX_VIDEO_TOKENS) * factor * factor * 0.9)
        most = max(min(most, budget * int(processor.temporal_patch_size) // num_frames), int(least * 1.05))
    height, width = smart_resize(*size, factor=factor, min_pixels=least, max_pixels=most)
    return int(height), int(width)


def _merged_grids(vision: Vision, tensors: ImageTensors) -> list[tuple[int, int]]:
    """(rows, columns) of merged patches of each image."""
    merge = int(vision.image_processor.merge_size)
    return [(int(height) // merge, int(width) // merge) for _, height, width in tensors["image_grid_thw"].tolist()]
