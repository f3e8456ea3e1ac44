"""Each token's box is where its patches truly lie: images whose colours are coordinates say so themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from PIL import Image
from torch import Tensor

from rampipe.config import EvidenceConfig
from rampipe.errors import SampleError
from rampipe.models.features import process_images
from rampipe.models.prompts import Prompt, encode
from rampipe.models.replica import Replica
from rampipe.types import REGIONS, ContextPart, Evidence, Sample
from tests.families import text
from tests.families.builders import BUILDERS
from tests.families.coordinates import Placed, Places, coordinate_image, find_places, measure
from tests.families.patch_means import token_means
from tests.families.samples import SIZES, make_sample

of_images = pytest.mark.parametrize(
    "builder", [builder for builder in BUILDERS if builder not in text.BUILDERS], indirect=True, ids=str
)
ONE, TEXT = ContextPart("image", image=0), ContextPart("text", text="and")
FRAME = (96, 64)
SHOWN: dict[str, tuple[list[ContextPart], Sequence[tuple[int, int]]]] = {
    "wide": ([ONE], SIZES[:1]),
    "tall": ([ONE], SIZES[1:2]),
    "tiny": ([ONE], SIZES[2:]),
    "several": ([ContextPart("image", image=1), TEXT, ONE, ContextPart("image", image=2)], SIZES),
    "video": ([TEXT, ContextPart("video", frames=(0, 1, 2))], [FRAME] * 3),
    "videos": (
        [ContextPart("video", frames=(3, 4, 5)), TEXT, ContextPart("video", frames=(0, 1, 2))],
        [FRAME] * 3 + [(64, 96)] * 3,
    ),
}
PARTS = (
    (0.31, 0.42, 0.47, 0.58),
    (0.0, 0.55, 1.0, 0.72),
    (0.62, 0.0, 0.78, 1.0),
    (0.0, 0.0, 0.4, 0.35),
    (0.7, 0.6, 1.0, 1.0),
    (0.2, 0.1, 0.9, 0.8),
)
"""Of width and height: a small box, a wide and a tall one, two at corners, a large one."""
GREY_LEVEL_FRAC = 0.5 / 255
"""Of a side: so exactly is a place written in a colour."""
CENTRE_FRAC, SHARE_SLACK = 0.02, 0.15
"""Of a token: how far resizing moves its centre at a border, and what one resized pixel changes of a box's share."""
BLENDED_CENTRE_FRAC, BLENDED_SHARE_SLACK = 0.25, 0.4
"""LLaVA-OneVision blends tokens of two patches with unequal weights, and its padding with the image."""
SEAM_FRAC = 0.25
"""A token with less of the image than this part of another token may show only pixels blended with padding."""


@dataclass(frozen=True)
class Case:
    """One prompt and what its tokens truly show."""

    replica: Replica
    sample: Sample
    images: Sequence[Image.Image]
    prompt: Prompt
    boxes: Sequence[Placed]
    truth: Places

    @property
    def centre_frac(self) -> float:
        return BLENDED_CENTRE_FRAC if "llava_onevision" in self.replica.family.MODEL_TYPES else CENTRE_FRAC

    @property
    def share_slack(self) -> float:
        return BLENDED_SHARE_SLACK if "llava_onevision" in self.replica.family.MODEL_TYPES else SHARE_SLACK


@pytest.fixture
def case(builder, replica, verified):
    """Makes the case of a name; skips the test, with a reason in the table, where the family is not shown such."""

    def make(name: str) -> Case:
        if replica.vision is None:
            verified("true places", "text only")
            pytest.skip(f"{builder} reads text only")
        if name.startswith("video") and not replica.family.VIDEO:
            pytest.skip(f"{builder} is not shown videos here")
        parts, sizes = SHOWN[name]
        images = [coordinate_image(*size, number=number) for number, size in enumerate(sizes)]
        sample = make_sample(name, parts, images)
        prompt = encode(replica, sample, images, evidence=EvidenceConfig())
        boxes = [(image, _part_of(size, part)) for image, size in enumerate(sizes) for part in PARTS]
        means = token_means(replica, prompt.images, lambda pixels: measure(pixels, sizes, boxes))
        return Case(replica, sample, images, prompt, boxes, find_places(means, len(sizes), boxes))

    return make


def _part_of(size: tuple[int, int], part: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    (width, height), (x0, y0, x1, y1) = size, part
    return width * x0, height * y0, width * x1, height * y1


def _misplaced(case: Case, prompt: Prompt) -> int:
    """Tokens whose box, or whose images, are not those that their pixels come from."""
    boxes, truth = prompt.token_boxes, case.truth
    sides = boxes[:, 2:] - boxes[:, :2]
    is_of = (prompt.token_frames[:, :, None] == torch.arange(len(case.images))).any(dim=1)
    shades = GREY_LEVEL_FRAC * torch.tensor([image.size for image in case.images])
    slack = torch.where(is_of[:, :, None], shades, 0).amax(dim=1) + case.centre_frac * sides
    is_near = (truth.centres - (boxes[:, :2] + boxes[:, 2:]) / 2).abs() <= slack
    is_right = is_near.all(dim=1) & (is_of == truth.is_of).all(dim=1)
    areas = sides.prod(dim=1).nan_to_num()
    whole = torch.where(is_of, (is_of * areas[:, None]).amax(dim=0), 0).amax(dim=1)
    may_be_nowhere = areas <= SEAM_FRAC * whole
    return int((~torch.where(truth.centres.isnan().any(dim=1), may_be_nowhere, is_right)).sum())


def _wrongly_chosen(case: Case, *, min_overlap: float, boxes: Sequence[Placed]) -> tuple[int, int]:
    """Tokens that are evidence and lie outside of the box, or the other way round; and tokens of clear evidence.

    boxes: what is asked for in place of `case.boxes`.
    """
    num_wrong = num_clear = 0
    features = process_images(case.replica, case.sample, case.images)
    for (image, box), shares in zip(boxes, case.truth.shares.T, strict=True):
        asked = replace(case.sample, evidence=(Evidence("box", image=image, box=box),))
        try:
            prompt = encode(case.replica, asked, features, evidence=EvidenceConfig(min_overlap=min_overlap))
            is_chosen = prompt.regions[prompt.visual_positions] == REGIONS.index("evidence")
        except SampleError:
            is_chosen = torch.zeros(len(shares), dtype=torch.bool)
        must, must_not = shares > min_overlap + case.share_slack, shares < min_overlap - case.share_slack
        num_wrong += int((must & ~is_chosen).sum() + (must_not & is_chosen).sum())
        num_clear += int(must.sum())
    return num_wrong, num_clear


@pytest.mark.parametrize("name", SHOWN)
def test_boxes_are_where_the_patches_lie(case, verified, name):
    made = case(name)
    assert _misplaced(made, made.prompt) == 0
    verified("true places")


@of_images
@pytest.mark.parametrize("min_overlap", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("name", SHOWN)
def test_evidence_is_the_tokens_in_the_box(case, name, min_overlap):
    made = case(name)
    num_wrong, num_clear = _wrongly_chosen(made, min_overlap=min_overlap, boxes=made.boxes)
    assert num_wrong == 0
    if min_overlap == 0.25:
        assert num_clear >= len(made.images)


def _mirrored(box: Tensor, size: Sequence[int]) -> Tensor:
    x0, y0, x1, y1 = box.unbind(dim=-1)
    return torch.stack([size[0] - x1, y0, size[0] - x0, y1], dim=-1)


def _upside_down(box: Tensor, size: Sequence[int]) -> Tensor:
    x0, y0, x1, y1 = box.unbind(dim=-1)
    return torch.stack([x0, size[1] - y1, x1, size[1] - y0], dim=-1)


def _transposed(box: Tensor, size: Sequence[int]) -> Tensor:
    aspect = size[0] / size[1]
    return box[..., [1, 0, 3, 2]] * torch.tensor([aspect, 1 / aspect] * 2)


def _column_by_column(box: Tensor, size: Sequence[int]) -> Tensor:
    """The right boxes, given to the tokens as if these went down the columns."""
    return box[box[:, 0].argsort(stable=True)]


def _half_a_token_off(box: Tensor, size: Sequence[int]) -> Tensor:
    return box + (box[:, 2:] - box[:, :2]).repeat(1, 2) / 2


FAULTS = [_mirrored, _upside_down, _transposed, _column_by_column, _half_a_token_off]


@of_images
@pytest.mark.parametrize("name", ["wide", "tall"])
@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_boxes_are_noticed(case, fault, name):
    made = case(name)
    boxes = fault(made.prompt.token_boxes, made.images[0].size)
    assert _misplaced(made, replace(made.prompt, token_boxes=boxes)) > 0


@of_images
@pytest.mark.parametrize("name", ["several", "video", "videos"])
def test_exchanged_images_are_noticed(case, name):
    made = case(name)
    frames = made.prompt.token_frames
    exchanged = torch.where(frames < 0, frames, frames.max() - frames)
    assert _misplaced(made, replace(made.prompt, token_frames=exchanged)) > 0


@of_images
@pytest.mark.parametrize("fault", FAULTS[:3])
def test_wrong_evidence_is_noticed(case, fault):
    made = case("wide")
    size = made.images[0].size
    boxes = [(image, tuple(fault(torch.tensor(box), size).tolist())) for image, box in made.boxes]
    assert _wrongly_chosen(made, min_overlap=0.5, boxes=boxes)[0] > 0
