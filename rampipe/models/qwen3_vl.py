"""Qwen3-VL and Qwen3.5, dense and mixtures of experts: as Qwen2-VL, but videos carry their times in the text."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from rampipe.models.family import ImageTensors
from rampipe.models.merged_frames import frame_limits, frames_per_s, merged_grids, process_merged
from rampipe.models.qwen2_vl import (
    expand_placeholders,
    forward_inputs,
    image_token_id,
    placeholder,
    process_images,
    token_inputs,
    video_boxes,
    video_placeholder,
    video_token_id,
    visual_boxes,
)
from rampipe.models.vision import Vision

__all__ = [
    "expand_placeholders",
    "expand_videos",
    "forward_inputs",
    "image_token_id",
    "placeholder",
    "process_images",
    "process_videos",
    "token_inputs",
    "video_boxes",
    "video_placeholder",
    "video_token_id",
    "visual_boxes",
]

MODEL_TYPES = ("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")
VIDEO = True
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
VIDEO_LIMITS = {"shortest": 128 * 32 * 32, "longest": 768 * 32 * 32}
"""Pixels of all frames together where the checkpoint says nothing."""
MAX_FRAME_TOKENS = 768
"""Limit of `cap_pixels_per_frame` where the checkpoint says nothing."""


def process_videos(vision: Vision, videos: Sequence[Sequence[Image.Image]]) -> dict[str, Tensor]:
    """As `process_merged`."""
    return process_merged(vision, videos, lambda count, height, width: _frame_size(vision, count, (height, width)))


def expand_videos(vision: Vision, tensors: ImageTensors) -> list[str]:
    """Each group of frames as an image of its own behind its time, the mean of its first and last frame's.

    The template's own pair of marks stays around all of them, as the processor of transformers 5.23 leaves it.
    """
    depth, rate = int(vision.image_processor.temporal_patch_size), frames_per_s(vision)
    texts: list[str] = []
    grids = zip(merged_grids(vision, tensors), tensors["num_frames"].tolist(), strict=True)
    for (num_groups, num_rows, num_columns), num_frames in grids:
        group = f"{VISION_START}{str(vision.video_token) * (num_rows * num_columns)}{VISION_END}"
        starts = range(0, num_groups * depth, depth)
        times_s = [(start + min(start + depth, num_frames) - 1) / 2 / rate for start in starts]
        texts.append("".join(f"<{time_s:.1f} seconds>{group}" for time_s in times_s))
    return texts


def _frame_size(vision: Vision, num_frames: int, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of all frames, by the rule of the video processor: its limits hold for all frames together."""
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

    processor, settings = vision.image_processor, vision.video_settings
    factor = int(processor.patch_size * processor.merge_size)
    least, most = frame_limits(vision, **VIDEO_LIMITS)
    if settings.get("cap_pixels_per_frame"):
        budget = int(settings.get("max_video_tokens", MAX_FRAME_TOKENS)) * factor * factor
        most = max(min(budget, most // num_frames), int(least * 1.05)) * num_frames
    height, width = smart_resize(
        num_frames,
        *size,
        temporal_factor=int(processor.temporal_patch_size),
        factor=factor,
        min_pixels=least,
        max_pixels=most,
    )
    return int(height), int(width)
