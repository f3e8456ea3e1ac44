"""A sample to the input of a model, with the region of every token, and prompts to a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, Int8
from PIL import Image
from torch import Tensor

from rampipe.config import EvidenceConfig
from rampipe.models.family import as_vision
from rampipe.models.features import VisualFeatures, process_images
from rampipe.models.layout import Order, lay_out
from rampipe.models.replica import Replica
from rampipe.models.tokens import locate_evidence, partition
from rampipe.types import QueryGroup, Sample

NULL_QUESTION = "N/A"
"""What takes the place of the question in calibration (QRHead; arXiv 2605.27243 §3.3)."""
PADDING_REGION = -1


@dataclass(frozen=True, slots=True)
class Prompt:
    """One encoded sample on the CPU, without a batch dimension."""

    sample_id: str
    input_ids: Int[Tensor, " token"]
    regions: Int8[Tensor, " token"]
    """Index into `REGIONS`."""
    piece_tokens: Int[Tensor, " token"]
    """For each evidence token, how many tokens the smallest piece of evidence has that holds it; 0 elsewhere."""
    inputs: Mapping[str, Tensor]
    """Per-token tensors of the family besides the ids, each [token], e.g. mm_token_type_ids."""
    images: Mapping[str, Tensor]
    """Tensors of images and videos; empty without."""
    question: slice
    """Tokens that overlap the question's characters."""
    num_prompt_tokens: int
    """Tokens before the teacher-forced answer."""
    visual_positions: Int[Tensor, " visual"]
    token_boxes: Float[Tensor, "visual 4"]
    """(x0, y0, x1, y1) of each visual token, in pixels of the stored image; NaN for a token without a place."""
    token_frames: Int[Tensor, "visual frame"]
    """Index into `Sample.images` of what each visual token shows: one image, or frames of a video; else -1."""
    flags: tuple[str, ...]

    @property
    def begins_with_context(self) -> bool:
        """Whether all images come before the question, so that what was read of them holds for any question."""
        visual = self.visual_positions.numpy()
        return self.question.start > 0 and (len(visual) == 0 or int(visual.max()) < self.question.start)

    @property
    def stack_kind(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes of image tensors. Prompts of one kind can be stacked; videos of unequal length cannot."""
        return tuple(sorted((name, tuple(tensor.shape[1:])) for name, tensor in self.images.items()))

    def query_positions(self, group: QueryGroup) -> range:
        """Rows of a group. Those of `answer` predict the answer's tokens, so each is one position earlier."""
        if group == "question":
            return range(self.question.start, self.question.stop)
        if group == "last":
            return range(self.num_prompt_tokens - 1, self.num_prompt_tokens)
        return range(self.num_prompt_tokens - 1, len(self.input_ids) - 1)


@dataclass(frozen=True, slots=True)
class Batch:
    """Prompts of one forward, padded on the left and on the replica's device."""

    inputs: dict[str, Tensor]
    """Keyword arguments of the forward and of generate."""
    regions: Int8[Tensor, "batch key"]
    """Index into `REGIONS`; -1 at padding."""
    offsets: tuple[int, ...]
    """Position of the first token of each prompt: add it to positions of the prompt."""


def encode(  # noqa: PLR0913 - a sample, its images, two texts and two sections of the configuration
    replica: Replica,
    sample: Sample,
    images: Sequence[Image.Image] | VisualFeatures,
    *,
    question: str | None = None,
    answer: str | None = None,
    evidence: EvidenceConfig,
    order: Order = "context_first",
) -> Prompt:
    """The model's own chat template over one user message, with the region of every token.

    images: decoded `Sample.images`, or what `process_images` made of them. question: in place of the sample's own, for
    the null prompt. answer: teacher-forced after the prompt.
    Raises SampleError of stage encode (see `process_images`, `lay_out`) or regions (see `locate_evidence`).
    """
    features = images if isinstance(images, VisualFeatures) else process_images(replica, sample, images)
    asked = sample.question if question is None else question
    layout = lay_out(replica, sample, features, question=asked, answer=answer, order=order)
    found = locate_evidence(sample, layout, evidence)
    input_ids = torch.from_numpy(layout.input_ids)
    return Prompt(
        sample_id=sample.sample_id,
        input_ids=input_ids,
        regions=torch.from_numpy(partition(layout, found)),
        piece_tokens=torch.from_numpy(found.piece_tokens),
        inputs=_token_inputs(replica, input_ids),
        images=features.tensors,
        question=layout.question,
        num_prompt_tokens=layout.num_prompt_tokens,
        visual_positions=torch.from_numpy(layout.visual_positions),
        token_boxes=torch.from_numpy(layout.token_boxes),
        token_frames=torch.from_numpy(layout.token_frames),
        flags=tuple(sorted((*found.flags, *layout.flags))),
    )


def first_tokens(prompt: Prompt, count: int) -> Prompt:
    """The beginning of a prompt, with all its images."""
    return replace(
        prompt,
        input_ids=prompt.input_ids[:count],
        regions=prompt.regions[:count],
        piece_tokens=prompt.piece_tokens[:count],
        inputs={name: tensor[:count] for name, tensor in prompt.inputs.items()},
    )


def collate(replica: Replica, prompts: Sequence[Prompt]) -> Batch:
    """Pads on the left, so that the last token of every prompt is where generation goes on.

    Positions are computed from the prompts alone: a prompt's result does not depend on its neighbours or on earlier
    batches beyond rounding.
    """
    lengths = [len(prompt.input_ids) for prompt in prompts]
    width = max(lengths)
    padding_id = replica.tokenizer.pad_token_id or 0
    batch = {
        "input_ids": _pad([prompt.input_ids for prompt in prompts], width, value=padding_id),
        "attention_mask": _pad([torch.ones_like(prompt.input_ids) for prompt in prompts], width, value=0),
    }
    for name in prompts[0].inputs:
        batch[name] = _pad([prompt.inputs[name] for prompt in prompts], width, value=0)
    images = [prompt.images for prompt in prompts]
    family = as_vision(replica.family)
    extra = {} if family is None else family.forward_inputs(replica.model, images, batch)
    regions = _pad([prompt.regions for prompt in prompts], width, value=PADDING_REGION)
    return Batch(
        inputs={name: _transfer(tensor, replica.device) for name, tensor in {**batch, **extra}.items()},
        regions=_transfer(regions, replica.device),
        offsets=tuple(width - length for length in lengths),
    )


def _token_inputs(replica: Replica, input_ids: Int[Tensor, " token"]) -> dict[str, Tensor]:
    family, vision = as_vision(replica.family), replica.vision
    return {} if family is None or vision is None else family.token_inputs(vision, input_ids)


def text_positions(beginnings: Batch, offset: Int[Tensor, "batch token"]) -> Int[Tensor, "*axis batch token"]:
    """`position_ids` of text behind the beginnings: it goes on after the highest position, on all axes.

    offset: of each new token behind its beginning, from 0.
    """
    given = beginnings.inputs.get("position_ids")
    if given is None:
        return beginnings.regions.shape[1] + offset
    highest = given.amax(dim=-1, keepdim=True)
    return (
        (highest.amax(dim=0) + 1 + offset).expand(given.shape[0], -1, -1) if given.ndim == 3 else highest + 1 + offset
    )


def _transfer(tensor: Tensor, device: torch.device) -> Tensor:
    """From pinned memory to a GPU, so that the CPU goes on meanwhile."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _pad(rows: Sequence[Tensor], width: int, *, value: int) -> Tensor:
    """[batch, width] with `value` before each row."""
    return torch.stack([torch.nn.functional.pad(row, (width - len(row), 0), value=value) for row in rows])
