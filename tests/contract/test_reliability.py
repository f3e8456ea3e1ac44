"""Every fault and bad input of the catalogue has a test that is named for it, and no test is named for another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.catalogue import BAD_INPUTS, CASES, FAULTS
from tests.faults.document import write_section
from tests.faults.mutations import MUTATIONS
from tests.faults.table import summary

ROOT = Path(__file__).resolve().parents[2]


def marked_ids(source: str) -> Iterator[str]:
    """First arguments of every `pytest.mark.fault(...)` of a file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
            yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))


def test_every_case_has_a_test_and_every_mark_a_case() -> None:
    found = {case for path in (ROOT / "tests").rglob("test_*.py") for case in marked_ids(path.read_text("utf-8"))}
    assert found - {*CASES} == set()
    assert {*FAULTS} - found == set()
    # The cases of test_bad_inputs.py are marked by their table, not by a literal.
    from tests.contract.test_bad_inputs import BAD_ROWS

    assert {*BAD_INPUTS} - found - {case for case, _, _ in BAD_ROWS.values()} == set()


def test_the_catalogue_is_whole() -> None:
    assert [*FAULTS] == [f"F{number}" for number in range(1, 21)]
    assert [*BAD_INPUTS] == [f"B{number}" for number in range(1, 26)]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.guard)
def test_every_guard_is_where_its_mutation_looks_for_it(mutation) -> None:
    assert (ROOT / mutation.path).read_text("utf-8").count(mutation.old) == 1
    file, _, name = mutation.test.partition("::")
    assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text("utf-8")


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("a\n<!-- x: written by a run -->\nold\n<!-- end of x -->\nb\n", "utf-8")
    write_section(path, "x", ["new", "lines"])
    assert path.read_text("utf-8") == "a\n<!-- x: written by a run -->\nnew\nlines\n<!-- end of x -->\nb\n"
    with pytest.raises(ValueError, match="no section 'y'"):
        write_section(path, "y", [])


def test_the_worst_outcome_of_a_test_counts() -> None:
    assert summary(["passed"]) == "passed"
    assert summary(["passed", "failed", "passed"]) == "failed (1 of 3)"
    assert summary(["passed", "skipped"]) == "skipped (1 of 2)"
