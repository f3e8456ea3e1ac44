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
VIDEO = True
IMAGE_START = "<|image>"
IMAGE_END = "<image|>"
MAX_FRAME_TOKENS = 70
"""Of a video's frame where the checkpoint says nothing."""
DEFAULT_FPS = 1.0
"""Frames a second of a video where the checkpoint says nothing."""


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
    grids = _grids(vision, tensors["image_position_ids"])
    return [f"{IMAGE_START}{vision.image_token * (rows * columns)}{IMAGE_END}" for rows, columns in grids]


def visual_boxes(vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]) -> list[Float[Tensor, "_ 4"]]:
    """Row by row. Both sides are resized to multiples of a token's, so that the aspect changes a little."""
    grids = _grids(vision, tensors["image_position_ids"])
    return [grid_boxes(rows, columns, size) for (rows, columns), size in zip(grids, sizes, strict=True)]


def video_token_id(model_config: Any) -> int:
    """Id of `<|video|>`."""
    return int(model_config.video_token_id)


def video_placeholder(vision: Vision) -> str:
    """The video token itself."""
    return str(vision.video_token)


def process_videos(vision: Vision, videos: Sequence[Sequence[Image.Image]]) -> dict[str, Tensor]:
    """`pixel_values_videos` and `video_position_ids` as of images, a row a frame; `num_frames_per_video` [video].

    Frames are images of fewer tokens. Raises ValueError for frames of several sizes.
    """
    for frames in videos:
        sizes = {frame.size for frame in frames}
        if len(sizes) > 1:
            raise ValueError(f"the frames of a video have sizes {sorted(sizes)}, needed: one. Store them alike")
    num_tokens = int(vision.video_settings.get("max_soft_tokens") or MAX_FRAME_TOKENS)
    every = [frame for frames in videos for frame in frames]
    features = vision.image_processor(images=every, max_soft_tokens=num_tokens, return_tensors="pt")
    return {
        "pixel_values_videos": features["pixel_values"],
        "video_position_ids": features["image_position_ids"],
        "num_frames_per_video": torch.tensor([len(frames) for frames in videos]),
    }


def expand_videos(vision: Vision, tensors: ImageTensors) -> list[str]:
    """Each frame with its time in minutes and seconds before it."""
    rate = float(vision.video_settings.get("fps") or DEFAULT_FPS)
    texts: list[str] = []
    for (rows, columns), num_frames in _videos(vision, tensors):
        frame = f"{IMAGE_START}{str(vision.video_token) * (rows * columns)}{IMAGE_END}"
        times_s = [int(number / rate) for number in range(num_frames)]
        texts.append(" ".join(f"{time_s // 60:02d}:{time_s % 60:02d} {frame}" for time_s in times_s))
    return texts


def video_boxes(
    vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]
) -> list[tuple[Float[Tensor, "_ 4"], Int[Tensor, "_ _"]]]:
    """Frame after frame, row by row in each; a token shows one frame."""
    placed: list[tuple[Tensor, Tensor]] = []
    for ((rows, columns), num_frames), size in zip(_videos(vision, tensors), sizes, strict=True):
        frames = torch.arange(num_frames).repeat_interleave(rows * columns)[:, None]
        placed.append((grid_boxes(rows, columns, size).repeat(num_frames, 1), frames))
    return placed


def token_inputs(vision: Vision, input_ids: Int[Tensor, " token"]) -> dict[str, Tensor]:
    """`mm_token_type_ids`: 1 at image tokens, 2 at those of videos.

    In larger checkpoints the tokens of one picture see each other both ways.
    """
    is_image, is_video = (input_ids == of(vision.config) for of in (image_token_id, video_token_id))
    return {"mm_token_type_ids": is_image.to(torch.int64) + 2 * is_video.to(torch.int64)}


def forward_inputs(model: Any, tensors: Sequence[ImageTensors], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the batch's images and videos, and `position_ids` [batch, token] that do not count padding.

    Its logits of attention are large: positions moved by padding would change results by the rounding of rotations.
    """
    names = {name: None for entry in tensors for name in entry}
    visual = {name: torch.cat([entry[name] for entry in tensors if name in entry]) for name in names}
    return {**visual, "position_ids": (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)}


def _grids(vision: Vision, position_ids: Int[Tensor, "picture patch 2"]) -> list[tuple[int, int]]:
    """(rows, columns) of tokens of each picture."""
    pooled = int(vision.config.vision_config.pooling_kernel_size)
    last = position_ids.amax(dim=1).tolist()
    return [((int(row) + 1) // pooled, (int(column) + 1) // pooled) for column, row in last]


def _videos(vision: Vision, tensors: ImageTensors) -> list[tuple[tuple[int, int], int]]:
    """(rows, columns) of tokens of a frame, and the number of frames, of each video."""
    counts = tensors["num_frames_per_video"].tolist()
    firsts = [sum(counts[:index]) for index in range(len(counts))]
    return list(zip(_grids(vision, tensors["video_position_ids"][firsts]), counts, strict=True))
