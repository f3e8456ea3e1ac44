"""Shared by the tests of silenced heads: one prompt with a context, a question and evidence, in a padded batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rampipe.attention.mask import Silence, silence_heads
from rampipe.types import HeadId
from tests.unit.attention.tiny_models import build, prompt

FAMILIES = ("qwen2", "qwen3_wide_heads", "mistral_sliding", "qwen2_vl")
MODES = ("zero", "mean", "evidence_knockout", "uniform")
POSITIONS = ("all", "after_context", "decode")
NUM_TOKENS = 24
CONTEXT_STOP = 18
HEADS = frozenset({HeadId(0, 1), HeadId(1, 0), HeadId(1, 3), HeadId(2, 2)})


@dataclass
class Case:
    model: torch.nn.Module
    inputs: dict
    evidence: torch.Tensor
    means: dict

    def silence(self, heads=HEADS, mode="zero", positions="all", **changes):
        """Every field given, needed or not."""
        batch = len(self.evidence)
        fields = {
            "context_stop": [CONTEXT_STOP] * batch,
            "prompt_stop": [NUM_TOKENS] * batch,
            "evidence": self.evidence,
            "means": self.means,
        }
        return Silence(heads, mode, positions, **{**fields, **changes})

    def logits(self, silence=None, inputs=None):
        return logits(self.model, self.inputs if inputs is None else inputs, silence)


def make_case(family="qwen2", implementation="sdpa", *, batch=2, padding="left"):
    """Evidence in the middle of the context; sequences of 24 and 15 tokens."""
    model = build(family, implementation)
    inputs, _, real = prompt(family, num_tokens=NUM_TOKENS, padding=padding, batch=batch)
    evidence = torch.zeros_like(real)
    evidence[:, 13:16] = True
    generator = torch.Generator().manual_seed(3)
    dim = model.get_decoder().layers[0].self_attn.o_proj.in_features // 4
    means = {layer: torch.randn(4, dim, generator=generator) for layer in range(3)}
    return Case(model, inputs, evidence, means)


@torch.no_grad()
def logits(model, inputs, silence=None, **arguments):
    if silence is None:
        return model(**inputs, use_cache=False, **arguments).logits
    with silence_heads(model, silence):
        return model(**inputs, use_cache=False, **arguments).logits


def projection_of(model, layer):
    return model.get_decoder().layers[layer].self_attn.o_proj
