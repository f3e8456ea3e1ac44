"""GLM-4V: merged patches at the size of the published checkpoints, against the pixels of each token."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Glm4vConfig, Glm4vImageProcessorPil, Glm46VConfig
from transformers.models.glm4v.processing_glm4v import Glm4vProcessor
from transformers.models.glm4v.video_processing_glm4v import Glm4vVideoProcessor
from transformers.models.glm46v.processing_glm46v import Glm46VProcessor
from transformers.video_utils import VideoMetadata

from rampipe.models import glm4v
from rampipe.models.vision import Vision
from tests.unit.models.coordinates import SIZES, coordinate_image, largest_error


@pytest.fixture(scope="module")
def vision():
    return Vision(Glm4vConfig(), Glm4vImageProcessorPil(), {}, {}, "#")


def _encode(vision, sizes):
    tensors = glm4v.process_images(vision, [coordinate_image(*size) for size in sizes])
    return tensors, glm4v.visual_boxes(vision, tensors, sizes)


def _read_tokens(processor, tensors) -> list[torch.Tensor]:
    """(x, y, 1) [token, 3] of each image: four neighbouring rows of `pixel_values` are one token."""
    pixels = tensors["pixel_values"].double().reshape(-1, 4, 3, 2, 14 * 14).mean(dim=(1, 3, 4))
    colours = pixels * torch.tensor(processor.image_std) + torch.tensor(processor.image_mean)
    colours[:, :2] = colours[:, :2] * 255 + 0.5
    return list(colours.split((tensors["image_grid_thw"].prod(dim=1) // 4).tolist()))


def test_boxes_are_where_the_pixels_came_from(vision):
    tensors, boxes = _encode(vision, SIZES)
    for size, of_image, tokens in zip(SIZES, boxes, _read_tokens(vision.image_processor, tensors), strict=True):
        assert largest_error(of_image, tokens) < 0.75, size
        assert of_image[-1, 2:].tolist() == pytest.approx(size)


def test_transposed_grid_fails_the_oracle(vision):
    size = (230, 90)
    tensors, _ = _encode(vision, [size])
    turned = {"image_grid_thw": tensors["image_grid_thw"][:, [0, 2, 1]]}
    (boxes,) = glm4v.visual_boxes(vision, turned, [size])
    assert largest_error(boxes, _read_tokens(vision.image_processor, tensors)[0]) > 20


def test_text_is_that_of_the_processor(vision):
    tensors, _ = _encode(vision, SIZES)
    processor = Glm4vProcessor.__new__(Glm4vProcessor)
    processor.image_token, processor.image_processor = "#", vision.image_processor
    expected = [processor.replace_image_token(tensors, index) for index in range(len(SIZES))]
    assert glm4v.expand_placeholders(vision, tensors) == expected


LIMITS = {"size": {"shortest_edge": 112 * 112, "longest_edge": 28 * 28 * 40}}


@pytest.mark.parametrize("num_frames", [2, 5])
def test_frames_are_laid_out_as_by_the_video_processor(vision, num_frames):
    """Its resize needs torchvision, so the frames have the right size already."""
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (84, 112, 3), dtype=np.uint8)) for _ in range(num_frames)]
    tensors = glm4v.process_videos(vision, [frames])
    processor = Glm4vVideoProcessor()
    pixels = torch.stack([torch.tensor(np.asarray(frame)).permute(2, 0, 1) / 255 for frame in frames])
    mean, std = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
    expected, *grid = processor.patchify(((pixels - mean) / std)[None], 14, 2, 2)
    assert tensors["video_grid_thw"].tolist() == [grid] == [[(num_frames + 1) // 2, 6, 8]]
    assert torch.allclose(tensors["pixel_values_videos"], expected[0], atol=1e-5)


def test_all_frames_share_the_limit(vision):
    limited = replace(vision, video_settings=LIMITS)
    sizes = {}
    for num_frames in (2, 12):
        tensors = glm4v.process_videos(limited, [[coordinate_image(280, 140)] * num_frames])
        sizes[num_frames] = tensors["video_grid_thw"].tolist()
    assert sizes == {2: [[1, 6, 12]], 12: [[6, 2, 4]]}
    with pytest.raises(ValueError, match="temporal_factor"):
        glm4v.process_videos(vision, [[coordinate_image(280, 140)]])


@pytest.mark.parametrize(("config", "kind"), [(Glm4vConfig, Glm4vProcessor), (Glm46VConfig, Glm46VProcessor)])
@pytest.mark.parametrize("num_frames", [2, 3, 9])
def test_text_of_a_video_is_that_of_the_processor(vision, config, kind, num_frames):
    family = replace(vision, config=config(), video_settings={"fps": 3})
    tensors = glm4v.process_videos(family, [[coordinate_image(112, 84)] * num_frames])
    processor = kind.__new__(kind)
    processor.image_token, processor.video_processor = "#", SimpleNamespace(merge_size=2)
    times = VideoMetadata(total_num_frames=num_frames, fps=3, frames_indices=list(range(num_frames)))
    expected = processor.replace_video_token({**tensors, "video_metadata": [times]}, 0)
    assert glm4v.expand_videos(family, tensors) == [expected]


def test_tokens_of_a_video_show_pairs_of_frames(vision):
    tensors = glm4v.process_videos(vision, [[coordinate_image(112, 84)] * 3])
    ((boxes, frames),) = glm4v.video_boxes(vision, tensors, [(112, 84)])
    assert len(boxes) == len(frames) == 24
    assert frames.unique_consecutive(dim=0).tolist() == [[0, 1], [2, -1]]
    assert boxes[11].tolist() == boxes[23].tolist() == [84, 56, 112, 84]
