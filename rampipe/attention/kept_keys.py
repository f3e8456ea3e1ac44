"""Keys that restricted heads never lose: the first real tokens, and text."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rampipe.attention.hybrid_plan import HybridPlan
from rampipe.errors import SampleError


@dataclass(frozen=True, eq=False)
class KeptKeys:
    """Positions of the kept keys of one sequence, ascending; the same numbers for Python and for the device.

    first_real: position of the first key after padding.
    """

    first_real: int
    positions: tuple[int, ...]
    index: Int[Tensor, " kept"]

    def num_before(self, position: int) -> int:
        """How many kept keys lie before `position`."""
        return bisect_left(self.positions, position)

    @property
    def num_leading(self) -> int:
        """Keys from position 0 that no row loses: padding, then kept keys without a gap."""
        expected = enumerate(self.positions, start=self.first_real)
        return next((i for i, position in expected if position != i), self.first_real + len(self.positions))


def first_real_keys(mask: Tensor | None, num_batch: int) -> list[int]:
    """Position of the first key after left padding, per sequence, as the last row of the 4-D mask shows it."""
    if mask is None:
        return [0] * num_batch
    row = visible(mask[:, :, -1]).any(dim=1)
    return row.to(torch.uint8).argmax(dim=-1).expand(num_batch).tolist()


def visible(mask: Tensor) -> Bool[Tensor, "*shape"]:
    """Where a boolean or additive mask lets a row see a key."""
    return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2


def kept_keys(
    plan: HybridPlan, text_keys: Bool[Tensor, "batch key"] | None, *, first_real: list[int], device: torch.device
) -> list[KeptKeys]:
    """One entry per sequence; the same object where all sequences keep the same keys.

    Raises SampleError when `text_keys` is for another number of sequences.
    """
    if text_keys is not None and len(text_keys) != len(first_real):
        raise SampleError(
            f"text_keys: {len(text_keys)} sequences, but the forward has {len(first_real)}. Pass one row per sequence "
            "of the batch, beams and returned sequences included.",
            stage="forward",
            code="text_keys_batch",
        )
    kept: dict[tuple[int, tuple[int, ...]], KeptKeys] = {}
    result: list[KeptKeys] = []
    for batch, first in enumerate(first_real):
        positions = set(range(first, first + plan.sink_tokens))
        if text_keys is not None and plan.keep_text:
            positions.update(
                position for position in text_keys[batch].nonzero().flatten().tolist() if position >= first
            )
        key = (first, tuple(sorted(positions)))
        if key not in kept:
            kept[key] = KeptKeys(*key, torch.tensor(key[1], dtype=torch.long, device=device))
        result.append(kept[key])
    return result
