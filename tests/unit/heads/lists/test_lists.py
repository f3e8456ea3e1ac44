"""Every format of head lists: the same functions, and export, import, export is the identity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rampipe.heads.lists as package
from rampipe.errors import ConfigError
from rampipe.heads.lists import FORMATS, duo_attention, format_by_id, head_score, names, plain, qrhead
from rampipe.heads.lists.head_list import HeadList, HeadShape, ListFormat
from rampipe.types import HeadId

SHAPE = HeadShape(3, 4, 2)
ALL = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.ID)
score = st.floats(-1e6, 1e6, allow_nan=False)
HEADS = [HeadId(layer, head) for layer in range(3) for head in range(4)]


Drawn = tuple[list[HeadId], list[list[float]]]
drawn = st.tuples(st.permutations(HEADS), st.lists(st.lists(score, min_size=1, max_size=3), min_size=12, max_size=12))


def made(draw: Drawn) -> HeadList:
    """All heads in any order, with as many scores as there happen to be."""
    return HeadList(SHAPE, {head: tuple(scores) for head, scores in zip(*draw, strict=True)})


@ALL
@settings(max_examples=40)
@given(draw=drawn)
def test_export_import_export_is_the_identity(form: ListFormat, draw: Drawn) -> None:
    found = made(draw)
    exported = form.render(found)
    again = form.parse(exported, SHAPE)
    assert form.render(again) == exported
    assert form.parse(form.render(again), SHAPE) == again
    if form in (head_score, plain):
        assert again == found
        assert list(again.scores) == list(found.scores)
    if form is not duo_attention:
        assert again.ordered() == found.ordered() if form is not names else set(again.scores) == set(found.scores)


@ALL
@settings(max_examples=20)
@given(draw=drawn)
def test_another_list_is_another_file(form: ListFormat, draw: Drawn) -> None:
    """Twin: an export that forgot a head's score or place would still be an identity."""
    found = made(draw)
    head = found.ordered()[-1]
    raised = {**found.scores, head: (2e6,)}
    assert form.render(HeadList(SHAPE, raised)) != form.render(found)


def test_the_files_of_the_peers_are_read() -> None:
    shape = HeadShape(2, 4, 2)
    read = head_score.parse(b'{"1-3": [0.5, 0.25], "0-0": [0.0]}', shape)
    assert read.means == {HeadId(1, 3): 0.375, HeadId(0, 0): 0.0}
    gates = "\n".join("\t".join(f"{value:.18e}" for value in row) for row in ((0.0, 1.0), (0.25, 0.5)))
    duo = duo_attention.parse(gates.encode(), shape)
    assert np.array([duo.means[HeadId(1, head)] for head in range(4)]).tolist() == [0.25, 0.25, 0.5, 0.5]
    assert qrhead.parse(b'[["1-2", 3.0], ["0-1", 0.5]]', shape).ordered() == [HeadId(1, 2), HeadId(0, 1)]
    assert names.parse(b"1-2,0-1,1-0", shape).ordered() == [HeadId(1, 2), HeadId(0, 1), HeadId(1, 0)]


WRONG: dict[str, list[tuple[bytes, str]]] = {
    "head_score": [
        (b'{"3-0": [1.0]}', "outside the model, which has 3 layers of 4"),
        (b'{"0-4": [1.0]}', "outside the model"),
        (b'{"0-1": [NaN]}', "not head_score"),
        (b'{"0-1": ["high"]}', "finite"),
        (b'{"0.1": [1.0]}', "no head"),
        (b'{"0-1": 1.0}', "not head_score"),
        (b'{"0-1": [1.0], "00-1": [2.0]}', "twice"),
        (b"{}", "no head"),
        (b"\xff\x00", "not head_score"),
    ],
    "duo_attention": [
        (b"1.0\t2.0\n1.0\t2.0\n", "2 lines"),
        (b"1\t2\t3\n1\t2\t3\n1\t2\t3\n", "kv_heads"),
        (b"1\t2\n1\t2\n1\tnan\n", "finite"),
        (b"{}", "not duo_attention"),
    ],
    "qrhead": [(b'{"0-1": 1.0}', "not qrhead"), (b'[["0-1"]]', "not qrhead"), (b'[["9-1", 1.0]]', "outside")],
    "names": [(b"0-1,9-9", "outside"), (b"", "no head"), (b"0-1 0-1", "twice"), (b"\xff", "not names")],
    "plain": [
        (b"{}", "not plain"),
        (b"[]", "not plain"),
        (b'{"num_layers": 9, "num_heads": 4, "kv_heads": null, "heads": []}', "for 9 layers"),
        (b'{"num_layers": 3, "num_heads": 4, "kv_heads": null, "heads": [["0-1", []], ["0-2", [1.0]]]}', "no score"),
    ],
}


@pytest.mark.parametrize(
    ("name", "data", "message"), [(name, *case) for name, cases in WRONG.items() for case in cases]
)
def test_a_wrong_file_is_refused_in_one_sentence(name: str, data: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        format_by_id(name).parse(data, SHAPE)


def test_a_matrix_needs_every_head_and_the_groups() -> None:
    some = HeadList(SHAPE, {HeadId(0, 0): (1.0,)})
    with pytest.raises(ConfigError, match="1 of 12 heads"):
        duo_attention.render(some)
    with pytest.raises(ConfigError, match="--kv-heads"):
        duo_attention.parse(b"1\t2\n", HeadShape(1, 4))


@ALL
def test_each_file_is_one_format_of_the_tuple(form: ListFormat) -> None:
    files = {path.stem for path in Path(package.__file__).parent.glob("*.py")}
    assert files - {"__init__", "head_list", "run_lists"} == {other.ID for other in FORMATS}
    assert form.MEANING and form.SOURCE and format_by_id(form.ID) is form


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'qrhead'"):
        format_by_id("qrheads")
