"""Hybrid attention as one additive mask per head over eager attention: slow, and written from the definition alone."""

from __future__ import annotations

from dataclasses import replace

import torch

from rampipe.types import HeadId


def allowed(plan, *, layer, num_heads, real, text=None, num_dense=0):
    """[batch, head, query, key]: what each row of a layer sees. real, text: [batch, key]. num_dense: first rows."""
    num_batch, num_keys = real.shape
    seen = torch.zeros(num_batch, num_heads, num_keys, num_keys, dtype=torch.bool)
    for batch in range(num_batch):
        first = int(real[batch].nonzero()[0])
        for q in range(num_keys):
            for j in range(q + 1):
                is_kept = j < first + plan.sink_tokens or j > q - plan.window_tokens or q < num_dense
                if plan.keep_text and text is not None and j < text.shape[1]:
                    is_kept |= bool(text[batch, j])
                for head in range(num_heads):
                    seen[batch, head, q, j] = bool(real[batch, j]) and (
                        is_kept or HeadId(layer, head) in plan.full_heads
                    )
    return seen


def attend(query, key, value, seen, scaling):
    """[batch, query, head, dim] in float64; rows that see nothing are NaN."""
    group = query.shape[1] // key.shape[1]
    key, value = (side.double().repeat_interleave(group, dim=1) for side in (key, value))
    logits = query.double() @ key.transpose(2, 3) * scaling
    return (logits.masked_fill(~seen, -torch.inf).softmax(dim=-1) @ value).transpose(1, 2)


class OracleAttention:
    """Registry entry: attention of whole sequences, without a cache, under the plan.

    windows: of layers that have one of their own, by index. Their heads see that and nothing else.
    """

    def __init__(self, plan, modules, *, windows=None, **rule):
        self.plan, self.modules, self.windows, self.rule = plan, modules, windows or {}, rule

    def __call__(self, module, query, key, value, attention_mask=None, **arguments):
        assert module in self.modules
        assert query.shape[2] == key.shape[2] == self.rule["real"].shape[1]
        plan = self.plan
        if module.layer_idx in self.windows:
            window = self.windows[module.layer_idx]
            plan = replace(plan, full_heads=frozenset(), sink_tokens=0, window_tokens=window, keep_text=False)
        seen = allowed(plan, layer=module.layer_idx, num_heads=query.shape[1], **self.rule)
        output = attend(query, key, value, seen, arguments["scaling"])
        return output.nan_to_num(0).to(query.dtype), None


def oracle_logits(model, inputs, plan, *, text=None, num_dense=0, windows=None):
    """Logits of the whole sequence under the plan."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    decoder = set(model.get_decoder().modules())
    library = ALL_ATTENTION_FUNCTIONS["sdpa"]
    real = inputs["attention_mask"].bool()
    oracle = OracleAttention(plan, decoder, windows=windows, real=real, text=text, num_dense=num_dense)

    def entry(module, *tensors, **arguments):
        return (oracle if module in decoder else library)(module, *tensors, **arguments)

    ALL_ATTENTION_FUNCTIONS["sdpa"] = entry
    try:
        with torch.no_grad():
            return model(**inputs, use_cache=False).logits
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]
