"""SmolVLM: images as Idefics3 has them; each frame of a video is an image of one tile, with its time before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from rampipe.errors import SampleError
from rampipe.models.family import ImageTensors
from rampipe.models.idefics3 import (
    AROUND,
    WHOLE,
    expand_placeholders,
    image_token_id,
    placeholder,
    process_images,
    tile_tokens,
    token_inputs,
    visual_boxes,
)
from rampipe.models.tiles import tile_boxes
from rampipe.models.vision import Vision

__all__ = ["expand_placeholders", "image_token_id", "placeholder", "process_images", "token_inputs", "visual_boxes"]

MODEL_TYPES = ("smolvlm",)
VIDEO = True
VIDEO_PLACEHOLDER = "<video>"
DEFAULT_FPS = 1.0
"""Frames a second where the checkpoint says nothing."""
SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = "- ten twenty thirty forty fifty sixty seventy eighty ninety"


def video_token_id(model_config: Any) -> int:
    """Frames are images to the model: the same token."""
    return image_token_id(model_config)


def video_placeholder(vision: Vision) -> str:
    """`<video>`, which stays in no prompt."""
    return VIDEO_PLACEHOLDER


def process_videos(vision: Vision, videos: Sequence[Sequence[Image.Image]]) -> dict[str, Tensor]:
    """`pixel_values_videos` [frame, channel, side, side] of all videos one after another, `num_frames` [video].

    Each frame is distorted to a square, after a resize that keeps its aspect, as the video processor does it.
    """
    sampling: Mapping[str, Any] = vision.video_settings.get("video_sampling") or {}
    size = sampling.get("video_size") or vision.video_settings.get("size")
    options = {} if size is None else {"size": size}
    every = [frame for frames in videos for frame in frames]
    features = vision.image_processor(images=[every], do_image_splitting=False, return_tensors="pt", **options)
    num_frames = torch.tensor([len(frames) for frames in videos])
    return {"pixel_values_videos": features["pixel_values"][0], "num_frames": num_frames}


def expand_videos(vision: Vision, tensors: ImageTensors) -> list[str]:
    """A sentence with the number of frames, in words, and the length; then a line for each frame."""
    sampling: Mapping[str, Any] = vision.video_settings.get("video_sampling") or {}
    rate = float(sampling.get("fps") or vision.video_settings.get("fps") or DEFAULT_FPS)
    frame = f"{AROUND}{WHOLE}{vision.image_token * tile_tokens(vision.config) ** 2}{AROUND}"
    texts: list[str] = []
    for num_frames in tensors["num_frames"].tolist():
        times_s = [int(number / rate) for number in range(num_frames)]
        length = timedelta(seconds=times_s[-1])
        intro = f"You are provided the following series of {number_in_words(num_frames)} frames from a {length} "
        lines = [f"\nFrame from {time_s // 60:02d}:{time_s % 60:02d}:{frame}" for time_s in times_s]
        texts.append(f"{intro}[H:MM:SS] video.\n{''.join(lines)}\n\n")
    return texts


def video_boxes(
    vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]
) -> list[tuple[Float[Tensor, "_ 4"], Int[Tensor, "_ _"]]]:
    """Frame after frame, row by row in each; a token shows one frame."""
    side = tile_tokens(vision.config)
    placed: list[tuple[Tensor, Tensor]] = []
    for size, num_frames in zip(sizes, tensors["num_frames"].tolist(), strict=True):
        boxes = tile_boxes(size, (1, 1), tile_px=side, token_px=1, with_thumbnail=False)
        frames = torch.arange(num_frames).repeat_interleave(len(boxes))[:, None]
        placed.append((boxes.repeat(num_frames, 1), frames))
    return placed


def forward_inputs(model: Any, tensors: Sequence[ImageTensors], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tiles and frames of the batch as those of one list, in the order of its tokens."""
    prompts = zip(tensors, batch["input_ids"], strict=True)
    tiles = [one for entry, ids in prompts for one in _in_order(entry, ids, ids == image_token_id(model.config))]
    return {"pixel_values": torch.cat(tiles)[None]} if tiles else {}


def number_in_words(number: int) -> str:
    """In British English, as the family's processor writes it. Raises ValueError from a thousand on."""
    if number >= 1000:
        raise ValueError(f"a video has {number} frames, allowed: up to 999. Sample fewer")
    small, (hundreds, rest) = SMALL.split(), divmod(number, 100)
    below = (
        small[rest] if rest < len(small) else TENS.split()[rest // 10] + (f"-{small[rest % 10]}" if rest % 10 else "")
    )
    if not hundreds:
        return below
    return f"{small[hundreds]} hundred" + (f" and {below}" if rest else "")


def _in_order(
    entry: ImageTensors, input_ids: Int[Tensor, " token"], is_image_token: Bool[Tensor, " token"]
) -> Iterator[Tensor]:
    """Tiles of images and frames of one prompt, as it shows them.

    Before each run of image tokens stands the place of a tile, or `<global-img>`, as before the last run of all: an
    image has tiles and then that, a frame only that. Raises SampleError for an image without tiles beside a video.
    """
    images: list[Tensor] = []
    if "rows" in entry:
        num_tiles = (entry["rows"] * entry["cols"] + 1).tolist()
        images = list(entry["pixel_values"][0].split(num_tiles))
    frames = list(entry["pixel_values_videos"].split(1)) if "num_frames" in entry else []
    if not images or not frames:
        yield from images or frames
        return
    if min(len(tiles) for tiles in images) == 1:
        raise SampleError(
            "a prompt shows a video and an image of one tile, whose tokens look like those of a frame. "
            "Show images and videos in separate samples, or set do_image_splitting in preprocessor_config.json. "
            "Sample skipped.",
            stage="encode",
            code="image_unsupported",
        )
    starts = (is_image_token & ~is_image_token.roll(1)).nonzero().flatten()
    before = input_ids[starts - 1]
    follows_tile = False
    for is_whole in (before == before[-1]).tolist():
        if is_whole:
            yield (images if follows_tile else frames).pop(0)
        follows_tile = not is_whole
