"""LLaVA-OneVision: one image comes in any resolution, several come as one padded square each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from rampipe.models.anyres import Tiling, base_boxes, count_tiles, stitched_boxes
from rampipe.models.axis import blend_spans, cross, patch_spans, place_spans
from rampipe.models.family import ImageTensors
from rampipe.models.frames import process_frames
from rampipe.models.vision import Vision

MODEL_TYPES = ("llava_onevision",)
VIDEO = True


def image_token_id(model_config: Any) -> int:
    """Id of `<image>`."""
    return int(model_config.image_token_id)


def placeholder(vision: Vision) -> str:
    """The image token."""
    return vision.image_token


def process_images(vision: Vision, images: Sequence[Image.Image]) -> dict[str, Tensor]:
    """`pixel_values` [tile, channel, height, width], `image_sizes` [image, 2], `batch_num_images` [1].

    image_sizes: (height, width) of each stored image. Tiles that the processor adds to fill up are dropped.
    """
    features = vision.image_processor(images=[list(images)], do_pad=True, return_tensors="pt")
    sizes = torch.as_tensor(features["image_sizes"])
    tiling = tiling_of(vision.config)
    counts = [1 if len(images) > 1 else count_tiles((width, height), tiling) for height, width in sizes.tolist()]
    tiles = [of_image[:count] for of_image, count in zip(features["pixel_values"], counts, strict=True)]
    return {"pixel_values": torch.cat(tiles), "image_sizes": sizes, "batch_num_images": torch.tensor([len(images)])}


def expand_placeholders(vision: Vision, tensors: ImageTensors) -> list[str]:
    """Tokens of all views and newlines: all are the image token."""
    sizes = [(width, height) for height, width in tensors["image_sizes"].tolist()]
    return [vision.image_token * len(boxes) for boxes in visual_boxes(vision, tensors, sizes)]


def visual_boxes(vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]) -> list[Float[Tensor, "_ 4"]]:
    """One image: base view, then the stitched view. Several: the padded square of each, and one newline (NaN)."""
    tiling = tiling_of(vision.config)
    if len(sizes) == 1:
        return [torch.cat([base_boxes(sizes[0], tiling), stitched_boxes(sizes[0], tiling)])]
    newline = torch.full((1, 4), torch.nan, dtype=torch.float64)
    return [torch.cat([_square_boxes(size, tiling), newline]) for size in sizes]


def video_token_id(model_config: Any) -> int:
    """Id of `<video>`."""
    return int(model_config.video_token_id)


def video_placeholder(vision: Vision) -> str:
    """The video token."""
    return str(vision.video_token)


def process_videos(vision: Vision, videos: Sequence[Sequence[Image.Image]]) -> dict[str, Tensor]:
    """`pixel_values_videos` [video, frame, channel, height, width]: the model stacks videos of one length only."""
    lengths = sorted({len(frames) for frames in videos})
    if len(lengths) > 1:
        raise ValueError(f"videos of one prompt have {lengths[0]} and {lengths[-1]} frames; sample as many of each")
    return {"pixel_values_videos": torch.stack([process_frames(vision, frames) for frames in videos])}


def expand_videos(vision: Vision, tensors: ImageTensors) -> list[str]:
    """Pooled tokens frame after frame, and one newline at the end of the video."""
    num_videos, num_frames = tensors["pixel_values_videos"].shape[:2]
    per_frame = len(_pooled_spans(tiling_of(vision.config))) ** 2
    return [str(vision.video_token) * (num_frames * per_frame + 1)] * num_videos


def video_boxes(
    vision: Vision, tensors: ImageTensors, sizes: Sequence[tuple[int, int]]
) -> list[tuple[Float[Tensor, "_ 4"], Int[Tensor, "_ _"]]]:
    """Row by row in each frame; a token is blended from about 2 x 2 patches. The newline has no place and no frame."""
    tiling = tiling_of(vision.config)
    spans, num_frames = _pooled_spans(tiling), tensors["pixel_values_videos"].shape[1]
    newline = torch.full((1, 4), torch.nan, dtype=torch.float64)
    shown = torch.arange(num_frames).repeat_interleave(len(spans) ** 2)
    frames = torch.cat([shown, torch.tensor([-1])])[:, None]
    found: list[tuple[Tensor, Tensor]] = []
    for size in sizes:
        columns, rows = (place_spans(spans, offset_px=0, shown_px=tiling.tile_px, stored_px=side) for side in size)
        found.append((torch.cat([cross(rows, columns).repeat(num_frames, 1), newline]), frames))
    return found


def token_inputs(vision: Vision, input_ids: Int[Tensor, " token"]) -> dict[str, Tensor]:
    """Nothing: positions are 0, 1, 2..."""
    return {}


def forward_inputs(model: Any, tensors: Sequence[ImageTensors], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tiles and sizes of all images of the batch, how many images each prompt has (several are not tiled), and videos.

    The model stacks videos, which therefore have one length: see `Prompt.stack_kind`.
    """
    names = dict.fromkeys(name for entry in tensors for name in entry)
    return {name: torch.cat([entry[name] for entry in tensors if name in entry]) for name in names}


def tiling_of(config: Any) -> Tiling:
    """Canvases and tiles of a configuration."""
    tower = config.vision_config
    max_tiles = int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
    return Tiling(config.image_grid_pinpoints, int(tower.image_size), int(tower.patch_size), max_tiles)


def _pooled_spans(tiling: Tiling) -> Float[Tensor, "token 2"]:
    """Tokens along one side of a frame: half as many as patches, rounded up."""
    spans = patch_spans(1, tiling.tile_px, tiling.patch_px)
    return blend_spans(spans, math.ceil(len(spans) / 2))


def _square_boxes(size: tuple[int, int], tiling: Tiling) -> Float[Tensor, "token 4"]:
    """Tokens of an image padded to a square by its longer side."""
    scale = tiling.tile_px / max(size)
    spans = patch_spans(1, tiling.tile_px, tiling.patch_px)
    columns, rows = (
        place_spans(spans, offset_px=(max(size) - side) // 2 * scale, shown_px=side * scale, stored_px=side)
        for side in size
    )
    return cross(rows, columns)
