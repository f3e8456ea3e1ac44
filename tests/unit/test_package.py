from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rampipe

ROOT = Path(__file__).resolve().parents[2]
HEAVY = "sorted({'torch', 'ray', 'polars', 'pyarrow', 'numpy', 'pydantic'} & {*sys.modules})"


def modules_after(statement: str) -> str:
    code = f"import sys; {statement}; print({HEAVY})"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_importing_the_package_is_light_and_open_run_is_not() -> None:
    assert modules_after("import rampipe; rampipe.__version__") == "[]"
    assert "polars" in modules_after("import rampipe; rampipe.open_run")


def test_an_actor_commits_without_polars() -> None:
    assert modules_after("import rampipe.tables.commit, rampipe.tables.run, rampipe.tables.finish") == (
        "['numpy', 'pyarrow']"
    )


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert rampipe.__version__ == project["version"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = rampipe.nothing
