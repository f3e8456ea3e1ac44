"""Logits of selected rows, some heads and some rows at a time, each row whole: no more than fits beside the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rampipe.attention.logits import scaled_logits
from rampipe.attention.rows import KeyLayout
from rampipe.attention.statistics import RowRead

BLOCK_LOGITS = {"cpu": 2**19, "cuda": 2**26}
"""Logits of a block: what the cache of a core holds, or what keeps a GPU busy. Statistics take as much again."""


def logit_blocks(
    reads: Sequence[RowRead], layout: KeyLayout
) -> Iterator[tuple[slice, slice, Float[Tensor, "head row key"]]]:
    """(heads, rows, logits) over the keys of `layout`, soft-capped and masked, float32; the caller may overwrite them.

    reads: with the same layout and shapes, such as layers of one model; heads count through all of them.
    """
    first = reads[0]
    query = torch.cat([read.query for read in reads])
    key = torch.cat([read.key.index_select(1, layout.order) for read in reads])
    group = query.shape[1]
    for kv_heads, rows in _blocks(query.shape, len(layout.order), BLOCK_LOGITS.get(query.device.type, 2**19)):
        heads = slice(kv_heads.start * group, kv_heads.stop * group)
        logits = scaled_logits(query[kv_heads, :, rows].flatten(1, 2), key[kv_heads], scaling=first.scaling)
        logits = logits.view(heads.stop - heads.start, rows.stop - rows.start, len(layout.order))
        if first.softcap is not None:
            logits.div_(first.softcap).tanh_().mul_(first.softcap)
        bias = layout.bias
        if bias is not None:
            of_heads = bias[torch.arange(heads.start, heads.stop) % first.num_heads] if len(bias) > 1 else bias
            logits[..., layout.bias_start :] += of_heads[:, rows]
        yield heads, rows, logits


def _blocks(shape: Sequence[int], num_keys: int, block_logits: int) -> Iterator[tuple[slice, slice]]:
    """kv_heads and rows of each block: rows are parted before a row is."""
    num_kv_heads, group, num_rows, _ = shape
    num_logits = group * max(1, num_keys)
    rows = min(num_rows, max(1, block_logits // num_logits))
    kv_heads = max(1, block_logits // (num_logits * num_rows))
    for first_head in range(0, num_kv_heads, kv_heads):
        for first_row in range(0, num_rows, rows):
            yield (
                slice(first_head, min(first_head + kv_heads, num_kv_heads)),
                slice(first_row, min(first_row + rows, num_rows)),
            )
