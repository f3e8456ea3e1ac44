"""Our own: plain JSON that says which model's shape it is for, and keeps every score."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rampipe.errors import ConfigError
from rampipe.heads.lists.head_list import HeadList, HeadShape, collect, dashed, read_json, wrong_format

ID = "plain"
MEANING = 'JSON object {"num_layers", "num_heads", "kv_heads", "heads": [["layer-head", [score, ...]], ...]}'
SOURCE = "rampipe"


def parse(data: bytes, shape: HeadShape) -> HeadList:
    """The file's kv_heads are taken where the caller knows none. Raises ConfigError, also for another model's shape."""
    found = read_json(data, format_id=ID, expected=MEANING)
    try:
        theirs = HeadShape(found["num_layers"], found["num_heads"], found["kv_heads"])
        items = [(str(name), list[Any](scores)) for name, scores in found["heads"]]
    except (TypeError, KeyError, ValueError):
        raise wrong_format(ID, MEANING) from None
    if (theirs.num_layers, theirs.num_heads) != (shape.num_layers, shape.num_heads):
        raise ConfigError(
            f"head list: it is for {theirs.num_layers} layers of {theirs.num_heads} query heads, the model has "
            f"{shape.num_layers} of {shape.num_heads}. Is the list of another model?"
        )
    return collect(items, theirs if shape.kv_heads is None else shape)


def render(found: HeadList) -> bytes:
    """Heads in their order, scores as they are."""
    heads = [[dashed(head), list(scores)] for head, scores in found.scores.items()]
    return json.dumps({**asdict(found.shape), "heads": heads}, indent=1, allow_nan=False).encode() + b"\n"
