"""Names alone, the best first: `attn_head_set` of QRHead's configurations, or a text file with a head a line."""

from __future__ import annotations

import re

from rampipe.heads.lists.head_list import HeadList, HeadShape, collect, dashed, wrong_format

ID = "names"
MEANING = "text: layer-head, separated by commas or white space, the best first"
SOURCE = "QRHead (arXiv 2506.09944), the value of attn_head_set"


def parse(data: bytes, shape: HeadShape) -> HeadList:
    """Heads without scores, in their order. Raises ConfigError."""
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise wrong_format(ID, MEANING) from None
    return collect(((name, ()) for name in re.split(r"[\s,]+", text) if name), shape)


def render(found: HeadList) -> bytes:
    """Scores are left out; their order stays."""
    return (",".join(dashed(head) for head in found.ordered()) + "\n").encode()
