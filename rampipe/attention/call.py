"""One call of the attention interface as data: what a decoder layer handed to its kernel, after rotary and cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from rampipe.errors import ModelError

REFUSED = ("position_bias", "indices", "block_indices", "sinks", "cache", "cu_seq_lens_q", "cu_seq_lens_k")
"""Keyword arguments that change which keys count, or how much, in ways that the second pass does not repeat."""

IGNORED_BY_SDPA = ("softcap", "s_aux")
"""SDPA takes these and does nothing with them: statistics that honoured them would not be the model's."""


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """One layer's call; queries and keys are after QK-norm, rotary and cache update, keys not repeated for GQA.

    mask: None, padding `[batch, key]` (true = token), boolean (true = visible) or additive `[batch|1, head|1, query,
    key]`. causal: whether the kernel hides the future when the mask is not 4-D. sinks: extra softmax logit per head.
    sliding_window: keys a query sees, itself included; used only when the mask is not 4-D.
    log_total: the kernel's own logarithm of the sum of exponentials of its logits, where it was watched for it.
    """

    query: Float[Tensor, "batch head query dim"]
    key: Float[Tensor, "batch kv_head key dim"]
    mask: Tensor | None
    scaling: float
    softcap: float | None = None
    sinks: Float[Tensor, " head"] | None = None
    sliding_window: int | None = None
    causal: bool = True
    log_total: Float[Tensor, "batch head query"] | None = None


def read_call(
    module: nn.Module,
    implementation: str,
    *,
    query: Tensor,
    key: Tensor,
    mask: object,
    arguments: Mapping[str, Any],
) -> AttentionCall:
    """What `module` asked of the kernel named `implementation`.

    Raises ModelError for anything that would make the statistics differ from the attention that was computed.
    """
    layer = f"{type(module).__name__} {getattr(module, 'layer_idx', '?')}"
    refused = REFUSED + (IGNORED_BY_SDPA if implementation == "sdpa" else ())
    for name in refused:
        if arguments.get(name) is not None:
            raise ModelError(
                f"layer {layer}: attention argument {name!r} under {implementation!r} is not supported; the statistics "
                f"would not be those of the model. Allowed: none of {', '.join(refused)}. Use another "
                "attn_implementation or another model."
            )
    if mask is not None and not isinstance(mask, Tensor):
        raise ModelError(
            f"layer {layer}: the mask is a {type(mask).__name__}; allowed: a tensor or None. Load the model with "
            "attn_implementation 'sdpa', 'eager' or a flash kernel."
        )
    if implementation == "sdpa" and mask is None and 1 < query.shape[2] < key.shape[2]:
        raise ModelError(
            f"layer {layer}: {query.shape[2]} queries over {key.shape[2]} keys without a mask, which SDPA aligns to "
            "the first key (static cache). Use a dynamic cache or pass a 2-D attention_mask."
        )
    sinks = arguments.get("s_aux")
    scaling = arguments.get("scaling")
    softcap = arguments.get("softcap")
    is_causal = arguments.get("is_causal")
    return AttentionCall(
        query=query,
        key=key,
        mask=mask,
        scaling=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        softcap=None if softcap is None else float(softcap),
        sinks=None if sinks is None else sinks.reshape(-1),
        sliding_window=arguments.get("sliding_window"),
        # The eager function adds the mask and nothing else: without one it sees the future.
        causal=implementation != "eager"
        and bool(getattr(module, "is_causal", True) if is_causal is None else is_causal),
    )
