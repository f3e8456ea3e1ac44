"""Evidence to tokens: overlaps, clipping and refusals, and the precedence of regions."""

from __future__ import annotations

import numpy as np
import pytest

from rampipe.config import EvidenceConfig
from rampipe.errors import SampleError
from rampipe.models.images import decode_images
from rampipe.models.prompts import encode
from rampipe.models.tokens import overlap_frac
from rampipe.types import NUM_SINK_TOKENS, REGIONS, Evidence

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def regions_of(tiny, make_sample):
    """Encodes a sample of two images (2x4 and 3x3 tokens of 16 px) and texts around; gives the prompt."""

    def run(*evidence: Evidence, min_overlap: float = 0.25, parts=("picture of", 0, "the dog", 1)):
        sample = make_sample(*parts, evidence=evidence)
        images = decode_images(sample, max_pixels=10**6)
        return encode(tiny, sample, images, evidence=EvidenceConfig(min_overlap=min_overlap))

    return run


def _box(*box: float, image: int = 0) -> Evidence:
    return Evidence("box", image=image, box=(float(box[0]), float(box[1]), float(box[2]), float(box[3])))


def _evidence(prompt) -> list[tuple[int, ...]]:
    """(image, x0, y0) of each visual token that is evidence."""
    is_evidence = prompt.regions[prompt.visual_positions] == REGIONS.index("evidence")
    images, boxes = prompt.token_frames[is_evidence, 0].tolist(), prompt.token_boxes[is_evidence].tolist()
    return [(image, int(box[0]), int(box[1])) for image, box in zip(images, boxes, strict=True)]


def test_overlap_is_a_share_of_the_token():
    boxes = np.array([[0, 0, 10, 10], [10, 0, 20, 10], [20, 0, 30, 10], [NAN] * 4])
    assert overlap_frac(boxes, (5.0, 0.0, 15.0, 2.0)).tolist() == pytest.approx([0.1, 0.1, 0, 0])
    assert overlap_frac(boxes, (-9.0, -9.0, 99.0, 99.0)).tolist() == pytest.approx([1, 1, 1, 0])


def test_boxes_choose_tokens_at_the_limit(regions_of):
    assert _evidence(regions_of(_box(16, 0, 36, 16))) == [(0, 16, 0), (0, 32, 0)]
    assert _evidence(regions_of(_box(16, 0, 35.9, 16))) == [(0, 16, 0)]
    assert _evidence(regions_of(_box(16, 0, 35.9, 16), min_overlap=0)) == [(0, 16, 0), (0, 32, 0)]
    assert _evidence(regions_of(_box(0, 17, 16, 32), _box(33, 33, 47, 47, image=1))) == [(0, 0, 16), (1, 32, 32)]


def test_touching_edges_is_not_overlap(regions_of):
    assert _evidence(regions_of(_box(16, 0, 32, 16), min_overlap=0)) == [(0, 16, 0)]


def test_whole_image_is_all_its_tokens(regions_of):
    prompt = regions_of(Evidence("image", image=1))
    assert {image for image, _, _ in _evidence(prompt)} == {1}
    assert len(_evidence(prompt)) == 9
    assert not (prompt.regions == REGIONS.index("evidence_image_rest")).any()


def test_image_shown_twice_is_evidence_twice(regions_of):
    prompt = regions_of(_box(0, 0, 16, 16), parts=(0, "dog", 0))
    assert _evidence(prompt) == [(0, 0, 0)] * 2
    assert int((prompt.regions == REGIONS.index("evidence_image_rest")).sum()) == 14


def test_small_box_is_refused_not_dropped(regions_of):
    with pytest.raises(SampleError, match=r"image 0 .* 3x2 px .* 2\.3% .* 16x16 px.*min_overlap=0") as caught:
        regions_of(_box(0, 0, 3, 2), _box(0, 16, 64, 32))
    assert (caught.value.stage, caught.value.code) == ("regions", "evidence_too_small")
    assert _evidence(regions_of(_box(0, 0, 3, 2), min_overlap=0)) == [(0, 0, 0)]


@pytest.mark.fault("B11")
def test_box_over_the_edge_is_clipped_and_flagged(regions_of):
    prompt = regions_of(_box(-5, -5, 16, 16))
    assert (_evidence(prompt), prompt.flags) == ([(0, 0, 0)], ("evidence_clipped",))
    assert regions_of(_box(0, 0, 64, 32)).flags == ()


@pytest.mark.fault("B11")
@pytest.mark.parametrize(
    "evidence",
    [
        _box(64, 0, 80, 16),
        _box(-10, 0, 0, 16),
        _box(20, 0, 10, 16),
        _box(10, 0, 10, 16),
        _box(NAN, 0, 10, 16),
        _box(0, 0, INF, 16),
        _box(0, 0, 10, 16, image=2),
        _box(0, 0, 10, 16, image=-1),
        Evidence("image", image=9),
        Evidence("image"),
        Evidence("box", image=0),
        Evidence("text", part=1, start=0, stop=3),
        Evidence("text", part=9, start=0, stop=3),
        Evidence("text", part=0, start=4, stop=4),
        Evidence("text", part=0, start=10, stop=12),
        Evidence("text", part=0, start=7, stop=8),
        Evidence("text", part=0),
    ],
    ids=str,
)
def test_evidence_that_is_nowhere_is_refused(regions_of, evidence):
    with pytest.raises(SampleError, match="s/1") as caught:
        regions_of(evidence)
    assert (caught.value.stage, caught.value.code) == ("regions", "evidence_outside")


def test_image_that_is_not_shown_holds_no_evidence(regions_of):
    with pytest.raises(SampleError, match="image 1, which the context does not show"):
        regions_of(_box(0, 0, 16, 16, image=1), parts=(0,))


def test_text_evidence_overlaps_its_characters(regions_of, tiny):
    def chosen(start, stop):
        prompt = regions_of(Evidence("text", part=2, start=start, stop=stop))
        positions = (prompt.regions == REGIONS.index("evidence")).nonzero().flatten().tolist()
        return tiny.tokenizer.decode(prompt.input_ids[positions]), prompt.flags

    assert chosen(4, 7) == ("dog", ("evidence_text",))
    assert chosen(2, 5) == ("the dog", ("evidence_text",))
    assert chosen(4, 70) == ("dog", ("evidence_clipped", "evidence_text"))


def test_the_kind_of_evidence_is_flagged_where_it_is_no_box(regions_of):
    box, text, image = _box(0, 0, 64, 32), Evidence("text", part=2, start=4, stop=7), Evidence("image", image=0)
    assert regions_of(box).flags == ()
    assert regions_of(image).flags == ("evidence_whole_image",)
    assert regions_of(box, text, image).flags == ("evidence_text", "evidence_whole_image")


def test_no_evidence_is_flagged(regions_of):
    prompt = regions_of()
    assert prompt.flags == ("no_evidence",)
    assert not (prompt.regions == REGIONS.index("evidence")).any()
    assert not (prompt.regions == REGIONS.index("evidence_image_rest")).any()


def test_sink_comes_before_question_and_images_but_not_before_evidence(tiny, make_sample):
    """A template without a system prompt brings the first part of the message into the first 4 tokens."""
    original = tiny.tokenizer.chat_template
    bare = (
        "{% for c in messages[0]['content'] %}{{ '<|image_pad|>' if c['type'] == 'image' else c['text'] }}{% endfor %}"
    )

    def first_regions(*parts, evidence=(), order="context_first"):
        sample = make_sample(*parts, evidence=evidence)
        images = decode_images(sample, max_pixels=10**6)
        prompt = encode(tiny, sample, images, evidence=EvidenceConfig(), order=order)
        return [REGIONS[region] for region in prompt.regions[: NUM_SINK_TOKENS + 1].tolist()]

    try:
        tiny.tokenizer.chat_template = bare
        assert first_regions(0, order="question_first") == ["sink"] * 4 + ["question"]
        assert first_regions(0) == ["sink"] * 4 + ["other_visual"]
        mixed = first_regions(0, evidence=(_box(16, 0, 48, 16),))
        assert mixed == ["sink", "evidence", "evidence", "sink", "evidence_image_rest"]
    finally:
        tiny.tokenizer.chat_template = original
