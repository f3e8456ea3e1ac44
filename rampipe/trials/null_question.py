"""The null question about a context, read once for several trials whose evidence lies in different places of it.

Only evidence mass is wanted of its rows. Keys are told apart by whose evidence they are, each such class under the name
of some region, so that the masses of one reading add up to the evidence mass of each of these trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from rampipe.errors import SampleError
from rampipe.models.prompts import Prompt
from rampipe.trials.peer_scores import EVIDENCE
from rampipe.trials.statistics import Groups
from rampipe.types import REGIONS

NO_EVIDENCE = REGIONS.index("answer")
"""Of keys that are nobody's evidence: those that a causal mask hides lie last among its keys."""
CLASSES = [index for index in range(REGIONS.index("learned_sink")) if index != NO_EVIDENCE]
"""Of keys that are the evidence of the same trials."""

EvidenceMass = Float32[np.ndarray, "layer head"]


@dataclass(frozen=True, slots=True)
class NullReading:
    """prompt: with classes of keys as its regions. trials: whom it serves. classes: of the evidence of each of them."""

    prompt: Prompt
    trials: tuple[int, ...]
    classes: tuple[tuple[int, ...], ...]

    def evidence_masses(self, found: Groups | SampleError) -> dict[int, EvidenceMass | SampleError]:
        """By trial, from what was measured for `prompt`: mean over the question's rows."""
        if isinstance(found, SampleError):
            return dict.fromkeys(self.trials, found)
        mass = found["question"].mass
        return {
            trial: mass[:, :, list(classes)].sum(axis=-1)
            for trial, classes in zip(self.trials, self.classes, strict=True)
        }


def evidence_mass(found: Groups | SampleError) -> EvidenceMass | SampleError:
    """Of a null prompt that was read for one trial, under its own regions."""
    return found if isinstance(found, SampleError) else found["question"].mass[:, :, EVIDENCE]


def share_null_question(trials: Sequence[int], null_prompts: Sequence[Prompt]) -> Iterator[NullReading]:
    """As few readings as there are names for: evidence that overlaps in many ways needs several.

    null_prompts: of the trials, with the same tokens.
    """
    first = 0
    while first < len(trials):
        labels, stop = np.zeros(len(null_prompts[first].regions), dtype=np.int64), first
        while stop < len(trials):
            finer = _told_apart(labels, _is_evidence(null_prompts[stop]))
            if finer.max() > len(CLASSES):
                break
            labels, stop = finer, stop + 1
        yield _reading(trials[first:stop], null_prompts[first:stop], labels)
        first = stop


def _told_apart(
    labels: Int64[np.ndarray, " token"], is_evidence: Bool[np.ndarray, " token"]
) -> Int64[np.ndarray, " token"]:
    """Labels that also tell whether a token is evidence; 0 stays that of tokens that are nobody's."""
    codes = np.concatenate([np.zeros(1, dtype=np.int64), 2 * labels + is_evidence])
    return np.unique(codes, return_inverse=True)[1][1:]


def _reading(trials: Sequence[int], null_prompts: Sequence[Prompt], labels: Int64[np.ndarray, " token"]) -> NullReading:
    first, others = null_prompts[0], len(trials) - 1
    regions = np.array([NO_EVIDENCE, *CLASSES], dtype=np.int8)[labels]
    name = f"{first.sample_id}, null question" + (f" (shared with {others} more)" if others else "")
    return NullReading(
        prompt=replace(first, sample_id=name, regions=torch.from_numpy(regions)),
        trials=tuple(trials),
        classes=tuple(tuple(np.unique(regions[_is_evidence(prompt)]).tolist()) for prompt in null_prompts),
    )


def _is_evidence(prompt: Prompt) -> Bool[np.ndarray, " token"]:
    return prompt.regions.numpy() == EVIDENCE
