from __future__ import annotations

import pytest

from rampipe.tables.fingerprint import differing_keys, fingerprint


def test_the_order_of_keys_does_not_matter_and_values_do() -> None:
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint({"b": {"d": 3, "c": 2}, "a": 1})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})
    assert fingerprint({"a": None}) != fingerprint({})
    assert len(fingerprint({})) == 64


def test_a_value_without_one_spelling_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        fingerprint({"a": float("nan")})


def test_differing_keys_have_their_place_and_both_values() -> None:
    first = {"model": {"dtype": "float32", "path": "x"}, "seed": 0}
    second = {"model": {"dtype": "bfloat16", "path": "x"}, "seed": 0, "new": 1}
    assert differing_keys(first, second) == {"model.dtype": ("float32", "bfloat16"), "new": (None, 1)}
    assert differing_keys(first, first) == {}
