"""What the linters cannot know: nothing but one file downloads, and nothing is pickled."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOWNLOADS = "rampipe/models/checkpoint.py"
PICKLERS = ("torch.save", "torch.load")
PICKLES = ("pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle")


def sources() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "rampipe/*.py", "jobs/*.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout: what is ours cannot be told from what lies around")
    return listed.stdout.split()


def loads_that_are_not_local(source: str) -> Iterator[int]:
    """Lines of `from_pretrained` calls that might ask the Hub. `**LOCAL` forbids it too."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".from_pretrained")):
            continue
        said = {ast.unparse(keyword) for keyword in node.keywords}
        if not said & {"local_files_only=True", "**LOCAL"}:
            yield node.lineno


def forbidden(source: str) -> Iterator[str]:
    """Ways to write or read pickles, and to download."""
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (name for name in names if name.partition(".")[0] in PICKLES)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "snapshot_download",
            "hf_hub_download",
        ):
            yield "download"
        if isinstance(node, ast.Attribute) and ast.unparse(node) in PICKLERS:
            yield ast.unparse(node)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ({f"{node.module}.{alias.name}" for alias in node.names} & {*PICKLERS})
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) == "True":
            yield "allow_pickle"


def test_every_model_is_loaded_from_a_folder() -> None:
    found = {path: list(loads_that_are_not_local((ROOT / path).read_text("utf-8"))) for path in sources()}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_one_file_downloads_and_none_pickles() -> None:
    found = {path: sorted({*forbidden((ROOT / path).read_text("utf-8"))}) for path in sources()}
    assert {path: names for path, names in found.items() if names} == {DOWNLOADS: ["download"]}


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import pickle", "pickle"),
        ("from dill import loads", "dill"),
        ("torch.save(state, path)", "torch.save"),
        ("torch.load(path, weights_only=True)", "torch.load"),
        ("from torch import load", "torch.load"),
        ("np.load(path, allow_pickle=True)", "allow_pickle"),
        ("huggingface_hub.snapshot_download('x')", "download"),
    ],
)
def test_a_forbidden_way_is_seen(source: str, what: str) -> None:
    assert list(forbidden(source)) == [what]


def test_a_load_that_might_ask_the_hub_is_seen() -> None:
    assert list(loads_that_are_not_local("a.from_pretrained(x)\nb.from_pretrained(y, local_files_only=True)")) == [1]
