from __future__ import annotations

import pytest
import torch

from rampipe.attention.reference_means import head_means
from rampipe.errors import ConfigError, DataError
from tests.unit.attention.silencing import FAMILIES, HEADS, NUM_TOKENS, make_case, projection_of


def recorded(case, layer):
    """Input of the output projection during one plain forward: [batch, query, head, dim]."""
    found = []
    hook = projection_of(case.model, layer).register_forward_pre_hook(lambda _, arguments: found.append(arguments[0]))
    case.logits()
    hook.remove()
    return found[0].unflatten(-1, (4, -1))


@pytest.mark.parametrize("family", FAMILIES)
def test_means_are_those_of_the_marked_positions(family):
    case = make_case(family)
    real = case.inputs["attention_mask"].bool()
    means = head_means(case.model, [(case.inputs, real)])
    assert sorted(means) == [0, 1, 2]
    for layer, mean in means.items():
        outputs = recorded(case, layer)
        torch.testing.assert_close(mean, outputs[real].mean(dim=0), atol=1e-6, rtol=0)
        assert float((mean - outputs.mean(dim=(0, 1))).abs().max()) > 1e-3  # twin: with padding


def test_batches_weigh_by_their_positions_and_leave_no_hook():
    case = make_case(padding="none")
    first = torch.zeros(2, NUM_TOKENS, dtype=torch.bool)
    first[0, :3] = True
    second = torch.zeros_like(first)
    second[1, 5:] = True
    together = head_means(case.model, [(case.inputs, first | second)])
    apart = head_means(case.model, ((case.inputs, rows) for rows in (first, second)))
    for layer, mean in together.items():
        torch.testing.assert_close(apart[layer], mean, atol=1e-6, rtol=0)
        assert not projection_of(case.model, layer)._forward_pre_hooks


def test_the_mean_of_one_position_put_at_that_position_changes_nothing():
    case = make_case(batch=1)
    last = torch.arange(NUM_TOKENS)[None] == NUM_TOKENS - 1
    means = head_means(case.model, [(case.inputs, last)])
    silence = case.silence(HEADS, "mean", "after_context", context_stop=[NUM_TOKENS - 1], means=means)
    torch.testing.assert_close(case.logits(silence), case.logits(), atol=1e-5, rtol=0)
    earlier = head_means(case.model, [(case.inputs, last.roll(-3, dims=1))])
    silence = case.silence(HEADS, "mean", "after_context", context_stop=[NUM_TOKENS - 1], means=earlier)
    assert float((case.logits(silence) - case.logits()).abs().max()) > 1e-3


def test_a_mean_of_nothing_is_refused():
    case = make_case()
    with pytest.raises(DataError, match="no position is marked"):
        head_means(case.model, [(case.inputs, torch.zeros(2, NUM_TOKENS, dtype=torch.bool))])
    with pytest.raises(DataError, match="0 batches"):
        head_means(case.model, [])
    with pytest.raises(DataError, match=r"shape \(2, 23\)"):
        head_means(case.model, [(case.inputs, torch.ones(2, NUM_TOKENS - 1, dtype=torch.bool))])
    assert not projection_of(case.model, 0)._forward_pre_hooks


@pytest.mark.parametrize("fault", ["missing", "shape", "nan"])
def test_means_that_do_not_fit_the_model_are_refused(fault):
    case = make_case()
    means = {layer: mean.clone() for layer, mean in case.means.items()}
    assert case.logits(case.silence(mode="mean", means=means)).isfinite().all()
    if fault == "missing":
        del means[1]
    else:
        means[1] = means[1][:, 1:] if fault == "shape" else means[1] * torch.nan
    with pytest.raises(ConfigError, match="layer 1: its head means are"):
        case.logits(case.silence(mode="mean", means=means))
    assert not projection_of(case.model, 0)._forward_pre_hooks
