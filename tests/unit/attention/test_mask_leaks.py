"""No silence lets a row see what comes after it."""

from __future__ import annotations

import pytest
import torch

from rampipe.attention import restriction as restriction_module
from rampipe.attention.mask import HeadReplacement
from tests.unit.attention.silencing import FAMILIES, HEADS, MODES, NUM_TOKENS, POSITIONS, make_case
from tests.unit.attention.tiny_models import IMAGE_TOKEN


def largest_change_before(case, silence, last):
    """Largest change of the logits up to position `last` when every token after it becomes another one."""
    ids = case.inputs["input_ids"].clone()
    later = ids[:, last + 1 :]
    ids[:, last + 1 :] = torch.where(later == IMAGE_TOKEN, later, (later + 7 - 3) % 57 + 3)
    before = case.logits(silence)
    after = case.logits(silence, {**case.inputs, "input_ids": ids})
    assert not torch.equal(before[:, last + 1 :], after[:, last + 1 :])
    real = case.inputs["attention_mask"].bool()[:, : last + 1]
    return float((before - after)[:, : last + 1][real].abs().max())


def silence_of(case, mode, positions):
    return case.silence(HEADS, mode, positions, prompt_stop=[NUM_TOKENS - 4] * 2)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("positions", POSITIONS)
def test_later_tokens_change_no_earlier_logit(family, mode, positions):
    case = make_case(family)
    for last in (14, 19, 22):
        assert largest_change_before(case, silence_of(case, mode, positions), last) == 0


@pytest.mark.parametrize("mode", ["evidence_knockout", "uniform"])
@pytest.mark.parametrize("positions", POSITIONS)
def test_keys_of_the_future_are_found(mode, positions, monkeypatch):
    """visual-head sets logits to 0 after the causal mask: a leak that its own code never noticed."""

    def sees_all(call, batch, *, position, key):
        return torch.zeros(1, len(position), len(key))

    monkeypatch.setattr(restriction_module, "row_bias", sees_all)
    case = make_case()
    assert largest_change_before(case, silence_of(case, mode, positions), 22) > 1e-3


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_mean_over_the_running_sequence_is_found(positions, monkeypatch):
    correct = HeadReplacement.__call__

    def mean_of_this_sequence(self, projection, arguments):
        self.constant = arguments[0].mean(dim=(0, 1)).view_as(self.constant)
        return correct(self, projection, arguments)

    monkeypatch.setattr(HeadReplacement, "__call__", mean_of_this_sequence)
    case = make_case()
    assert largest_change_before(case, silence_of(case, "mean", positions), 22) > 1e-3
