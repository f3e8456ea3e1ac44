"""GLM-4.1V, 4.5V, 4.6V: the whole image is resized to a grid of patches, and 2 x 2 patches make one token.

Two frames of a video make one picture with a time behind it, of the same tokens as an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from rampipe.models.family import ImageTensors
from rampipe.models.grid import grid_boxes
from rampipe.models.merged_frames import frame_limits, frames_per_s, merged_boxes, merged_grids, process_merged
from rampipe.models.vision import Vision

MODEL_TYPES = ("glm4v", "glm4v_moe", "glm46v")
VIDEO = True
VIDEO_PLACEHOLDER = "<|video|>"
FRAME_LIMITS = {"shortest": 112 * 112, "longest": 28 * 28 * 2 * 30000}
"""Pixels of all frames together where the checkpoint says nothing."""

Picture = tuple[Tensor, Tensor]
"""Patches [patch, values], and the grid (1, rows, columns) of them."""


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


def video_token_id(model_config: Any) -> int:
    """Frames are images to the model: the same token."""
    return image_token_id(model_config)


def video_placeholder(vision: Vision) -> str:
    """`<|video|>`, which stays in no prompt."""
    return VIDEO_PLACEHOLDER


def process_videos(vision: Vision, videos: Sequence[Sequence[Image.Image]]) -> dict[str, Tensor]:
    """As `process_merged`. Raises ValueError for a video of one frame, too."""
    return process_merged(vision, videos, lambda count, height, width: _frame_size(vision, count, (height, width)))


def expand_videos(vision: Vision, tensors: ImageTensors) -> list[str]:
    """Each pair of frames is an image with the time of its first behind it, in seconds; whole ones before 4.6V."""
    with_tenths = vision.config.model_type == "glm46v"
    depth, rate = int(vision.image_processor.temporal_patch_size), frames_per_s(vision)
    texts: list[str] = []
    for num_pictures, num_rows, num_columns in merged_grids(vision, tensors):
        picture = f"<|begin_of_image|>{vision.image_token * (num_rows * num_columns)}<|end_of_image|>"
        times_s = [start * depth / rate for start in range(num_pictures)]
        behind = [f"{time_s:.1f} seconds" if with_tenths else str(int(time_s)) for time_s in times_s]
        texts.append("".join(picture + time for time in behind))
    return texts


def video_boxes(
    vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]
) -> list[tuple[Float[Tensor, "_ 4"], Int[Tensor, "_ _"]]]:
    """As `merged_boxes`."""
    return merged_boxes(vision, tensors, sizes)


def token_inputs(vision: Vision, input_ids: Int[Tensor, " token"]) -> dict[str, Tensor]:
    """`mm_token_type_ids`: 1 at image tokens, which take positions by row and column; those of frames no less."""
    return {"mm_token_type_ids": (input_ids == image_token_id(vision.config)).to(torch.int64)}


def forward_inputs(model: Any, tensors: Sequence[ImageTensors], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Images and pairs of frames of the batch as images, and three-dimensional `position_ids` [3, batch, token].

    The model would take images or videos, not both; what it does with a picture is the same. Positions are given, as
    the model would keep some of an earlier batch.
    """
    prompts = zip(tensors, batch["input_ids"], strict=True)
    pictures = [picture for entry, ids in prompts for picture in _in_order(model.config, entry, ids)]
    images: dict[str, Tensor] = {}
    if pictures:
        images["pixel_values"] = torch.cat([patches for patches, _ in pictures])
        images["image_grid_thw"] = torch.stack([grid for _, grid in pictures])
    position_ids, _ = model.model.get_rope_index(
        batch["input_ids"],
        batch["mm_token_type_ids"],
        image_grid_thw=images.get("image_grid_thw"),
        attention_mask=batch["attention_mask"],
    )
    return {**images, "position_ids": position_ids}


def _in_order(model_config: Any, entry: ImageTensors, input_ids: Int[Tensor, " token"]) -> list[Picture]:
    """Images and pairs of frames of one prompt as it shows them: what stands within the marks of a video is one's."""
    stills = _pictures(entry.get("pixel_values"), entry.get("image_grid_thw"))
    pairs = _pictures(entry.get("pixel_values_videos"), entry.get("video_grid_thw"))
    begun, ended = (
        (input_ids == getattr(model_config, f"video_{mark}_token_id")).cumsum(dim=0) for mark in ("start", "end")
    )
    is_visual = input_ids == image_token_id(model_config)
    is_first = is_visual & ~is_visual.roll(1)
    return [next(pairs if is_video else stills) for is_video in (begun > ended)[is_first].tolist()]


def _pictures(patches: Tensor | None, grids: Tensor | None) -> Iterator[Picture]:
    """One by one; each pair of frames of a video is one."""
    if patches is None or grids is None:
        return
    one_each = grids.repeat_interleave(grids[:, 0], dim=0).clone()
    one_each[:, 0] = 1
    yield from zip(patches.split(one_each.prod(dim=1).tolist()), one_each, strict=True)


def _frame_size(vision: Vision, num_frames: int, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of all frames, by the rule of the video processor: its limits hold for all frames together."""
    from transformers.models.glm4v.image_processing_pil_glm4v import smart_resize

    processor = vision.image_processor
    least, most = frame_limits(vision, **FRAME_LIMITS)
    height, width = smart_resize(
        num_frames,
        *size,
        temporal_factor=int(processor.temporal_patch_size),
        factor=int(processor.patch_size * processor.merge_size),
        min_pixels=least,
        max_pixels=most,
    )
    return int(height), int(width)


def _merged_grids(vision: Vision, tensors: ImageTensors) -> list[tuple[int, int]]:
    """(rows, columns) of merged patches of each image."""
    merge = int(vision.image_processor.merge_size)
    return [(int(height) // merge, int(width) // merge) for _, height, width in tensors["image_grid_thw"].tolist()]
