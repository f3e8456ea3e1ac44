"""The same statistics from attention probabilities, written independently, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rampipe.types import REGIONS


@dataclass
class Reference:
    mass: torch.Tensor
    peak_evidence: torch.Tensor
    hit: torch.Tensor
    entropy_nats: torch.Tensor


def from_probabilities(probabilities, rows, regions):
    """probabilities: [batch, head, query, key] over keys; what is missing from 1 is the learned sink's."""
    num_heads, num_rows = probabilities.shape[1], len(rows.batch)
    mass = torch.zeros(num_heads, num_rows, len(REGIONS), dtype=torch.float64)
    peak, entropy = torch.zeros(2, num_heads, num_rows, dtype=torch.float64)
    hit = torch.zeros(num_heads, num_rows, dtype=torch.bool)
    for head in range(num_heads):
        for row, (batch, position) in enumerate(zip(rows.batch.tolist(), rows.position.tolist(), strict=True)):
            shares = probabilities[batch, head, position].double()
            for region in range(7):
                mass[head, row, region] = shares[regions[batch] == region].sum()
            mass[head, row, REGIONS.index("learned_sink")] = 1 - shares.sum()
            evidence = shares[regions[batch] == REGIONS.index("evidence")]
            peak[head, row] = evidence.max() if len(evidence) else 0
            hit[head, row] = regions[batch, shares.argmax()] == REGIONS.index("evidence")
            entropy[head, row] = -torch.special.xlogy(shares, shares).sum()
    return Reference(mass, peak, hit, entropy)


def largest_difference(layer, reference):
    """Largest absolute difference over all numbers; 1 where a hit differs."""
    differences = [
        (layer.mass.double() - reference.mass).abs().max(),
        (layer.peak_evidence.double() - reference.peak_evidence).abs().max(),
        (layer.entropy_nats.double() - reference.entropy_nats).abs().max(),
        (layer.hit != reference.hit).double().max(),
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
