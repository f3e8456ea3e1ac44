"""The images of a sample as the model will see them. The costly part of encoding, shared by prompts of one context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64
from PIL import Image
from torch import Tensor

from rampipe.errors import SampleError
from rampipe.models.family import VideoFamily, VisionFamily, as_video, as_vision
from rampipe.models.replica import Replica
from rampipe.models.vision import Vision
from rampipe.types import ContextPart, Sample


@dataclass(frozen=True, slots=True)
class VisualPart:
    """One image or video of the context."""

    placeholder: str
    """What the chat template writes for it."""
    text: str
    """What it becomes in the prompt's text."""
    boxes: Float[Tensor, "visual 4"]
    """(x0, y0, x1, y1) of each of its visual tokens, in pixels of the stored image; NaN without a place."""
    frames: Int[Tensor, "visual frame"]
    """Index into `Sample.images` of what each token shows: one image, or frames of a video; filled up with -1."""


@dataclass(frozen=True, slots=True)
class VisualFeatures:
    """The images and videos that the context shows, in its order; one shown twice is here twice."""

    tensors: Mapping[str, Tensor]
    """Of the image processor, by the name that the model's forward expects; empty without images."""
    parts: tuple[VisualPart, ...]
    sizes: tuple[tuple[int, int], ...]
    """(width, height) of each of `Sample.images`, shown or not."""
    token_boxes: Float64[np.ndarray, "visual 4"]
    """Those of all parts."""
    token_frames: Int64[np.ndarray, "visual frame"]
    """Those of all parts, as wide as the token that shows the most frames."""


def process_images(replica: Replica, sample: Sample, images: Sequence[Image.Image]) -> VisualFeatures:
    """Runs the image processor over the images that the context shows. `images` are the decoded `Sample.images`.

    Raises SampleError (stage encode): image_index, image_unsupported, video_unsupported.
    """
    sizes = tuple((image.width, image.height) for image in images)
    shown = [(part.kind, _indices(sample, part, len(images))) for part in sample.context if part.kind != "text"]
    if not shown:
        return VisualFeatures({}, (), sizes, *_join_parts(()))
    family, video, vision = as_vision(replica.family), as_video(replica.family), replica.vision
    if vision is None or family is None:
        message = "the context shows an image, and the model reads text only. Use a model with vision"
        raise _error(sample, message, "image_unsupported")
    stills = [indices[0] for kind, indices in shown if kind == "image"]
    clips = [indices for kind, indices in shown if kind == "video"]
    if clips and (video is None or vision.video_token is None):
        message = "the context shows a video, which this model is not shown as such. Show its frames as images"
        raise _error(sample, message, "video_unsupported")
    try:
        still_tensors, still_parts = _show_images(family, vision, images, stills)
        clip_tensors, clip_parts = ({}, []) if video is None else _show_videos(video, vision, images, clips)
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise _error(sample, f"the image processor refuses an image ({reason})", "image_unsupported") from error
    waiting = {"image": iter(still_parts), "video": iter(clip_parts)}
    parts = tuple(next(waiting[kind]) for kind, _ in shown)
    return VisualFeatures({**still_tensors, **clip_tensors}, parts, sizes, *_join_parts(parts))


def _show_images(
    family: VisionFamily, vision: Vision, images: Sequence[Image.Image], shown: Sequence[int]
) -> tuple[dict[str, Tensor], list[VisualPart]]:
    if not shown:
        return {}, []
    chosen = [images[index] for index in shown]
    tensors = family.process_images(vision, chosen)
    texts = family.expand_placeholders(vision, tensors)
    boxes = family.visual_boxes(vision, tensors, [(image.width, image.height) for image in chosen])
    placeholder = family.placeholder(vision)
    parts = [
        VisualPart(placeholder, text, of_image, torch.full((len(of_image), 1), index, dtype=torch.int64))
        for index, text, of_image in zip(shown, texts, boxes, strict=True)
    ]
    return tensors, parts


def _show_videos(
    family: VideoFamily, vision: Vision, images: Sequence[Image.Image], shown: Sequence[Sequence[int]]
) -> tuple[dict[str, Tensor], list[VisualPart]]:
    if not shown:
        return {}, []
    videos = [[images[index] for index in frames] for frames in shown]
    tensors = family.process_videos(vision, videos)
    texts = family.expand_videos(vision, tensors)
    placed = family.video_boxes(vision, tensors, [(frames[0].width, frames[0].height) for frames in videos])
    placeholder = family.video_placeholder(vision)
    parts: list[VisualPart] = []
    for indices, text, (boxes, frames) in zip(shown, texts, placed, strict=True):
        of_sample = torch.tensor(indices)[frames.clamp(min=0)].masked_fill(frames < 0, -1)
        parts.append(VisualPart(placeholder, text, boxes, of_sample))
    return tensors, parts


def _join_parts(
    parts: Sequence[VisualPart],
) -> tuple[Float64[np.ndarray, "visual 4"], Int64[np.ndarray, "visual frame"]]:
    """Boxes and frames of all visual tokens."""
    width = max((part.frames.shape[1] for part in parts), default=1)
    frames = [np.full((len(part.frames), width), -1, dtype=np.int64) for part in parts]
    for joined, part in zip(frames, parts, strict=True):
        joined[:, : part.frames.shape[1]] = part.frames.numpy()
    return (
        np.concatenate([np.zeros((0, 4)), *(part.boxes.numpy() for part in parts)]),
        np.concatenate([np.zeros((0, width), dtype=np.int64), *frames]),
    )


def _indices(sample: Sample, part: ContextPart, num_images: int) -> tuple[int, ...]:
    """What a part shows, as indices into `Sample.images`: one of an image, one or more of a video."""
    named = (part.frames or ()) if part.kind == "video" else (part.image,)
    indices = tuple(index for index in named if index is not None and 0 <= index < num_images)
    if len(indices) < len(named) or not indices:
        message = f"a part shows images {list(named)}, but the sample has {num_images}. Use indices from 0"
        raise _error(sample, message, "image_index")
    return indices


def _error(sample: Sample, message: str, code: str) -> SampleError:
    return SampleError(f"sample {sample.sample_id}: {message}. Sample skipped.", stage="encode", code=code)
