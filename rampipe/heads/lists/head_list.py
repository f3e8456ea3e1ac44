"""Heads with scores, of whatever origin, and the shape that every file of this folder has."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from rampipe.errors import ConfigError
from rampipe.types import HeadId

Scores = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class HeadShape:
    """What a list must fit. kv_heads: per layer; null when unknown, which only some formats need."""

    num_layers: int
    num_heads: int
    kv_heads: int | None = None

    @property
    def group_size(self) -> int:
        """Query heads of one kv_head. Raises ConfigError when it is unknown or not whole."""
        if self.kv_heads is None or self.kv_heads < 1 or self.num_heads % self.kv_heads:
            raise ConfigError(
                f"kv_heads = {self.kv_heads}: this format counts kv_heads, and {self.num_heads} query heads of a layer "
                "must be a multiple of them. Pass --kv-heads, num_key_value_heads of the model's configuration."
            )
        return self.num_heads // self.kv_heads


@dataclass(frozen=True, slots=True)
class HeadList:
    """Heads in the order of their file, each with its scores: several where a file keeps one a sample, none where it
    has names alone and the order is the ranking.
    """

    shape: HeadShape
    scores: Mapping[HeadId, Scores]

    @property
    def means(self) -> dict[HeadId, float]:
        """Mean score by head; of names without scores, minus the place in the list. Heads not listed are absent."""
        return {
            head: math.fsum(scores) / len(scores) if scores else -float(place)
            for place, (head, scores) in enumerate(self.scores.items(), start=1)
        }

    def ordered(self) -> list[HeadId]:
        """The highest mean first; ties by layer, then head."""
        means = self.means
        return sorted(means, key=lambda head: (-means[head], head))


@runtime_checkable
class ListFormat(Protocol):
    """One file format of head lists. Each is a module with these names; `parse(render(found))` gives `found` again,
    where the format can hold it.
    """

    @property
    def ID(self) -> str: ...  # noqa: D102, N802
    @property
    def MEANING(self) -> str: ...  # noqa: D102, N802
    @property
    def SOURCE(self) -> str: ...  # noqa: D102, N802

    def parse(self, data: bytes, shape: HeadShape) -> HeadList:
        """Raises ConfigError for a file of another format or heads that the model does not have."""
        ...

    def render(self, found: HeadList) -> bytes:
        """The bytes of a file. Raises ConfigError for what the format cannot hold."""
        ...


def collect(items: Iterable[tuple[str, Iterable[Any]]], shape: HeadShape) -> HeadList:
    """Items `"layer-head"` and scores as a list. Raises ConfigError for the first that is no head, or there twice."""
    found: dict[HeadId, Scores] = {}
    for name, values in items:
        head = _head(name, shape)
        if head in found:
            raise ConfigError(f"head list: head {name!r} is there twice. Keep one of them.")
        found[head] = tuple(_score(name, value) for value in values)
    if not found:
        raise ConfigError("head list: it holds no head. Check that the file is whole and --format is right.")
    unscored = sum(not scores for scores in found.values())
    if unscored not in (0, len(found)):
        raise ConfigError(f"head list: {unscored} of {len(found)} heads have no score. Score all of them, or none.")
    return HeadList(shape, found)


def from_means(means: Mapping[HeadId, float], shape: HeadShape) -> HeadList:
    """A list with one score a head, checked as a file would be."""
    return collect(((dashed(head), [value]) for head, value in means.items()), shape)


def dashed(head: HeadId) -> str:
    """The peers' spelling."""
    return f"{head.layer}-{head.head}"


def read_json(data: bytes, *, format_id: str, expected: str) -> Any:
    """JSON of a file. Raises ConfigError that says what was expected of it; NaN is no score."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise wrong_format(format_id, expected) from None


def wrong_format(format_id: str, expected: str) -> ConfigError:
    """What a parser raises for a file of another format."""
    return ConfigError(f"head list: it is not {format_id}, which is {expected}. Name its format with --format.")


def require_all(heads: Collection[HeadId], shape: HeadShape) -> None:
    """Raises ConfigError when the list leaves heads of the model out: a missing score is not 0."""
    num_all = shape.num_layers * shape.num_heads
    if len(heads) != num_all:
        raise ConfigError(
            f"head list: {len(heads)} of {num_all} heads have a score, and this format is a matrix of all. "
            "Export to head_score or plain instead."
        )


def _head(name: str, shape: HeadShape) -> HeadId:
    layer, separator, head = name.strip().partition("-")
    if not (separator and layer.isdecimal() and head.isdecimal()):
        raise ConfigError(f'head list: {name[:40]!r} is no head. Write zero-based "layer-head".')
    found = HeadId(int(layer), int(head))
    if found.layer >= shape.num_layers or found.head >= shape.num_heads:
        raise ConfigError(
            f"head list: head {dashed(found)} is outside the model, which has {shape.num_layers} layers of "
            f"{shape.num_heads} query heads, counted from zero. Is the list of another model?"
        )
    return found


def _score(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"head list: head {name!r} has score {str(value)[:40]!r}; allowed: finite numbers.")
    return float(value)


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)
