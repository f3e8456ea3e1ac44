"""The rooms of the house: imports run downward only, and the table half needs neither torch nor Ray.

Each rule has a twin that plants the fault and must be caught.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A folder may import folders of a lower floor of its own half, and what both halves stand on.
GROUND = ("types", "errors", "config", "tables")
FLOORS: dict[str, tuple[str, int]] = {
    "testbed": ("model", 1),
    "attention": ("model", 2),
    "models": ("model", 3),
    "data": ("model", 4),
    "trials": ("model", 5),
    "engine": ("model", 6),
    "heads": ("table", 3),
    "report": ("table", 4),
}
GROUND_MAY_IMPORT = {
    "types": (),
    "errors": (),
    "config": ("types", "errors"),
    "tables": ("types", "errors", "config", "tables"),
}
TOP = ("__init__", "__main__", "cli")  # the entries: above every floor
# cluster.py schedules units, submit.py hands over whole jobs, tree.py merges results: three uses of Ray, one file each.
ONLY_FILES_OF = {"ray": ("rampipe/engine/cluster.py", "rampipe/engine/submit.py", "rampipe/engine/tree.py")}
ONLY_IN = {
    "torch": ("attention", "models", "trials", "testbed", "engine"),
    "polars": ("tables", "heads", "report"),
}


def imports_of(source: str) -> Iterator[str]:
    """Every module that a source text imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] != "rampipe" or len(parts) < 2:
        return None
    return parts[1]


def broken_rules(path: str, source: str) -> list[str]:
    """What a file of `rampipe/` imports that it may not."""
    room = Path(path).relative_to("rampipe").parts[0].removesuffix(".py")
    problems = []
    for module in imports_of(source):
        top = module.split(".")[0]
        if top in ONLY_FILES_OF and path not in ONLY_FILES_OF[top]:
            problems.append(f"{path} imports {module}: only {ONLY_FILES_OF[top]} may")
        if top in ONLY_IN and room not in ONLY_IN[top]:
            problems.append(f"{path} imports {module}: only {ONLY_IN[top]} may")
        target = room_of(module)
        known = {*FLOORS, *GROUND, *TOP}
        if target is None or target not in known or target == room or room in TOP:
            continue
        if room in GROUND_MAY_IMPORT:
            allowed = target in GROUND_MAY_IMPORT[room]
        else:
            half, floor = FLOORS[room]
            allowed = target in GROUND or (target in FLOORS and FLOORS[target][0] == half and FLOORS[target][1] < floor)
        if not allowed:
            problems.append(f"{path} imports {module}: {room} stands below it, beside it, or in the other half")
    return problems


def python_files() -> list[Path]:
    return sorted((ROOT / "rampipe").rglob("*.py"))


def test_imports_run_downward() -> None:
    problems = [
        problem
        for path in python_files()
        for problem in broken_rules(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    ]
    assert problems == []


def test_every_folder_has_a_floor() -> None:
    folders = {path.name for path in (ROOT / "rampipe").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {*FLOORS, "tables"}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("rampipe/heads/rank.py", "from rampipe.report.page import write_report"),  # upward
        ("rampipe/attention/capture.py", "import rampipe.models.replica"),  # upward
        ("rampipe/report/page.py", "from rampipe import engine"),  # the other half
        ("rampipe/engine/worker.py", "from rampipe.heads import rank"),  # the other half
        ("rampipe/tables/run.py", "from rampipe.heads.rank import rank_run"),  # the ground
        ("rampipe/engine/worker.py", "def run():\n    import ray"),  # hidden in a function
        ("rampipe/heads/reduce.py", "import torch.nn"),
        ("rampipe/trials/observe.py", "import polars as pl"),
        ("rampipe/types.py", "from rampipe.errors import DataError"),
    ],
)
def test_a_wrong_import_is_found(path: str, source: str) -> None:
    assert len(broken_rules(path, source)) >= 1


def test_a_right_import_is_not_found() -> None:
    assert (
        broken_rules("rampipe/trials/observe.py", "import torch\nfrom rampipe.attention.capture import Recorder") == []
    )


BLOCKED = """
import sys

# None makes an import fail, while a library that only asks whether another one is installed gets "no".
sys.modules.update(dict.fromkeys({blocked!r}))
{body}
"""
TABLE_HALF = """
import importlib, pkgutil
import rampipe, rampipe.tables, rampipe.heads, rampipe.report
for package in (rampipe.tables, rampipe.heads, rampipe.report):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
import rampipe.cli
rampipe.open_run
print("imported")
"""
MODEL_HALF = TABLE_HALF.replace(
    "rampipe.tables, rampipe.heads, rampipe.report", "rampipe.attention, rampipe.models, rampipe.trials"
).replace("import rampipe.cli\nrampipe.open_run", "")


def run_blocked(blocked: tuple[str, ...], body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED.format(blocked=blocked, body=body)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_table_half_needs_neither_torch_nor_ray() -> None:
    result = run_blocked(("torch", "ray", "transformers"), TABLE_HALF)
    assert result.stdout.strip() == "imported", result.stderr[-2000:]


def test_model_half_below_the_engine_needs_neither_ray_nor_polars() -> None:
    result = run_blocked(("ray", "polars"), MODEL_HALF)
    assert result.stdout.strip() == "imported", result.stderr[-2000:]


def test_the_block_blocks() -> None:
    result = run_blocked(("torch", "ray"), "import torch")
    assert "import of torch halted" in result.stderr
    result = run_blocked(("polars",), TABLE_HALF)
    assert "import of polars halted" in result.stderr


def test_importing_rampipe_is_light() -> None:
    heavy = (
        "import sys, rampipe; print(sorted({'torch', 'ray', 'polars', 'transformers', 'pyarrow'} & set(sys.modules)))"
    )
    result = run_blocked((), heavy)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_files_are_one_idea_long() -> None:
    lengths = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in python_files())
    assert lengths[-1] <= 400
    assert lengths[len(lengths) // 2] <= 150
    assert lengths[int(len(lengths) * 0.9)] <= 300
