"""Videos of Qwen's families: neighbouring frames make one patch, as deep as `temporal_patch_size`.

The video processors of transformers need torchvision; this uses Pillow's image processor, frame by frame. Both give
the same sizes and layouts; bicubic filters differ by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from rampipe.models.grid import grid_boxes
from rampipe.models.vision import Vision

DEFAULT_FPS = 2.0
"""Frames a second that these families sample; the frames of a sample are taken to be sampled so."""

ChooseSize = Callable[[int, int, int], tuple[int, int]]
"""(number of frames, height, width) to the (height, width) that all frames are resized to, in pixels."""


def process_merged(
    vision: Vision, videos: Sequence[Sequence[Image.Image]], choose_size: ChooseSize
) -> dict[str, Tensor]:
    """`pixel_values_videos` [patch, values] of all videos one after another, `video_grid_thw` [video, 3] and
    `num_frames` [video].

    The last frame of an odd number is shown twice. Raises ValueError for frames of several sizes.
    """
    patches: list[Tensor] = []
    grids: list[Tensor] = []
    for frames in videos:
        sizes = {frame.size for frame in frames}
        if len(sizes) > 1:
            raise ValueError(f"the frames of a video have sizes {sorted(sizes)}, needed: one. Store them alike")
        height, width = choose_size(len(frames), frames[0].height, frames[0].width)
        merged, grid = _merge(vision, [_resize(vision, frame, (width, height)) for frame in frames])
        patches.append(merged)
        grids.append(grid)
    num_frames = torch.tensor([len(frames) for frames in videos])
    return {"pixel_values_videos": torch.cat(patches), "video_grid_thw": torch.stack(grids), "num_frames": num_frames}


def merged_boxes(
    vision: Vision, tensors: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]]
) -> list[tuple[Float[Tensor, "_ 4"], Int[Tensor, "_ _"]]]:
    """Group of frames after group of frames, row by row in each; a token shows the same place of all its frames."""
    depth = int(vision.image_processor.temporal_patch_size)
    placed: list[tuple[Tensor, Tensor]] = []
    videos = zip(merged_grids(vision, tensors), tensors["num_frames"].tolist(), sizes, strict=True)
    for (num_groups, num_rows, num_columns), num_frames, size in videos:
        boxes = grid_boxes(num_rows, num_columns, size)
        frames = torch.arange(num_groups * depth).reshape(num_groups, depth)
        frames = frames.masked_fill(frames >= num_frames, -1)
        placed.append((boxes.repeat(num_groups, 1), frames.repeat_interleave(len(boxes), dim=0)))
    return placed


def merged_grids(vision: Vision, tensors: Mapping[str, Tensor]) -> list[tuple[int, int, int]]:
    """(groups of frames, rows, columns) of the tokens of each video."""
    merge = int(vision.image_processor.merge_size)
    return [(groups, height // merge, width // merge) for groups, height, width in tensors["video_grid_thw"].tolist()]


def frame_limits(vision: Vision, *, shortest: int, longest: int) -> tuple[int, int]:
    """Least and most pixels of the video processor's file, or of its class where the file says nothing."""
    settings = vision.video_settings
    size = settings.get("size") or {}
    least = settings.get("min_pixels") or size.get("shortest_edge") or size.get("min_pixels") or shortest
    most = settings.get("max_pixels") or size.get("longest_edge") or size.get("max_pixels") or longest
    return int(least), int(most)


def frames_per_s(vision: Vision) -> float:
    """Sampling rate of the video processor's file."""
    return float(vision.video_settings.get("fps") or DEFAULT_FPS)


def _resize(vision: Vision, frame: Image.Image, size: tuple[int, int]) -> Image.Image:
    return frame.resize(size, resample=Image.Resampling(int(vision.image_processor.resample)))


def _merge(vision: Vision, frames: Sequence[Image.Image]) -> tuple[Float[Tensor, "patch value"], Int[Tensor, " axis"]]:
    """The processor repeats a still over the depth of a patch; here each layer is taken from a frame of its own."""
    processor: Any = vision.image_processor
    depth, side = int(processor.temporal_patch_size), int(processor.patch_size)
    own = {name: vision.video_settings[name] for name in ("image_mean", "image_std") if name in vision.video_settings}
    stills = processor(images=list(frames), do_resize=False, return_tensors="pt", **own)
    _, height, width = stills["image_grid_thw"][0].tolist()
    layers = stills["pixel_values"].reshape(len(frames), height * width, -1, depth, side * side)[:, :, :, 0]
    missing = -len(frames) % depth
    layers = torch.cat([layers, layers[-1:].expand(missing, -1, -1, -1)])
    groups = layers.reshape(-1, depth, *layers.shape[1:]).permute(0, 2, 3, 1, 4)
    grid = torch.tensor([len(groups), height, width])
    return groups.reshape(len(groups) * height * width, -1), grid
