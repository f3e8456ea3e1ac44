"""Logits of selected rows, some heads and some rows at a time, each row whole: no more than fits beside the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rampipe.attention.logits import scaled_logits
from rampipe.attention.rows import KeyLayout
from rampipe.attention.statistics import RowRead

BLOCK_LOGITS = {"cpu": 2**20, "cuda": 2**26}
"""Logits of a block: what caches of a core hold, or what keeps a GPU busy. Statistics take as much again."""

LEAST_EXPONENT = -80.0
"""Smaller exponents are raised to it before `exp`, which is many times slower where its result is below the normal
float32 numbers; what they add, 2e-35 of the largest share, is lost in rounding anyway."""

NOTHING = 1e-30
"""Sums of shares below it are 0: those of keys that a mask hides."""


class Scratch:
    """Memory that all blocks of all layers share: on a CPU fresh pages cost as much as the arithmetic on them."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(self, name: str, shape: Sequence[int], *, like: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Uninitialised, on the device of `like`; what was taken under the same name before is overwritten."""
        if like.is_cuda:  # its allocator keeps memory itself
            return like.new_empty(shape, dtype=dtype)
        size = math.prod(shape)
        held = self._held.get((name, dtype, like.device))
        if held is None or len(held) < size:
            held = self._held[name, dtype, like.device] = like.new_empty(size, dtype=dtype)
        return held[:size].view(*shape)


def logit_blocks(
    reads: Sequence[RowRead], layout: KeyLayout, scratch: Scratch
) -> Iterator[tuple[slice, slice, Float[Tensor, "head row key"]]]:
    """(heads, rows, logits) over the keys of `layout`, soft-capped and masked, float32; the caller may overwrite them.

    reads: with the same layout and shapes, such as layers of one model; heads count through all of them. The logits of
    a block are overwritten by the next.
    """
    first = reads[0]
    query = torch.cat([read.query for read in reads]) if len(reads) > 1 else first.query
    key = _ordered_keys(reads, layout, scratch)
    num_kv_heads, group, num_rows, _ = query.shape
    num_logits, most = group * max(1, len(layout.order)), BLOCK_LOGITS.get(query.device.type, 2**20)
    for kv_heads in _slices(num_kv_heads, most // (num_logits * num_rows)):
        keys = _as_factor(key[kv_heads], "key factor", scratch)
        heads = slice(kv_heads.start * group, kv_heads.stop * group)
        for rows in _slices(num_rows, most // num_logits):
            queries = _as_factor(query[kv_heads, :, rows].flatten(1, 2), "query factor", scratch)
            logits = scratch.take("logits", (*queries.shape[:2], len(layout.order)), like=queries)
            holds_bfloat16 = key.dtype == query.dtype == torch.bfloat16
            logits = scaled_logits(queries, keys, scaling=first.scaling, holds_bfloat16=holds_bfloat16, out=logits)
            logits = logits.view(heads.stop - heads.start, rows.stop - rows.start, len(layout.order))
            if first.softcap is not None:
                logits.div_(first.softcap).tanh_().mul_(first.softcap)
            if layout.bias is not None:
                logits[..., layout.bias_start :] += _bias_of(layout.bias, heads, first.num_heads)[:, rows]
            yield heads, rows, logits


def num_stacked(read: RowRead, layout: KeyLayout) -> int:
    """Reads like this one that are worth computing together: as many as fill a block."""
    num_logits = read.num_heads * read.query.shape[2] * max(1, len(layout.order))
    return max(1, BLOCK_LOGITS.get(read.query.device.type, 2**20) // num_logits)


def _ordered_keys(reads: Sequence[RowRead], layout: KeyLayout, scratch: Scratch) -> Float[Tensor, "kv_head key dim"]:
    """Keys of all reads, one behind the other, as the layout has them."""
    key = reads[0].key
    num_kv_heads = len(key)
    shape = (len(reads) * num_kv_heads, len(layout.order), key.shape[2])
    ordered = scratch.take("keys", shape, like=key, dtype=key.dtype)
    for place, read in enumerate(reads):
        part = ordered[place * num_kv_heads : (place + 1) * num_kv_heads]
        torch.index_select(read.key, 1, layout.order, out=part)
    return ordered


def _as_factor(states: Float[Tensor, "*shape"], name: str, scratch: Scratch) -> Float[Tensor, "*shape"]:
    """Queries or keys as `scaled_logits` wants them: float32, but not on a GPU, which sums in float32 itself."""
    if states.is_cuda or states.dtype == torch.float32:
        return states
    return scratch.take(name, states.shape, like=states).copy_(states)


def _bias_of(bias: Tensor, heads: slice, num_heads: int) -> Tensor:
    """Of these heads, which count through several layers."""
    return bias[torch.arange(heads.start, heads.stop) % num_heads] if len(bias) > 1 else bias


def _slices(count: int, size: int) -> list[slice]:
    """0 to `count` in pieces of `size`, of 1 at least."""
    return [slice(start, min(start + max(1, size), count)) for start in range(0, count, max(1, size))]
