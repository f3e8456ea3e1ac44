"""Frames merged in pairs: the layout of transformers' video processor, from Pillow's image processor."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen2VLImageProcessorPil, Qwen3VLConfig, Qwen3VLProcessor
from transformers.image_utils import SizeDict
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.video_utils import VideoMetadata

from rampipe.models import qwen2_vl, qwen3_vl
from rampipe.models.vision import Vision
from tests.unit.models.coordinates import coordinate_image

LIMITS = {"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 30}


def _vision(config, **video_settings) -> Vision:
    settings = {"size": LIMITS, **video_settings}
    return Vision(config, Qwen2VLImageProcessorPil(size=LIMITS), {}, settings, "#", "@")


def _frames(count: int, size: tuple[int, int] = (112, 84)) -> list[Image.Image]:
    return [coordinate_image(*size).point(lambda value, shift=index: value // (shift + 1)) for index in range(count)]


def _patchify(vision: Vision, frames: list[Image.Image]) -> torch.Tensor:
    """By the video processor itself, over frames that need no resize."""
    stills = [vision.image_processor(images=[frame], do_resize=False, return_tensors="pt") for frame in frames]
    patches = torch.stack([still["pixel_values"] for still in stills])
    height, width = frames[0].height // 14, frames[0].width // 14
    grid = patches.reshape(len(frames), height // 2, width // 2, 2, 2, 3, 2, 14, 14)[:, :, :, :, :, :, 0]
    pixels = grid.permute(0, 5, 1, 3, 6, 2, 4, 7).reshape(1, len(frames), 3, height * 14, width * 14)
    return Qwen3VLVideoProcessor.patchify(None, pixels, 14, 2, 2)[0][0]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_layout_is_that_of_the_video_processor(count):
    vision, frames = _vision(Qwen2_5_VLConfig()), _frames(count)
    tensors = qwen2_vl.process_videos(vision, [frames])
    assert torch.equal(tensors["pixel_values_videos"], _patchify(vision, frames))
    assert tensors["video_grid_thw"].tolist() == [[(count + 1) // 2, 6, 8]]
    if count > 1:
        assert not torch.equal(tensors["pixel_values_videos"], _patchify(vision, frames[::-1]))


@pytest.mark.parametrize("count", [2, 5])
def test_boxes_and_frames_of_tokens(count):
    vision, size = _vision(Qwen2_5_VLConfig()), (112, 84)
    tensors = qwen2_vl.process_videos(vision, [_frames(count)])
    ((boxes, frames),) = qwen2_vl.video_boxes(vision, tensors, [size])
    assert qwen2_vl.expand_videos(vision, tensors) == ["@" * len(boxes)]
    assert boxes[:2].tolist() == [[0, 0, 28, 28], [28, 0, 56, 28]]
    assert torch.equal(boxes[:12], boxes[-12:])
    assert frames[:12].tolist() == [[0, 1]] * 12
    assert frames[-12:].tolist() == [[4, -1] if count == 5 else [0, 1]] * 12


def test_times_are_those_of_the_sampling_rate():
    frames = _frames(4)
    for rate, seconds in ((None, 1.0), (4, 0.5)):
        vision = _vision(Qwen2_5_VLConfig(), fps=rate)
        assert qwen2_vl.process_videos(vision, [frames])["second_per_grid_ts"].tolist() == [seconds]


@pytest.mark.parametrize("count", [2, 3])
def test_text_is_that_of_the_processor(count):
    """At two frames a second; the times of an odd frame count once."""
    vision = _vision(Qwen3VLConfig(), fps=2)
    tensors = qwen3_vl.process_videos(vision, [_frames(count)])
    processor = Qwen3VLProcessor.__new__(Qwen3VLProcessor)
    processor.video_processor = SimpleNamespace(merge_size=2, temporal_patch_size=2)
    processor.video_token = "@"
    processor.vision_start_token, processor.vision_end_token = "<|vision_start|>", "<|vision_end|>"
    metadata = VideoMetadata(total_num_frames=count, fps=2.0, frames_indices=list(range(count)))
    inputs = {"video_grid_thw": tensors["video_grid_thw"], "video_metadata": [metadata]}
    assert qwen3_vl.expand_videos(vision, tensors) == [processor.replace_video_token(inputs, 0)]
    other = _vision(Qwen3VLConfig(), fps=1)
    assert qwen3_vl.expand_videos(other, tensors) != [processor.replace_video_token(inputs, 0)]


@pytest.mark.parametrize("is_capped", [False, True])
def test_sizes_are_those_of_the_video_processor(monkeypatch, is_capped):
    """What Qwen3-VL's would resize to: only the resize itself needs torchvision."""
    base = next(parent for parent in Qwen3VLVideoProcessor.__mro__[1:] if "resize" in vars(parent))
    monkeypatch.setattr(base, "resize", lambda self, image, size, resample: (size.height, size.width))
    own = Qwen3VLVideoProcessor.__new__(Qwen3VLVideoProcessor)
    own.max_video_tokens = 20
    vision = _vision(Qwen3VLConfig(), cap_pixels_per_frame=is_capped, max_video_tokens=20)
    for count, size in ((2, (300, 100)), (7, (90, 250)), (40, (30, 30))):
        expected = own.resize(
            torch.zeros(1, count, 3, size[1], size[0]),
            SizeDict(**LIMITS),
            None,
            28,
            temporal_factor=2,
            cap_pixels_per_frame=is_capped,
        )
        grid = qwen3_vl.process_videos(vision, [_frames(count, size)])["video_grid_thw"][0]
        assert grid[1:].tolist() == [side // 14 for side in expected]


def test_a_cap_shrinks_the_frames_of_long_videos():
    """Qwen2-VL's limits hold for each frame, and with the cap for all together."""
    for cap, long_grid in ((False, [10, 10]), (True, [4, 4])):
        vision = _vision(Qwen2_5_VLConfig(), cap_pixels_per_frame=cap, max_video_tokens=100)
        grids = [
            qwen2_vl.process_videos(vision, [_frames(count, (200, 200))])["video_grid_thw"][0] for count in (2, 30)
        ]
        assert grids[0][1:].tolist() == [10, 10]
        assert grids[1][1:].tolist() == long_grid


def test_frames_of_several_sizes_are_refused():
    with pytest.raises(ValueError, match="needed: one"):
        qwen2_vl.process_videos(_vision(Qwen2_5_VLConfig()), [[*_frames(1), *_frames(1, (56, 56))]])
