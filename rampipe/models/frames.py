"""Frames of a video as pictures of one size. Video processors of transformers need torchvision; this does not."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from rampipe.models.vision import Vision

SETTINGS = ("size", "resample", "rescale_factor", "image_mean", "image_std")


def process_frames(vision: Vision, frames: Sequence[Image.Image]) -> Float[Tensor, "frame channel height width"]:
    """Each frame resized, without regard to its aspect, and normalised as the video processor's file says.

    What the file leaves out is the image processor's. torchvision's bicubic filter differs from Pillow's by rounding.
    """
    from transformers import CLIPImageProcessorPil

    settings = {name: getattr(vision.image_processor, name) for name in SETTINGS}
    settings |= {name: value for name, value in vision.video_settings.items() if name in SETTINGS and value is not None}
    processor = CLIPImageProcessorPil(**settings, do_center_crop=False, do_convert_rgb=True)
    return processor(images=list(frames), return_tensors="pt")["pixel_values"]
