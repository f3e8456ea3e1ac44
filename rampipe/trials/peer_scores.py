"""What other projects score heads by while an answer is produced: copying, reading from a box, attending above others.

Each is of one sample. What they leave for a sample of other evidence is None: an image has no token to be copied.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int
from torch import Tensor

from rampipe.attention.capture import Recorder
from rampipe.models.prompts import Prompt
from rampipe.types import REGIONS

EVIDENCE = REGIONS.index("evidence")

Scores = dict[str, Float32[np.ndarray, "layer head"] | None]


def peer_scores(recorder: Recorder, prompt: Prompt, *, first_row: int) -> Scores:
    """mass_evidence_top, hit_per_patch and copied of every head, from the rows of the prompt's answer.

    first_row: of these rows, which predict the answer's tokens in order. All are None without evidence.
    """
    places = (prompt.regions == EVIDENCE).nonzero().flatten()
    if len(places) == 0:
        return {"mass_evidence_top": None, "hit_per_patch": None, "copied": None}
    target = prompt.input_ids[prompt.num_prompt_tokens :]
    rows = slice(first_row, first_row + len(target))
    index = _of_layers(recorder, "evidence_index", rows).long()
    hit = _of_layers(recorder, "hit", rows)
    mass = _of_layers(recorder, "mass_evidence_top", rows)
    is_visual = torch.isin(places, prompt.visual_positions)
    return {
        "mass_evidence_top": mass.double().mean(dim=-1).float().numpy(),
        "hit_per_patch": _hit_per_patch(hit, index, is_visual, prompt.piece_tokens[places]),
        "copied": _copied(hit, index, prompt.input_ids[places].masked_fill(is_visual, -1), target),
    }


def _hit_per_patch(
    hit: Bool[Tensor, "layer head row"],
    index: Int[Tensor, "layer head row"],
    is_visual: Bool[Tensor, " evidence"],
    num_patches: Int[Tensor, " evidence"],
) -> Float32[np.ndarray, "layer head"] | None:
    """Mean over rows of 1 / patches of the box that holds the row's largest key."""
    if not bool(is_visual.any()):
        return None
    density = is_visual.double() / num_patches
    return (density[index] * hit).mean(dim=-1).float().numpy()


def _copied(
    hit: Bool[Tensor, "layer head row"],
    index: Int[Tensor, "layer head row"],
    token: Int[Tensor, " evidence"],
    target: Int[Tensor, " row"],
) -> Float32[np.ndarray, "layer head"] | None:
    """Distinct tokens that are copied, over the distinct tokens of the text evidence; -1 in `token` is no text."""
    distinct = token[token >= 0].unique()
    if len(distinct) == 0:
        return None
    is_copy = hit & (token[index] == target)
    counts = torch.stack([is_copy[..., target == wanted].any(dim=-1) for wanted in distinct]).sum(dim=0)
    return (counts.double() / len(distinct)).float().numpy()


def _of_layers(recorder: Recorder, name: str, rows: slice) -> Tensor:
    """[layer, head, row] on the CPU, layers ascending."""
    return torch.stack([getattr(recorder.layers[layer], name)[:, rows].cpu() for layer in sorted(recorder.layers)])
