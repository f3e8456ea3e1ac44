"""Evidence to tokens, and the partition of a prompt's tokens into regions. In numpy, as `layout` is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int8, Int64

from rampipe.config import EvidenceConfig
from rampipe.errors import SampleError
from rampipe.models.layout import Layout
from rampipe.types import NUM_SINK_TOKENS, REGIONS, Evidence, Region, Sample

Box = tuple[float, float, float, float]
ROUNDING_FRAC = 1e-6
"""A share of a token that reaches the minimum up to floating-point error counts as reaching it."""


@dataclass(frozen=True, slots=True)
class EvidenceTokens:
    """The evidence of one prompt in tokens."""

    mask: Bool[np.ndarray, " token"]
    piece_tokens: Int64[np.ndarray, " token"]
    """For each evidence token, how many tokens the smallest piece of evidence has that holds it; 0 elsewhere."""
    images: frozenset[int]
    """Images that hold evidence."""
    flags: tuple[str, ...]
    """`no_evidence`: the sample names none. `evidence_text`, `evidence_whole_image`: a piece is no box but text, or an
    image as a whole. `evidence_clipped`: a box or span reached beyond its image or text.
    """


def locate_evidence(sample: Sample, layout: Layout, config: EvidenceConfig) -> EvidenceTokens:
    """Finds the tokens of every piece of evidence.

    Raises SampleError (stage regions): evidence_outside when a piece lies nowhere in the context, evidence_too_small
    when tokens are touched but none is covered by `min_overlap`.
    """
    mask = np.zeros(len(layout.input_ids), dtype=np.bool_)
    piece_tokens = np.zeros(len(layout.input_ids), dtype=np.int64)
    images: set[int] = set()
    flags = set[str]() if sample.evidence else {"no_evidence"}
    for index, evidence in enumerate(sample.evidence):
        name = f"sample {sample.sample_id}: evidence {index}"
        if evidence.kind == "text":
            found, is_clipped = _text_tokens(sample, layout, evidence, name=name)
        else:
            found, is_clipped = _visual_tokens(layout, evidence, config, name=name)
            images.add(evidence.image or 0)
        size = int(found.sum())
        piece_tokens[found & (~mask | (piece_tokens > size))] = size
        mask |= found
        if is_clipped:
            flags.add("evidence_clipped")
        if evidence.kind != "box":
            flags.add("evidence_text" if evidence.kind == "text" else "evidence_whole_image")
    return EvidenceTokens(mask, piece_tokens, frozenset(images), tuple(sorted(flags)))


def overlap_frac(boxes: Float[np.ndarray, "visual 4"], box: Box) -> Float[np.ndarray, " visual"]:
    """Share of the area of each token's box that lies in `box`: 0 to 1; 0 for a token without a place (NaN)."""
    x0, y0, x1, y1 = boxes.T
    width = np.maximum(np.minimum(x1, box[2]) - np.maximum(x0, box[0]), 0.0)
    height = np.maximum(np.minimum(y1, box[3]) - np.maximum(y0, box[1]), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):  # a box without area
        return np.nan_to_num(width * height / ((x1 - x0) * (y1 - y0)), nan=0.0)


def partition(layout: Layout, evidence: EvidenceTokens) -> Int8[np.ndarray, " token"]:
    """The region of every token, as an index into `REGIONS`.

    Where several fit, the first of this order: evidence, sink (the first 4 tokens, whatever they are), answer,
    evidence_image_rest and other_visual, question, other_text.
    """
    regions = np.full(len(layout.input_ids), _index("other_text"), dtype=np.int8)
    regions[layout.question] = _index("question")
    of_image = layout.token_frames[:, :, None] == np.array(sorted(evidence.images), dtype=np.int64)
    regions[layout.visual_positions] = _index("other_visual")
    regions[layout.visual_positions[of_image.any(axis=(1, 2))]] = _index("evidence_image_rest")
    regions[layout.num_prompt_tokens :] = _index("answer")
    regions[:NUM_SINK_TOKENS] = _index("sink")
    regions[evidence.mask] = _index("evidence")
    return regions


def _index(region: Region) -> int:
    return REGIONS.index(region)


def _visual_tokens(
    layout: Layout, evidence: Evidence, config: EvidenceConfig, *, name: str
) -> tuple[Bool[np.ndarray, " token"], bool]:
    """Tokens of a box or of a whole image, and whether the box was clipped."""
    image = -1 if evidence.image is None else evidence.image
    of_image = (layout.token_frames == image).any(axis=1) & (image >= 0)
    if not bool(of_image.any()):
        raise _outside(
            f"{name} is in image {evidence.image}, which the context does not show. Name an image of the context."
        )
    if evidence.kind == "image":
        return _select(layout, of_image), False
    box, is_clipped = _clip(evidence.box, layout.image_sizes[image], name=f"{name} in image {image}")
    shares = overlap_frac(layout.token_boxes, box) * of_image
    is_chosen = shares > 0
    if not bool(is_chosen.any()):
        raise _outside(f"{name}: box {_text(box)} lies where the model is shown nothing of image {image}.")
    if config.min_overlap > 0:
        is_chosen = shares >= config.min_overlap - ROUNDING_FRAC
    if not bool(is_chosen.any()):
        largest = layout.token_boxes[int(shares.argmax())]
        width, height = (largest[2:] - largest[:2]).tolist()
        raise SampleError(
            f"{name}: image {image} has no evidence token (its box of {box[2] - box[0]:g}x{box[3] - box[1]:g} px "
            f"covers at most {float(shares.max()):.1%} of a token's {width:.0f}x{height:.0f} px; "
            f"evidence.min_overlap is {config.min_overlap:g}). "
            "Set evidence.min_overlap=0 to keep any touched patch. Sample skipped.",
            stage="regions",
            code="evidence_too_small",
        )
    return _select(layout, is_chosen), is_clipped


def _select(layout: Layout, is_chosen: Bool[np.ndarray, " visual"]) -> Bool[np.ndarray, " token"]:
    mask = np.zeros(len(layout.input_ids), dtype=np.bool_)
    mask[layout.visual_positions[is_chosen]] = True
    return mask


def _clip(box: Sequence[float] | None, size: tuple[int, int], *, name: str) -> tuple[Box, bool]:
    """The part of a box that lies in its image, and whether that is less than the box."""
    if box is None or len(box) != 4 or not all(math.isfinite(value) for value in box):
        raise _outside(f"{name} has box {box}. Give four finite numbers x0, y0, x1, y1.")
    width, height = size
    x0, y0, x1, y1 = box
    if x0 >= x1 or y0 >= y1:
        raise _outside(f"{name} has the inverted or empty box {_text(box)}. It needs x0 < x1 and y0 < y1.")
    clipped = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        raise _outside(f"{name} has box {_text(box)}, outside the image of {width}x{height} px. Use pixels of it.")
    return clipped, clipped != tuple(box)


def _text_tokens(
    sample: Sample, layout: Layout, evidence: Evidence, *, name: str
) -> tuple[Bool[np.ndarray, " token"], bool]:
    """Tokens that overlap the characters of a text part, and whether the span was clipped."""
    part, start, stop = evidence.part, evidence.start, evidence.stop
    if part is None or not 0 <= part < len(sample.context) or sample.context[part].kind != "text":
        raise _outside(f"{name} is in part {part} of the context, which is no text. Name a text part.")
    length = len(sample.context[part].text or "")
    if start is None or stop is None or start >= stop or stop <= 0 or start >= length:
        raise _outside(
            f"{name} has characters {start} to {stop} of a text of {length}. Use 0 <= start < stop <= {length}."
        )
    first, last = layout.context_spans[part]
    shift = first - layout.trimmed[part]
    mask = layout.tokens_of(max(first, shift + start), min(last, shift + stop))
    if not bool(mask.any()):
        raise _outside(f"{name}: the tokenizer makes no token of characters {start} to {stop} of part {part}.")
    return mask, start < 0 or stop > length


def _text(box: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"


def _outside(message: str) -> SampleError:
    return SampleError(f"{message} Sample skipped.", stage="regions", code="evidence_outside")
