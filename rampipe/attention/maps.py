"""Whole attention rows of a few heads, for pictures; the ranking needs sums only, see `capture.py`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from rampipe.attention.call import AttentionCall
from rampipe.attention.interface import observe_attention
from rampipe.attention.visibility import row_bias
from rampipe.errors import ConfigError
from rampipe.types import HeadId

Maps = dict[HeadId, Float[Tensor, "row key"]]


@contextmanager
def capture_maps(
    model: PreTrainedModel, *, rows: Int[Tensor, " row"], heads: Sequence[HeadId], keys: Int[Tensor, " key"]
) -> Generator[Maps]:
    """Record the probabilities that `heads` give to `keys` during the next forward of one sequence, float32 on the CPU.

    rows, keys: positions in the sequence. The softmax runs over all keys that a row may see, so a row sums to at most
    1. The forward stays as it was; its memory grows by heads x rows x sequence of one layer.
    Raises ConfigError, when the context ends, for heads that the model does not have.
    """
    maps: Maps = {}

    def observer(module: nn.Module, call: AttentionCall) -> None:
        layer = getattr(module, "layer_idx", None)
        chosen = [head.head for head in heads if head.layer == layer and 0 <= head.head < call.query.shape[1]]
        if isinstance(layer, int) and chosen:
            found = _probabilities(call, chosen, rows=rows.to(call.query.device), keys=keys.to(call.query.device))
            maps.update({HeadId(layer, head): found[place].cpu() for place, head in enumerate(chosen)})

    with observe_attention(model.get_decoder(), observer):
        yield maps
    missing = [str(head) for head in heads if head not in maps]
    if missing:
        raise ConfigError(
            f"heads {', '.join(missing)} (layer.head): {type(model).__name__} has no such softmax-attention heads. "
            "Take heads of a ranking of this model."
        )


@torch.no_grad()
def _probabilities(
    call: AttentionCall, heads: Sequence[int], *, rows: Int[Tensor, " row"], keys: Int[Tensor, " key"]
) -> Float[Tensor, "chosen row key"]:
    device = call.query.device
    chosen = torch.tensor(heads, device=device)
    kv_heads = chosen // (call.query.shape[1] // call.key.shape[1])
    with torch.autocast(device.type, enabled=False):
        query = call.query[0, chosen].index_select(1, rows).float() * call.scaling
        logits = query @ call.key[0, kv_heads].float().transpose(1, 2)
        if call.softcap is not None:
            logits = torch.tanh(logits / call.softcap) * call.softcap
        bias = row_bias(call, 0, position=rows, key=torch.arange(call.key.shape[2], device=device))
        logits = logits + (bias[chosen] if len(bias) > 1 else bias)
        log_total = logits.logsumexp(dim=-1)
        if call.sinks is not None:
            log_total = torch.logaddexp(log_total, call.sinks[chosen].float()[:, None])
        return (logits[..., keys] - log_total[..., None]).exp()
