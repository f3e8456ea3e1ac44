"""`full_attention_heads.tsv` of DuoAttention: a gate a kv_head, learned there, any score here."""

from __future__ import annotations

from rampipe.heads.lists.head_list import HeadList, HeadShape, from_means, require_all, wrong_format
from rampipe.types import HeadId

ID = "duo_attention"
MEANING = "tab-separated numbers, a line a layer and a column a kv_head"
SOURCE = "DuoAttention (arXiv 2410.10819)"


def parse(data: bytes, shape: HeadShape) -> HeadList:
    """Each query head has the value of its kv_head. Values are kept as they are; DuoAttention clips them to [0, 1].

    Raises ConfigError when rows or columns are not layers and kv_heads of the model.
    """
    size = shape.group_size
    try:
        rows = [[float(cell) for cell in line.split("\t")] for line in data.decode("ascii").splitlines() if line]
    except ValueError:
        raise wrong_format(ID, MEANING) from None
    widths = sorted({len(row) for row in rows})
    if len(rows) != shape.num_layers or widths != [shape.kv_heads]:
        raise wrong_format(ID, f"{MEANING}; here {len(rows)} lines of {widths}, for {shape.num_layers} layers of "
                               f"{shape.kv_heads} kv_heads")  # fmt: skip
    means = {
        HeadId(layer, kv_head * size + member): value
        for layer, row in enumerate(rows)
        for kv_head, value in enumerate(row)
        for member in range(size)
    }
    return from_means(means, shape)


def render(found: HeadList) -> bytes:
    """A kv_head has the highest value of its query heads: it must be kept for any of them."""
    require_all(found.scores, found.shape)
    size, means = found.shape.group_size, found.means
    lines = list[str]()
    for layer in range(found.shape.num_layers):
        heads = [HeadId(layer, head) for head in range(found.shape.num_heads)]
        groups = [heads[start : start + size] for start in range(0, len(heads), size)]
        lines.append("\t".join(f"{max(means[head] for head in group):.18e}" for group in groups))
    return ("\n".join(lines) + "\n").encode()
