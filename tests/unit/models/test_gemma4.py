"""Gemma 4: pooled patches at the size of the published checkpoints, against the pixels of each token."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import Gemma4Config, Gemma4ImageProcessorPil
from transformers.models.gemma4.processing_gemma4 import Gemma4Processor
from transformers.video_utils import VideoMetadata

from rampipe.models import gemma4
from rampipe.models.vision import Vision
from tests.unit.models.coordinates import SIZES, coordinate_image, largest_error


@pytest.fixture(scope="module")
def vision():
    return Vision(Gemma4Config(vision_config={}), Gemma4ImageProcessorPil(), {}, {}, "#")


def _encode(vision, sizes):
    tensors = gemma4.process_images(vision, [coordinate_image(*size) for size in sizes])
    return tensors, gemma4.visual_boxes(vision, tensors, sizes)


def _read_tokens(tensors) -> list[torch.Tensor]:
    """(x, y, 1) [token, 3] of each image: patches go to tokens by the positions that come with them."""
    tokens: list[torch.Tensor] = []
    for pixels, positions in zip(tensors["pixel_values"], tensors["image_position_ids"], strict=True):
        is_patch = positions[:, 0] >= 0
        colours = pixels[is_patch].double().reshape(-1, 16 * 16, 3).mean(dim=1)
        column, row = (positions[is_patch] // 3).unbind(dim=1)
        index = row * (int(column.max()) + 1) + column
        sums = torch.zeros(int(index.max()) + 1, 3, dtype=torch.float64).index_add(0, index, colours / 9)
        sums[:, :2] = sums[:, :2] * 255 + 0.5
        tokens.append(sums)
    return tokens


def test_boxes_are_where_the_pixels_came_from(vision):
    tensors, boxes = _encode(vision, SIZES)
    for size, of_image, tokens in zip(SIZES, boxes, _read_tokens(tensors), strict=True):
        assert 140 < len(of_image) <= 280
        assert largest_error(of_image, tokens) < 0.75, size
        assert of_image[-1, 2:].tolist() == pytest.approx(size)


def test_transposed_grid_fails_the_oracle(vision):
    size = (230, 90)
    tensors, _ = _encode(vision, [size])
    (boxes,) = gemma4.visual_boxes(vision, {"image_position_ids": tensors["image_position_ids"].flip(2)}, [size])
    assert largest_error(boxes, _read_tokens(tensors)[0]) > 20


def test_text_is_that_of_the_processor(vision):
    images = [coordinate_image(*size) for size in SIZES]
    counts = vision.image_processor(images=images, return_tensors="pt")
    processor = Gemma4Processor.__new__(Gemma4Processor)
    processor.boi_token, processor.image_token, processor.eoi_token = "<|image>", "#", "<image|>"
    expected = [processor.replace_image_token(counts, index) for index in range(len(images))]
    assert gemma4.expand_placeholders(vision, gemma4.process_images(vision, images)) == expected


def _videos(vision):
    film = replace(vision, video_token="$", video_settings={"fps": 0.1})
    videos = [[coordinate_image(230, 90)] * 8, [coordinate_image(60, 250)]]
    return film, gemma4.process_videos(film, videos)


def test_frames_are_images_of_fewer_tokens(vision):
    film, tensors = _videos(vision)
    (wide, frames), (tall, _) = gemma4.video_boxes(film, tensors, [(230, 90), (60, 250)])
    tokens = _read_tokens(
        {"pixel_values": tensors["pixel_values_videos"], "image_position_ids": tensors["video_position_ids"]}
    )
    assert largest_error(wide, torch.cat(tokens[:8])) < 0.75
    assert largest_error(tall, tokens[8]) < 0.75
    assert 40 < len(tall) <= 70
    assert frames.flatten().tolist() == [frame for frame in range(8) for _ in range(len(wide) // 8)]
    with pytest.raises(ValueError, match="needed: one"):
        gemma4.process_videos(film, [[coordinate_image(230, 90), coordinate_image(90, 230)]])


def test_text_of_videos_is_that_of_the_processor(vision):
    film, tensors = _videos(vision)
    processor = Gemma4Processor.__new__(Gemma4Processor)
    processor.boi_token, processor.video_token, processor.eoi_token = "<|image>", "$", "<image|>"
    counts = [len(tokens) // 8 for tokens, _ in gemma4.video_boxes(film, tensors, [(230, 90), (60, 250)])]
    times = [VideoMetadata(total_num_frames=count, fps=0.1, frames_indices=list(range(count))) for count in (8, 1)]
    given = {"num_soft_tokens_per_video": [counts[0], counts[1] * 8], "video_metadata": times}
    assert gemma4.expand_videos(film, tensors)[0] == processor.replace_video_token(given, 0)
    assert "01:10 <|image>$" in gemma4.expand_videos(film, tensors)[0]
    assert gemma4.expand_videos(film, tensors)[1].startswith("00:00 <|image>$")
