"""pytest hooks: `--reliability-table FILE` writes, for every fault and bad input, its tests and what came of them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from tests.faults.catalogue import BAD_INPUTS, FAULTS, Case
from tests.faults.document import write_section

WORST_FIRST = ("failed", "skipped", "passed")


class ReliabilityTable:
    """Collects outcomes by the ids of the `fault` marks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ids: dict[str, tuple[str, ...]] = {}
        self._outcomes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            ids = tuple(case for mark in item.iter_markers("fault") for case in mark.args)
            if ids:
                self._ids[item.nodeid] = ids

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        name = report.nodeid.partition("[")[0].removeprefix("tests/")
        for case in self._ids.get(report.nodeid, ()):
            self._outcomes[case][name].append(report.outcome)

    def pytest_sessionfinish(self) -> None:
        for section, cases in (("faults", FAULTS), ("bad inputs", BAD_INPUTS)):
            write_section(self.path, section, self.lines(cases))

    def lines(self, cases: dict[str, Case]) -> list[str]:
        """Markdown; a test with parameters is one entry with the worst of its outcomes and their number."""
        made = ["| id | what happens | required | test | result |", "|---|---|---|---|---|"]
        for case, (what, required) in cases.items():
            found = self._outcomes.get(case, {})
            names = "<br>".join(f"`{name}`" for name in sorted(found))
            results = "<br>".join(summary(found[name]) for name in sorted(found))
            made.append(f"| {case} | {what} | {required} | {names or 'none'} | {results or 'not run'} |")
        return made


def summary(outcomes: list[str]) -> str:
    worst = next(outcome for outcome in WORST_FIRST if outcome in outcomes)
    return worst if len(outcomes) == 1 else f"{worst} ({outcomes.count(worst)} of {len(outcomes)})"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability-table", metavar="FILE", help="write what came of the tests marked `fault`")
    parser.addoption("--seeds", type=int, default=None, metavar="N", help="seeds of each scheduler simulation")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--reliability-table")
    if path:
        config.pluginmanager.register(ReliabilityTable(Path(path)))
