"""The keys that a sample's rows see, laid out by region: a region is one slice, and what nobody sees is not touched."""

from __future__ import annotations

import numpy as np
import torch

from rampipe.attention.call import AttentionCall
from rampipe.attention.rows import PADDING_SLOT, KeyLayout, SampleRows, Span
from rampipe.attention.visibility import HIDDEN, row_bias
from rampipe.errors import SampleError
from rampipe.types import REGIONS

_PLACES = [*range(len(REGIONS)), PADDING_SLOT]
"""Slots in the order in which their keys lie: evidence first, and last what a causal mask hides from some rows."""
_PLACES.sort(key=lambda slot: (slot == PADDING_SLOT, slot < PADDING_SLOT and REGIONS[slot] in ("question", "answer")))
_PLACE_OF_SLOT = np.argsort(_PLACES)

MASKS_KNOWN = 4
"""Kinds of mask whose layout is remembered: models have one or two; some make a new mask in every layer."""


def lay_out_keys(call: AttentionCall, sample: SampleRows) -> KeyLayout:
    """Layout for the layers whose mask is that of `call`: worked out once, as it waits for the device.

    Raises SampleError when a row or the keys lie outside of this call.
    """
    mask = call.mask
    of_mask = None if mask is None else (mask.data_ptr(), mask.shape, mask.stride(), mask.dtype)
    shape = (call.query.shape[2], call.key.shape[2], call.sliding_window, call.causal, call.query.device)
    if (of_mask, *shape) not in sample.layouts:
        if len(sample.layouts) == MASKS_KNOWN:
            del sample.layouts[next(iter(sample.layouts))]
        # The mask is kept beside its layout, so that no other tensor can take its address.
        sample.layouts[(of_mask, *shape)] = (mask, _lay_out(call, sample))
    return sample.layouts[(of_mask, *shape)][1]


def _lay_out(call: AttentionCall, sample: SampleRows) -> KeyLayout:
    _check_extent(call, sample)
    num_keys, device = call.key.shape[2], call.query.device
    first = _first_doubtful_key(call, sample)
    doubtful = torch.arange(first, num_keys, device=device)
    bias = row_bias(call, sample.batch, position=sample.position.to(device), key=doubtful)
    is_seen, is_biased = np.ones(num_keys, dtype=np.bool_), np.zeros(num_keys, dtype=np.bool_)
    least, most = torch.stack(bias.flatten(0, 1).aminmax(dim=0)).cpu().numpy()
    is_seen[first:] = most > HIDDEN / 2
    is_biased[first:] = (least != 0) | (most != 0)
    is_seen[0] |= not is_seen.any()  # rows that see nothing are reported, not left out
    slots = sample.regions[len(sample.regions) - num_keys :].numpy()
    place = np.where(is_seen, _PLACE_OF_SLOT[np.where(slots < 0, PADDING_SLOT, slots)], len(_PLACES))
    order = np.argsort(place, kind="stable")[: is_seen.sum()]
    stops = np.bincount(place[order], minlength=len(_PLACES)).cumsum().tolist()
    spans = [Span(slot, start, stop) for slot, start, stop in zip(_PLACES, [0, *stops], stops, strict=False)]
    biased = np.flatnonzero(is_biased[order])
    start = int(biased[0]) if len(biased) else len(order)
    ordered_bias = None
    if len(biased):
        chosen = order[start:] - first
        ordered_bias = bias[..., torch.from_numpy(np.maximum(chosen, 0)).to(device)]
        ordered_bias.masked_fill_(torch.from_numpy(chosen < 0).to(device), 0)
    return KeyLayout(
        order=torch.from_numpy(order).to(device),
        spans=tuple(span for span in spans if span.stop > span.start),
        bias=ordered_bias,
        bias_start=start,
    )


def _first_doubtful_key(call: AttentionCall, sample: SampleRows) -> int:
    """Keys before it are seen by every row: under a causal mask alone those up to the first row's own."""
    if call.mask is not None or call.sliding_window is not None or not call.causal:
        return 0
    return int(sample.position.min()) + call.key.shape[2] - call.query.shape[2] + 1


def _check_extent(call: AttentionCall, sample: SampleRows) -> None:
    num_batch, _, num_queries, _ = call.query.shape
    num_keys, num_regions = call.key.shape[2], len(sample.regions)
    if sample.last_position >= num_queries or sample.batch >= num_batch:
        raise SampleError(
            f"query row at batch {sample.batch}, position {sample.last_position}: the forward has {num_batch} "
            f"sequences of {num_queries} queries. Positions count from the first query of this forward; without a "
            "cache that is the first token.",
            stage="statistics",
            code="rows_out_of_range",
        )
    if num_keys > num_regions:
        raise SampleError(
            f"batch element {sample.batch}: attention over {num_keys} keys, but regions name {num_regions}. Give a "
            "region to every key, cached ones included; static caches are not supported.",
            stage="statistics",
            code="regions_too_short",
        )
