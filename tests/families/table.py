"""pytest hooks: `--families-table` writes what was verified for each family into rampipe/models/README.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.families.builders import BUILDERS
from tests.faults.document import write_section

README = Path(__file__).parents[2] / "rampipe" / "models" / "README.md"
SECTION = "families"
CHECKS = (
    "one image",
    "several images",
    "padded batch",
    "video",
    "shared context",
    "boxes",
    "true places",
    "prompt",
    "zero-ablation",
    "hybrid attention",
    "speed",
    "two GPUs (simulated)",
)


class FamiliesTable:
    """Collects what passing tests noted."""

    def __init__(self) -> None:
        self.results: dict[tuple[str, str], str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties if report.when == "call" else ():
            if name == "verified":
                builder, check, result = value
                self.results[builder, check] = "FAILED" if report.failed else result

    def pytest_sessionfinish(self) -> None:
        write_section(README, SECTION, lines(self.results))


def lines(results: dict[tuple[str, str], str]) -> list[str]:
    """Markdown: a row a checkpoint, a column a check."""
    made = ["| " + " | ".join(("checkpoint", "`model_type`", *CHECKS)) + " |", "|---" * (len(CHECKS) + 2) + "|"]
    for builder in BUILDERS:
        cells = [results.get((builder.name, check), "not run") for check in CHECKS]
        made.append("| " + " | ".join((builder.name, f"`{builder.model_type}`", *cells)) + " |")
    return made


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--families-table", action="store_true", help="write what was verified for each family")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--families-table", default=False):
        config.pluginmanager.register(FamiliesTable())
