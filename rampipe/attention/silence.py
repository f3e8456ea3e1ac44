"""What is to be silenced: which heads, in which way, at which query positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from rampipe.errors import ConfigError
from rampipe.types import HeadId

SilenceMode = Literal["zero", "mean", "evidence_knockout", "uniform"]
SILENCE_MODES: tuple[SilenceMode, ...] = ("zero", "mean", "evidence_knockout", "uniform")

SilencePositions = Literal["all", "after_context", "decode"]
SILENCE_POSITIONS: tuple[SilencePositions, ...] = ("all", "after_context", "decode")

HeadMeans = Mapping[int, Float[Tensor, "head dim"]]
"""By layer: the mean input of the output projection, one slice a head. See `reference_means.py`."""


@dataclass(frozen=True, eq=False)
class Silence:
    """One set of heads for the whole batch, or one per batch row, so that the arms of an experiment share a forward.

    mode: `zero` takes the head's slice out of the input of the output projection: the head contributes nothing.
    `mean` puts the head's mean over a reference set there instead. `evidence_knockout` hides the evidence keys from
    the head and renormalises over the others; a row left without keys yields 0. `uniform` attends evenly to all keys
    that a row may see: what Retrieval_Head and SparseMM do by zeroing q, kept to reproduce them. It is no removal.

    positions: which query rows lose the head. `all` in prefill and decode; `after_context` from `context_stop` on
    (question and answer); `decode` from `prompt_stop` on: the steps after the prompt, so the first generated token,
    which the last prompt row predicts, is not touched. Both stops are one absolute position per batch row, counted
    with left padding and cached tokens.

    evidence: key positions of the prompt, left padding included; keys after its end are no evidence.
    """

    heads: frozenset[HeadId] | Sequence[frozenset[HeadId]]
    mode: SilenceMode = "zero"
    positions: SilencePositions = "all"
    context_stop: Sequence[int] | None = None
    prompt_stop: Sequence[int] | None = None
    evidence: Bool[Tensor, "batch key"] | None = None
    means: HeadMeans | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for an unknown mode or position, a missing field, or batch sizes that differ."""
        _check_choice("mode", self.mode, SILENCE_MODES)
        _check_choice("positions", self.positions, SILENCE_POSITIONS)
        needed = {
            "context_stop": self.positions == "after_context",
            "prompt_stop": self.positions == "decode",
            "evidence": self.mode == "evidence_knockout",
            "means": self.mode == "mean",
        }
        for name, is_needed in needed.items():
            if is_needed and getattr(self, name) is None:
                raise ConfigError(
                    f"silence with mode {self.mode!r} and positions {self.positions!r}: {name} is None; needed. "
                    f"Give Silence({name}=...)."
                )
        sizes = {"heads": None if isinstance(self.heads, frozenset) else len(self.heads)}
        sizes["first position"] = None if self.first_positions is None else len(self.first_positions)
        sizes["evidence"] = None if self.evidence is None else len(self.evidence)
        if len({size for size in sizes.values() if size is not None}) > 1:
            raise ConfigError(
                f"silence: batch rows named are {sizes}; allowed: the same number, one entry per batch row. Give one "
                "frozenset to silence the same heads in all rows."
            )

    @property
    def num_rows(self) -> int | None:
        """Batch size that this silence is for; None when it holds for any."""
        first = self.first_positions
        per_row = [None if isinstance(self.heads, frozenset) else self.heads, first, self.evidence]
        return next((len(entries) for entries in per_row if entries is not None), None)

    @property
    def first_positions(self) -> Sequence[int] | None:
        """First silenced query position per batch row; None for all positions."""
        return {"all": None, "after_context": self.context_stop, "decode": self.prompt_stop}[self.positions]

    @property
    def all_heads(self) -> frozenset[HeadId]:
        """Heads silenced in any batch row."""
        return self.heads if isinstance(self.heads, frozenset) else frozenset[HeadId]().union(*self.heads)

    def heads_of(self, layer: int) -> list[list[int]]:
        """Head indices of one layer, sorted: one list per batch row, or a single one that holds for every row."""
        sets = [self.heads] if isinstance(self.heads, frozenset) else self.heads
        return [sorted(head.head for head in heads if head.layer == layer) for heads in sets]


def _check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"silence: {name} is {value!r}; allowed: {', '.join(allowed)}. Take one of these.")
