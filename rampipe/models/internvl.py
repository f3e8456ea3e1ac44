"""InternVL 2.5, 3 and 3.5: the image is distorted to a grid of tiles of 256 tokens each; a thumbnail comes last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from rampipe.errors import SampleError
from rampipe.models.family import ImageTensors
from rampipe.models.frames import process_frames
from rampipe.models.tiles import tile_boxes
from rampipe.models.vision import Vision

MODEL_TYPES = ("internvl",)
VIDEO = True
VIDEO_PLACEHOLDER = "<video>"
IMAGE_START, IMAGE_END = "<img>", "</img>"


def image_token_id(model_config: Any) -> int:
    """Id of `<IMG_CONTEXT>`."""
    return int(model_config.image_token_id)


def placeholder(vision: Vision) -> str:
    """The image token; the tokens around it come with the expansion."""
    return vision.image_token


def process_images(vision: Vision, images: Sequence[Image.Image]) -> dict[str, Tensor]:
    """`pixel_values` [tile, channel, height, width] of all images one after another, and `num_patches` [image].

    The processor of the family cuts tiles whatever the file of its image processor says.
    """
    features = vision.image_processor(images=list(images), crop_to_patches=True, return_tensors="pt")
    return {"pixel_values": features["pixel_values"], "num_patches": torch.as_tensor(features["num_patches"])}


def expand_placeholders(vision: Vision, tensors: ImageTensors) -> list[str]:
    """All tiles of an image between one pair of marks; nothing stands between tiles."""
    per_tile = _side_in_tokens(vision.config) ** 2
    return [
        f"{IMAGE_START}{vision.image_token * (per_tile * num_tiles)}{IMAGE_END}"
        for num_tiles in tensors["num_patches"].tolist()
    ]


def visual_boxes(vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]) -> list[Float[Tensor, "_ 4"]]:
    """Tile after tile and row by row in each; the thumbnail's tokens show the whole image once more."""
    tile_px = int(tensors["pixel_values"].shape[-1])
    token_px = tile_px // _side_in_tokens(vision.config)
    boxes: list[Tensor] = []
    for size, num_tiles in zip(sizes, tensors["num_patches"].tolist(), strict=True):
        grid = (1, 1) if num_tiles == 1 else _choose_grid(vision.image_processor, size)
        boxes.append(tile_boxes(size, grid, tile_px=tile_px, token_px=token_px, with_thumbnail=num_tiles > 1))
    return boxes


def video_token_id(model_config: Any) -> int:
    """Frames are images to the model: the same token."""
    return image_token_id(model_config)


def video_placeholder(vision: Vision) -> str:
    """`<video>`, which stays in no prompt."""
    return VIDEO_PLACEHOLDER


def process_videos(vision: Vision, videos: Sequence[Sequence[Image.Image]]) -> dict[str, Tensor]:
    """`pixel_values_videos` [frame, channel, height, width] of all videos one after another, `num_frames` [video]."""
    frames = torch.cat([process_frames(vision, frames) for frames in videos])
    return {"pixel_values_videos": frames, "num_frames": torch.tensor([len(frames) for frames in videos])}


def expand_videos(vision: Vision, tensors: ImageTensors) -> list[str]:
    """A line for each frame with its number from 1; each is one tile."""
    frame = f"{IMAGE_START}{vision.image_token * _side_in_tokens(vision.config) ** 2}{IMAGE_END}"
    return [
        "\n".join(f"Frame{number + 1}: {frame}" for number in range(num_frames))
        for num_frames in tensors["num_frames"].tolist()
    ]


def video_boxes(
    vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]
) -> list[tuple[Float[Tensor, "_ 4"], Int[Tensor, "_ _"]]]:
    """Frame after frame, row by row in each; a token shows one frame."""
    tile_px = int(tensors["pixel_values_videos"].shape[-1])
    token_px = tile_px // _side_in_tokens(vision.config)
    found: list[tuple[Tensor, Tensor]] = []
    for size, num_frames in zip(sizes, tensors["num_frames"].tolist(), strict=True):
        boxes = tile_boxes(size, (1, 1), tile_px=tile_px, token_px=token_px, with_thumbnail=False)
        frames = torch.arange(num_frames).repeat_interleave(len(boxes))[:, None]
        found.append((boxes.repeat(num_frames, 1), frames))
    return found


def token_inputs(vision: Vision, input_ids: Int[Tensor, " token"]) -> dict[str, Tensor]:
    """Nothing: positions are 0, 1, 2..."""
    return {}


def forward_inputs(model: Any, tensors: Sequence[ImageTensors], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tiles and frames of all prompts as one `pixel_values`, in the order in which the prompts show them."""
    per_tile = _side_in_tokens(model.config) ** 2
    pictures: list[Tensor] = []
    for entry, input_ids in zip(tensors, batch["input_ids"], strict=True):
        is_image_token = input_ids == model.config.image_token_id
        pictures.extend(_order(entry, is_image_token, per_tile))
    return {"pixel_values": torch.cat(pictures)} if pictures else {}


def _order(entry: ImageTensors, is_image_token: Bool[Tensor, " token"], per_tile: int) -> list[Tensor]:
    """Images and frames of one prompt in its order, which the lengths of runs of image tokens tell.

    Raises SampleError (stage encode) where they do not: for an image of one tile beside a video.
    """
    num_tiles = entry.get("num_patches", torch.zeros(0, dtype=torch.int64)).tolist()
    images = list(entry["pixel_values"].split(num_tiles)) if num_tiles else []
    frames = list(entry["pixel_values_videos"].split(1)) if "num_frames" in entry else []
    if not images or not frames:
        return images or frames
    if 1 in num_tiles:
        raise SampleError(
            "a prompt shows a video and an image of one tile, whose tokens look like those of a frame. "
            "Show images and videos in separate samples, or larger images. Sample skipped.",
            stage="encode",
            code="image_unsupported",
        )
    is_run, lengths = torch.unique_consecutive(is_image_token, return_counts=True)
    waiting = {True: iter(frames), False: iter(images)}
    return [next(waiting[length == per_tile]) for length in lengths[is_run].tolist()]


def _side_in_tokens(config: Any) -> int:
    """Tokens along one side of a tile: pixel shuffle makes one of 2 x 2 patches."""
    tower = config.vision_config
    return int(tower.image_size[0] // tower.patch_size[0] * config.downsample_ratio)


def _choose_grid(processor: Any, size: tuple[int, int]) -> tuple[int, int]:
    """(columns, rows) of tiles, by the processor's own rule: the nearest aspect ratio, more tiles for larger images."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

    tile = (int(processor.size["height"]), int(processor.size["width"]))
    columns, rows = get_optimal_tiled_canvas(
        (size[1], size[0]), tile, int(processor.min_patches), int(processor.max_patches)
    )
    return int(columns), int(rows)
