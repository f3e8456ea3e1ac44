"""The auxiliary loss of list entries: it looks at the right rows, and is lowest when they hold the right item."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.deep.architecture import build_deep_model
from rampipe.testbed.deep.binding import MAX_ENTRIES, binding_loss, draw_items, entry_rows
from rampipe.testbed.deep.content import Content, draw_content
from rampipe.testbed.deep.layout import ImageLayout, Layout, ListLayout
from rampipe.testbed.deep.packing import context_ids, slot_of_tokens
from rampipe.testbed.deep.words import key_id

LAYOUT: Layout = (ListLayout(3), ImageLayout((2, 2), (1, 2)), ListLayout(MAX_ENTRIES + 2))


def make_contents() -> list[Content]:
    rng = np.random.default_rng(0)
    return [draw_content(LAYOUT, rng=rng) for _ in range(2)]


def test_the_rows_are_the_keys_of_the_first_entries() -> None:
    for content in make_contents():
        ids, slots = context_ids(LAYOUT, content), slot_of_tokens(LAYOUT)
        rows = torch.cat(entry_rows(LAYOUT)).tolist()
        assert len(rows) == 3 + MAX_ENTRIES
        assert [ids[row] for row in rows] == [key_id(int(content.keys[slots[row]])) for row in rows]


def test_right_items_cost_less_than_items_of_other_values_and_contexts_without_lists_cost_nothing() -> None:
    model, contents = build_deep_model(weights_path(), seed=0), make_contents()
    right = torch.zeros(2, sum(part.num_tokens for part in LAYOUT), 192)
    wrong = right.clone()
    for index, content in enumerate(contents):
        for part, rows in zip((0, 2), entry_rows(LAYOUT), strict=True):
            items = draw_items(model, content, part, rng=np.random.default_rng(1)).detach()
            right[index, rows], wrong[index, rows] = items[0], items[1]
    told: dict[str, tuple[float, float]] = {}
    for name, context in (("right", right), ("wrong", wrong)):
        found = binding_loss(model, context, layout=LAYOUT, contents=contents, rng=np.random.default_rng(2))
        assert found is not None
        told[name] = (float(found[0]), found[1])
    assert told["right"][0] < told["wrong"][0]
    assert told["right"][1] == pytest.approx(1.0, abs=0.1)
    assert told["wrong"][1] < 0.5
    assert binding_loss(model, right, layout=LAYOUT[1:2], contents=contents, rng=np.random.default_rng(2)) is None
