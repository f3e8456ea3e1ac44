"""The identity of a run: everything that changes its numbers, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

STATISTICS_VERSION = 2
"""Raised by hand when the same inputs give other numbers: another definition, another kernel, another batch rule."""


def canonical_json(value: Any) -> bytes:
    """JSON with one spelling: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """64 hex digits over the canonical JSON of the inputs; the order of keys does not matter."""
    return hashlib.sha256(canonical_json(inputs)).hexdigest()


def differing_keys(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both values; None where one side lacks the key."""
    left, right = _flat(first), _flat(second)
    return {key: (left.get(key), right.get(key)) for key in sorted({*left, *right}) if left.get(key) != right.get(key)}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {f"{prefix}{key}": item}
    return flat
