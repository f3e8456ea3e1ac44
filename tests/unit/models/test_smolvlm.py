"""SmolVLM: images as Idefics3's, and videos, at the size of the published checkpoints."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import SmolVLMConfig, SmolVLMImageProcessorPil
from transformers.models.smolvlm import processing_smolvlm
from transformers.video_utils import VideoMetadata

from rampipe.errors import SampleError
from rampipe.models import idefics3, smolvlm
from rampipe.models.vision import Vision
from tests.unit.models.coordinates import SIZES, coordinate_image, largest_error, read_cells

SAMPLING = {"video_sampling": {"fps": 0.5, "max_frames": 64, "video_size": {"longest_edge": 512}}}


@pytest.fixture(scope="module")
def vision():
    """The longest edge of images is 2048 px when published; fewer tiles do here."""
    processor = SmolVLMImageProcessorPil(size={"longest_edge": 1024}, max_image_size={"longest_edge": 512})
    config = SmolVLMConfig(vision_config={"image_size": 512, "patch_size": 16}, scale_factor=4)
    return Vision(config, processor, {}, SAMPLING, "#")


def test_boxes_of_tiles_are_where_the_pixels_came_from(vision):
    tensors = smolvlm.process_images(vision, [coordinate_image(*size) for size in SIZES])
    boxes = smolvlm.visual_boxes(vision, tensors, SIZES)
    num_tiles = (tensors["rows"] * tensors["cols"] + 1).tolist()
    views = read_cells(vision.image_processor, tensors["pixel_values"][0], 64).split(num_tiles)
    for size, of_image, cells in zip(SIZES, boxes, views, strict=True):
        assert largest_error(of_image, cells.flatten(0, 1)) < 0.75, size


def test_text_of_images_is_that_of_the_processor(vision):
    tensors = smolvlm.process_images(vision, [coordinate_image(*size) for size in SIZES[:2]])
    expected = [
        processing_smolvlm.get_image_prompt_string(rows, columns, 64, idefics3.AROUND, "#", idefics3.WHOLE)
        for rows, columns in zip(tensors["rows"].tolist(), tensors["cols"].tolist(), strict=True)
    ]
    assert smolvlm.expand_placeholders(vision, tensors) == expected


def _videos(vision):
    return smolvlm.process_videos(vision, [[coordinate_image(230, 90)] * 3, [coordinate_image(60, 250)]])


def test_boxes_of_frames_are_where_the_pixels_came_from(vision):
    tensors = _videos(vision)
    (wide, frames), (tall, _) = smolvlm.video_boxes(vision, tensors, [(230, 90), (60, 250)])
    cells = read_cells(vision.image_processor, tensors["pixel_values_videos"], 64)
    assert largest_error(wide, cells[:3].flatten(0, 1)) < 0.75
    assert largest_error(tall, cells[3]) < 0.75
    assert largest_error(wide[:64], cells[3]) > 20
    assert frames.flatten().tolist() == [frame for frame in range(3) for _ in range(64)]


def test_text_of_videos_is_that_of_the_processor(vision, monkeypatch):
    monkeypatch.setattr(processing_smolvlm, "num2words", {3: "three", 1: "one"}.get)
    processor = processing_smolvlm.SmolVLMProcessor.__new__(processing_smolvlm.SmolVLMProcessor)
    processor.image_seq_len, processor.image_token = 64, "#"
    processor.fake_image_token, processor.global_image_token = idefics3.AROUND, idefics3.WHOLE
    for index, (num_frames, text) in enumerate(
        zip((3, 1), smolvlm.expand_videos(vision, _videos(vision)), strict=True)
    ):
        times = VideoMetadata(total_num_frames=num_frames, fps=0.5, frames_indices=list(range(num_frames)))
        pixels = SimpleNamespace(shape=(2, num_frames, 3, 512, 512))
        assert text == processor.replace_video_token({"pixel_values": pixels, "video_metadata": [times] * 2}, index)
    assert smolvlm.expand_videos(vision, _videos(vision))[0].startswith(
        "You are provided the following series of three frames from a 0:00:04 [H:MM:SS] video.\n\nFrame from 00:00:<"
    )


def test_numbers_are_written_as_words():
    words = {7: "seven", 20: "twenty", 64: "sixty-four", 100: "one hundred", 712: "seven hundred and twelve"}
    assert {number: smolvlm.number_in_words(number) for number in words} == words
    with pytest.raises(ValueError, match="up to 999"):
        smolvlm.number_in_words(1000)


def test_tiles_and_frames_are_put_in_the_order_of_the_prompt():
    """Tokens: 9 is the image's, 1 `<global-img>`, 2 and 3 places of tiles, 0 text."""
    model = SimpleNamespace(config=SimpleNamespace(image_token_id=9))
    tiles, frames = torch.arange(3.0).reshape(1, 3, 1, 1, 1), torch.arange(10.0, 12.0).reshape(2, 1, 1, 1)
    entry = {"pixel_values": tiles, "rows": torch.tensor([1]), "cols": torch.tensor([2])}
    entry |= {"pixel_values_videos": frames, "num_frames": torch.tensor([2])}
    image, video = [2, 9, 9, 3, 9, 9, 0, 1, 9, 9, 0], [0, 1, 9, 9, 0, 0, 1, 9, 9, 0]

    def order(ids):
        return (
            smolvlm.forward_inputs(model, [entry], {"input_ids": torch.tensor([ids])})["pixel_values"]
            .flatten()
            .tolist()
        )

    assert order([0, 0, *image, *video]) == [0, 1, 2, 10, 11]
    assert order([0, 0, *video, *image]) == [10, 11, 0, 1, 2]
    whole = {**entry, "pixel_values": tiles[:, :1], "rows": torch.tensor([0]), "cols": torch.tensor([0])}
    with pytest.raises(SampleError, match="an image of one tile"):
        smolvlm.forward_inputs(model, [whole], {"input_ids": torch.tensor([[0, 1, 9, 9, *video]])})
