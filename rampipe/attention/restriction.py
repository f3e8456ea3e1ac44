"""Recompute single heads with fewer keys, or with none preferred; all others keep the kernel's own numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rampipe.attention.call import AttentionCall, read_call
from rampipe.attention.interface import AttentionFunction, own_eager_function
from rampipe.attention.positions import QueryPositions
from rampipe.attention.silence import Silence
from rampipe.attention.visibility import HIDDEN, row_bias

MAX_LOGITS = 2**26
"""Logits held at once, 256 MiB in float32: query rows are taken in chunks, so that no N x N matrix ever exists."""


class RestrictedAttention:
    """The function behind a registry name, with the outputs of silenced heads of some modules replaced."""

    is_observable = True

    def __init__(
        self, implementation: str, *, layers: Mapping[int, nn.Module], silence: Silence, positions: QueryPositions
    ) -> None:
        self.implementation = implementation
        self.prior: AttentionFunction | None = ALL_ATTENTION_FUNCTIONS.get(implementation)
        self.heads = {module: (layer, silence.heads_of(layer)) for layer, module in layers.items()}
        self.evidence = silence.evidence if silence.mode == "evidence_knockout" else None
        self.positions = positions

    def __call__(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: object = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """The kernel's output with the silenced heads rewritten; their weights, which it does not know, are NaN."""
        attend = self.prior if self.prior is not None else own_eager_function(module)
        output, weights = attend(module, query, key, value, attention_mask, **kwargs)
        if module not in self.heads:
            return output, weights
        layer, heads = self.heads[module]
        call = read_call(module, self.implementation, query=query, key=key, mask=attention_mask, arguments=kwargs)
        starts = self.positions.starts(len(query), query.shape[2])
        self.positions.ran.add(layer)
        output = output.clone()
        weights = None if weights is None else weights.clone()
        for row, start in enumerate(starts):
            chosen = heads[row % len(heads)]
            hidden = self._hidden_keys(call, row)
            if chosen and start < query.shape[2] and (hidden is None or len(hidden)):
                restriction = Restriction(row, start, torch.tensor(chosen, device=query.device), hidden)
                rewrite_heads(output, restriction, call=call, value=value)
                if weights is not None:
                    weights[row, chosen, start:] = torch.nan
        return output, weights

    def _hidden_keys(self, call: AttentionCall, row: int) -> Int[Tensor, " evidence"] | None:
        """Indices of the evidence among the keys of this call, of which a sliding cache holds only the last ones."""
        if self.evidence is None:
            return None
        num_keys = call.key.shape[2]
        num_seen = self.positions.num_cached + call.query.shape[2]
        offset = max(num_seen - num_keys, 0)  # a static cache has keys that are not filled yet instead
        return self.evidence[row, offset : offset + num_keys].nonzero().flatten().to(call.key.device)


@dataclass(frozen=True, eq=False)
class Restriction:
    """Heads of one batch row, from query `start` on. hidden: keys to hide; None for even attention."""

    row: int
    start: int
    heads: Int[Tensor, " chosen"]
    hidden: Int[Tensor, " evidence"] | None

    def kv_heads(self, call: AttentionCall) -> Int[Tensor, " chosen"]:
        """The kv head that serves each head."""
        return self.heads // (call.query.shape[1] // call.key.shape[1])


@torch.no_grad()
def rewrite_heads(
    output: Float[Tensor, "batch query head value_dim"],
    restriction: Restriction,
    *,
    call: AttentionCall,
    value: Float[Tensor, "batch kv_head key value_dim"],
) -> None:
    """Overwrite the restricted heads in place, with a float32 softmax; hidden keys' share goes to the others.

    Query rows that see no hidden key (or no key at all) keep what the kernel gave, bit for bit.
    """
    row, heads = restriction.row, restriction.heads
    num_queries, num_keys = call.query.shape[2], call.key.shape[2]
    with torch.autocast(output.device.type, enabled=False):
        values = value[row, restriction.kv_heads(call)].float()
        step = max(1, MAX_LOGITS // (len(heads) * num_keys))
        for first in range(restriction.start, num_queries, step):
            position = torch.arange(first, min(first + step, num_queries), device=output.device)
            touched = _touched(call, restriction, position)
            if not bool(touched.any()):
                continue
            shares = restricted_shares(call, restriction, position)
            kernel = output[row, first : first + step]
            new = torch.matmul(shares, values).transpose(0, 1).to(output.dtype)
            kernel[:, heads] = torch.where(touched.transpose(0, 1)[..., None], new, kernel[:, heads])


def restricted_shares(
    call: AttentionCall, restriction: Restriction, position: Int[Tensor, " query"]
) -> Float[Tensor, "chosen_or_one query key"]:
    """Probabilities after the restriction; a learned sink keeps its logit, a row without keys is 0.

    Even attention is a softmax over logits 0 plus the mask, as if q were 0.
    """
    heads, hidden = restriction.heads, restriction.hidden
    logits = _bias(call, restriction, position=position, key=torch.arange(call.key.shape[2], device=position.device))
    if hidden is not None:
        bias = logits.index_fill(-1, hidden, HIDDEN)
        query = call.query[restriction.row, heads].index_select(1, position).float() * call.scaling
        logits = torch.matmul(query, call.key[restriction.row, restriction.kv_heads(call)].float().transpose(1, 2))
        if call.softcap is not None:
            logits = torch.tanh(logits / call.softcap) * call.softcap
        logits = logits + bias
    log_total = logits.logsumexp(dim=-1, keepdim=True)
    if call.sinks is not None:
        log_total = torch.logaddexp(log_total, call.sinks[heads].float()[:, None, None])
    # With nothing left, a softmax would spread evenly over what is hidden.
    return (logits - log_total).exp().masked_fill(logits <= HIDDEN / 2, 0)


def _touched(
    call: AttentionCall, restriction: Restriction, position: Int[Tensor, " query"]
) -> Bool[Tensor, "chosen_or_one query"]:
    key = restriction.hidden
    if key is None:
        key = torch.arange(call.key.shape[2], device=position.device)
    return (_bias(call, restriction, position=position, key=key) > HIDDEN / 2).any(dim=-1)


def _bias(
    call: AttentionCall, restriction: Restriction, *, position: Int[Tensor, " query"], key: Int[Tensor, " key"]
) -> Float[Tensor, "chosen_or_one query key"]:
    bias = row_bias(call, restriction.row, position=position, key=key)
    return bias[restriction.heads] if len(bias) > 1 else bias
