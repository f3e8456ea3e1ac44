"""Places along one axis, against torch's own interpolation."""

from __future__ import annotations

import pytest
import torch

from rampipe.models.axis import blend_spans, cross, patch_spans, place_spans


@pytest.mark.parametrize(("patches", "tokens"), [(27, 14), (54, 40), (48, 24), (33, 29), (5, 5), (3, 1)])
def test_blends_are_those_of_torch(patches, tokens):
    """The gradient of each token says which patches it was made of."""
    features = torch.zeros(1, 1, 1, patches, requires_grad=True)
    blended = torch.nn.functional.interpolate(features, [1, tokens], mode="bilinear")[0, 0, 0]
    spans = blend_spans(patch_spans(1, patches, 1), tokens)
    for token in range(tokens):
        (weights,) = torch.autograd.grad(blended[token], features, retain_graph=True)
        used = (weights.flatten() > 1e-3).nonzero().flatten().tolist()
        assert spans[token].tolist() == [used[0], used[-1] + 1]


def test_padding_has_no_place():
    spans = place_spans(patch_spans(1, 32, 8), offset_px=16, shown_px=12, stored_px=24)
    assert spans[:2].isnan().all()
    assert spans[2:].tolist() == [[0, 16], [16, 24]]
    boxes = cross(spans, patch_spans(1, 8, 8))
    assert boxes[0].isnan().all()
    assert boxes[3].tolist() == [0, 16, 8, 24]
