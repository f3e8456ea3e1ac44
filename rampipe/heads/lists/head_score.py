"""`head_score/<model>.json` of Retrieval_Head and the methods that grew out of it: a score a head and sample."""

from __future__ import annotations

import json
from typing import Any, cast

from rampipe.heads.lists.head_list import HeadList, HeadShape, collect, dashed, read_json, wrong_format

ID = "head_score"
MEANING = 'JSON object {"layer-head": [score, ...]}, one score a sample'
SOURCE = "Retrieval_Head (arXiv 2404.15574); SparseMM (arXiv 2506.05344); HeadKV (arXiv 2410.19258)"


def parse(data: bytes, shape: HeadShape) -> HeadList:
    """Query heads in the order of the file. Raises ConfigError."""
    found = read_json(data, format_id=ID, expected=MEANING)
    if not isinstance(found, dict):
        raise wrong_format(ID, MEANING)
    scores = cast("dict[str, Any]", found)
    if not all(isinstance(values, list) and values for values in scores.values()):
        raise wrong_format(ID, MEANING)
    return collect(scores.items(), shape)


def render(found: HeadList) -> bytes:
    """A head without scores gets those of its place."""
    means = found.means
    content = {dashed(head): list(scores or (means[head],)) for head, scores in found.scores.items()}
    return json.dumps(content, allow_nan=False).encode()
