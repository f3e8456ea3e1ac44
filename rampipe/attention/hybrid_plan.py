"""Which heads see everything, what the others see, and what that saves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rampipe.errors import ConfigError
from rampipe.types import HeadId

MIN_SAVED_FRAC = 0.25
"""Share of a kv_head's keys that must be dropped before a ring is kept: below, its second product costs more time."""


@dataclass(frozen=True, slots=True)
class HybridPlan:
    """Row q of a head outside `full_heads` sees key j <= q where j is a sink, j > q - window_tokens, or j is text.

    full_heads: see every key up to their own. sink_tokens: the first tokens after padding. window_tokens: most recent
    keys, the row's own included. keep_text: text of the prompt stays visible, however far away; a window that loses the
    question loses the task. dense_below_tokens: a whole prompt of fewer tokens, padding included, is computed densely,
    bit for bit, as there is nothing to gain; what is decoded after it is restricted all the same, and saves memory.
    """

    full_heads: frozenset[HeadId]
    sink_tokens: int = 64
    window_tokens: int = 1024
    keep_text: bool = True
    dense_below_tokens: int = 0

    def __post_init__(self) -> None:
        """Raises ConfigError for a window without keys or a negative number of tokens."""
        if self.window_tokens < 1:
            raise ConfigError(f"window_tokens is {self.window_tokens}; allowed: 1 or more, the row's own key included.")
        if self.sink_tokens < 0:
            raise ConfigError(f"sink_tokens is {self.sink_tokens}; allowed: 0 or more. Take the default, 64.")
        if self.dense_below_tokens < 0:
            raise ConfigError(
                f"dense_below_tokens is {self.dense_below_tokens}; allowed: 0 (never) or more. Take 4096 on a CPU."
            )

    def layer(self, layer: int, shape: HeadShape) -> LayerHeads:
        """The heads of one layer."""
        full = tuple(head for head in range(shape.num_heads) if HeadId(layer, head) in self.full_heads)
        return LayerHeads(shape, full)


@dataclass(frozen=True, slots=True)
class HeadShape:
    """Query heads and the kv_heads that serve them; the query heads of one kv_head are neighbours."""

    num_heads: int
    num_kv_heads: int

    @property
    def group_size(self) -> int:
        """Query heads per kv_head."""
        return self.num_heads // self.num_kv_heads


@dataclass(frozen=True, slots=True)
class LayerHeads:
    """Full and restricted heads of one layer, ascending. A kv_head is full where one of its query heads is."""

    shape: HeadShape
    full: tuple[int, ...]

    @property
    def restricted(self) -> tuple[int, ...]:
        """Query heads that do not see everything."""
        return tuple(head for head in range(self.shape.num_heads) if head not in self.full)

    @property
    def full_kv(self) -> tuple[int, ...]:
        """kv_heads of which every key is needed."""
        return tuple(sorted({head // self.shape.group_size for head in self.full}))

    @property
    def restricted_kv(self) -> tuple[int, ...]:
        """kv_heads whose whole query group is restricted."""
        return tuple(kv_head for kv_head in range(self.shape.num_kv_heads) if kv_head not in self.full_kv)


@dataclass(frozen=True, slots=True)
class Sparsity:
    """Restricted shares, 0 to 1. Prefill saves by query heads, decode and memory by kv_heads, which is never more."""

    restricted_head_frac: float
    restricted_kv_head_frac: float


def kv_sparsity(plan: HybridPlan, shape: HeadShape, *, layers: Iterable[int]) -> Sparsity:
    """Both sparsities over `layers`. Raises ConfigError without layers: a share of nothing is not 0."""
    heads = [plan.layer(layer, shape) for layer in layers]
    if not heads:
        raise ConfigError("kv_sparsity: 0 layers; needed: at least one. Pass the decoder's softmax-attention layers.")
    return Sparsity(
        restricted_head_frac=sum(len(layer.restricted) for layer in heads) / (len(heads) * shape.num_heads),
        restricted_kv_head_frac=sum(len(layer.restricted_kv) for layer in heads) / (len(heads) * shape.num_kv_heads),
    )


@dataclass(frozen=True, slots=True)
class CacheSize:
    """What decides the bytes of a cache, besides the plan. head_bytes: of one token's key and value in one kv_head."""

    capacity_tokens: int
    head_bytes: int
    batch: int = 1


def num_near_slots(num_near: int, capacity_tokens: int) -> int:
    """Room of a restricted kv_head: its window and kept keys, or every key where that saves too little memory."""
    return num_near if num_near <= (1 - MIN_SAVED_FRAC) * capacity_tokens else capacity_tokens


def predicted_cache_bytes(
    plan: HybridPlan, shape: HeadShape, *, layers: Iterable[int], size: CacheSize, num_kept_text: int = 0
) -> int:
    """Bytes of keys and values that a SplitCache allocates.

    num_kept_text: kept text tokens that are not among the sinks, of the sample that has most.
    """
    near = num_near_slots(plan.window_tokens + plan.sink_tokens + num_kept_text, size.capacity_tokens)
    num_slots = 0
    for layer in layers:
        heads = plan.layer(layer, shape)
        num_slots += len(heads.full_kv) * size.capacity_tokens + len(heads.restricted_kv) * near
    return num_slots * size.head_bytes * size.batch
