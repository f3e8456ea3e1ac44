"""Frames as the video processor's file says, and as the image processor's where it says nothing."""

from __future__ import annotations

import torch
from transformers import CLIPImageProcessorPil, GotOcr2ImageProcessorPil

from rampipe.models.frames import process_frames
from rampipe.models.vision import Vision
from tests.unit.models.coordinates import coordinate_image


def _vision(**video_settings) -> Vision:
    processor = GotOcr2ImageProcessorPil(size={"height": 40, "width": 40}, crop_to_patches=False)
    return Vision(None, processor, {}, video_settings, "#")


def test_silent_file_leaves_the_image_processor():
    vision = _vision(size=None, model_max_length=3)
    frames = [coordinate_image(50, 20), coordinate_image(50, 20)]
    expected = vision.image_processor(images=frames, return_tensors="pt")["pixel_values"]
    assert torch.equal(process_frames(vision, frames), expected)


def test_settings_of_the_file_are_taken():
    settings = {"size": {"height": 24, "width": 32}, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.5]}
    frames = [coordinate_image(50, 20)]
    pixels = process_frames(_vision(**settings), frames)
    assert pixels.shape == (1, 3, 24, 32)
    expected = CLIPImageProcessorPil(**settings, do_center_crop=False)(images=frames, return_tensors="pt")
    assert torch.equal(pixels, expected["pixel_values"])
    assert not torch.equal(pixels, process_frames(_vision(**{**settings, "image_mean": [0, 0, 0]}), frames))
