from __future__ import annotations

import pytest
import torch

from rampipe.attention.silence import Silence
from rampipe.errors import ConfigError
from rampipe.types import HeadId

HEADS = frozenset({HeadId(0, 2), HeadId(0, 1), HeadId(3, 0)})


def test_heads_of_a_layer_are_named_per_row_or_once():
    assert Silence(HEADS).heads_of(0) == [[1, 2]]
    assert Silence([frozenset(), HEADS]).heads_of(0) == [[], [1, 2]]
    assert Silence([frozenset({HeadId(1, 1)}), HEADS]).all_heads == {*HEADS, HeadId(1, 1)}
    assert Silence([]).all_heads == frozenset()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "mean"}, "means is None"),
        ({"mode": "evidence_knockout"}, "evidence is None"),
        ({"positions": "after_context", "prompt_stop": [3]}, "context_stop is None"),
        ({"positions": "decode", "context_stop": [3]}, "prompt_stop is None"),
        ({"heads": [HEADS], "positions": "decode", "prompt_stop": [3, 3]}, "the same number"),
    ],
)
def test_what_does_not_fit_together_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Silence(**{"heads": HEADS, **fields})


def test_only_the_stop_of_the_chosen_positions_counts():
    silence = Silence(HEADS, positions="decode", context_stop=[3], prompt_stop=[5, 6])
    assert silence.first_positions == [5, 6]
    assert silence.num_rows == 2
    assert Silence(HEADS).num_rows is None
    assert Silence(HEADS, evidence=torch.zeros(4, 9, dtype=torch.bool)).num_rows == 4


@pytest.mark.parametrize(("field", "value"), [("mode", "gone"), ("positions", "prefill")])
def test_an_unknown_word_is_refused(field, value):
    silence = Silence(HEADS)
    silence.__post_init__()
    object.__setattr__(silence, field, value)  # past the type checker of the tests, which users do not have
    with pytest.raises(ConfigError, match=f"{field} is '{value}'; allowed: "):
        silence.__post_init__()
