"""What only some families do: they cut images, show them in several views, or take images and videos together."""

from __future__ import annotations

import pytest

from rampipe.errors import SampleError
from rampipe.types import REGIONS, ContextPart, Evidence
from tests.families import checks, gemma, glm, idefics, internvl, llava
from tests.families.samples import make_sample, noise

LLAVA, *_, ONEVISION = llava.BUILDERS
INTERNVL = internvl.BUILDERS[0]
GLM, GEMMA, SMOLVLM = glm.BUILDERS[0], gemma.BUILDERS[-1], idefics.BUILDERS[-1]
IMAGE = ContextPart("image", image=0)


def _evidence_boxes(replica, size, box):
    """Boxes of the tokens that hold the evidence."""
    sample = make_sample("one", [IMAGE], [noise(*size, seed=0)], evidence=[Evidence("box", image=0, box=box)])
    prompt = checks.make_prompt(replica, sample)
    is_evidence = prompt.regions[prompt.visual_positions] == REGIONS.index("evidence")
    return prompt.token_boxes[is_evidence]


@pytest.mark.parametrize("builder", [LLAVA], indirect=True, ids=str)
def test_evidence_that_the_crop_cuts_off_is_refused(replica):
    """Of 200 x 84 px the square shows the middle 84."""
    with pytest.raises(SampleError, match="shown nothing") as caught:
        _evidence_boxes(replica, (200, 84), (0.0, 0.0, 50.0, 84.0))
    assert caught.value.code == "evidence_outside"
    boxes = _evidence_boxes(replica, (200, 84), (0.0, 0.0, 70.0, 84.0))
    assert len(boxes) == 4
    assert boxes[:, 0].tolist() == pytest.approx([58.0] * 4, abs=0.2)


@pytest.mark.parametrize("builder", [INTERNVL, ONEVISION], indirect=True, ids=str)
def test_evidence_is_found_in_every_view(replica):
    """Tokens of the small whole image are larger than those of its tiles; both that show the box are evidence."""
    boxes = _evidence_boxes(replica, (200, 84), (90.0, 30.0, 100.0, 40.0))
    widths = (boxes[:, 2] - boxes[:, 0]).round().unique()
    assert len(widths) > 1
    assert bool((boxes[:, 0] < 100).all() and (boxes[:, 2] > 90).all())


@pytest.mark.parametrize("builder", [INTERNVL, ONEVISION, GLM, GEMMA, SMOLVLM], indirect=True, ids=str)
@pytest.mark.parametrize("video_first", [True, False])
def test_images_and_videos_in_one_prompt(replica, video_first):
    frames = [noise(96, 64, seed=index) for index in range(2)]
    parts = [ContextPart("video", frames=(1, 2)), ContextPart("text", text="and"), IMAGE]
    sample = make_sample("mixed", parts if video_first else parts[::-1], [noise(200, 84, seed=7), *frames])
    assert checks.eager_difference(replica, [sample]) < 1e-4
    for image in range(3):
        assert checks.misplaced_tokens(replica, sample, image=image) == []
