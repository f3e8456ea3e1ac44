"""What QRHead's detection writes: every head with its one score, the highest first."""

from __future__ import annotations

import json
from typing import Any, cast

from rampipe.heads.lists.head_list import HeadList, HeadShape, collect, dashed, read_json, wrong_format

ID = "qrhead"
MEANING = 'JSON list [["layer-head", score], ...]'
SOURCE = "QRHead (arXiv 2506.09944)"


def parse(data: bytes, shape: HeadShape) -> HeadList:
    """Query heads in the order of the file. Raises ConfigError."""
    found = read_json(data, format_id=ID, expected=MEANING)
    if not isinstance(found, list):
        raise wrong_format(ID, MEANING)
    items = list[tuple[str, list[Any]]]()
    for item in cast("list[Any]", found):
        match item:
            case [str(name), score]:
                items.append((name, [score]))
            case _:
                raise wrong_format(ID, MEANING)
    return collect(items, shape)


def render(found: HeadList) -> bytes:
    """Sorted as theirs; several scores become their mean."""
    means = found.means
    return json.dumps([[dashed(head), means[head]] for head in found.ordered()], indent=4, allow_nan=False).encode()
