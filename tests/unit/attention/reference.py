"""The same statistics from attention probabilities, written independently, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rampipe.types import REGIONS


@dataclass
class Reference:
    mass: torch.Tensor
    peak_evidence: torch.Tensor
    lead: torch.Tensor
    """Largest share on an evidence key minus the largest on another: a hit where positive."""
    entropy_nats: torch.Tensor


def from_probabilities(probabilities, rows, regions):
    """probabilities: [batch, head, query, key] over keys; what is missing from 1 is the learned sink's."""
    num_heads, num_rows = probabilities.shape[1], len(rows.batch)
    mass = torch.zeros(num_heads, num_rows, len(REGIONS), dtype=torch.float64)
    peak, lead, entropy = torch.zeros(3, num_heads, num_rows, dtype=torch.float64)
    for row, (batch, position) in enumerate(zip(rows.batch.tolist(), rows.position.tolist(), strict=True)):
        shares = probabilities[batch, :, position].double()
        for region in range(7):
            mass[:, row, region] = shares[:, regions[batch] == region].sum(dim=-1)
        mass[:, row, REGIONS.index("learned_sink")] = 1 - shares.sum(dim=-1)
        is_evidence = regions[batch] == REGIONS.index("evidence")
        peak[:, row] = shares.masked_fill(~is_evidence, 0).amax(dim=-1)
        lead[:, row] = peak[:, row] - shares.masked_fill(is_evidence, 0).amax(dim=-1)
        entropy[:, row] = -torch.special.xlogy(shares, shares).sum(dim=-1)
    return Reference(mass, peak, lead, entropy)


def largest_difference(layer, reference):
    """Largest absolute difference over all numbers; 1 where a hit differs beyond what rounding can turn."""
    clear = reference.lead.abs() > 1e-5
    differences = [
        (layer.mass.double() - reference.mass).abs().max(),
        (layer.peak_evidence.double() - reference.peak_evidence).abs().max(),
        (layer.entropy_nats.double() - reference.entropy_nats).abs().max(),
        ((layer.hit != (reference.lead > 0)) & clear).double().max(),
    ]
    return float(torch.stack(differences).max())


def eager_references(model, inputs, rows, regions):
    """Per layer, from the model's own `output_attentions`; leaves the model's implementation as it was."""
    before = model.get_decoder().config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = model(**inputs, output_attentions=True, use_cache=False).attentions
    model.set_attn_implementation(before)
    return [from_probabilities(layer, rows, regions) for layer in attentions]
