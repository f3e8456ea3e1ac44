"""The identity of a checkpoint: every file that changes numbers changes it, and nothing else does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rampipe.config import ModelConfig
from rampipe.errors import ModelError
from rampipe.models.identity import model_identity, model_slug


def _identity(path: Path, **options) -> dict[str, str]:
    return model_identity(ModelConfig(path=str(path), **options), on_gpu=False)


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def test_copies_are_equal_and_generation_does_not_count(tiny_folder, folder):
    (folder / "generation_config.json").write_text('{"temperature": 0.1}')
    (folder / "README.md").write_text("x")
    assert _identity(folder) == _identity(tiny_folder)
    assert {"config.json", "weights/model.safetensors", "tokenizer.json", "chat_template"} <= set(_identity(folder))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("model.safetensors", "weights/model.safetensors"),
        ("config.json", "config.json"),
        ("tokenizer.json", "tokenizer.json"),
        ("tokenizer_config.json", "tokenizer_config.json"),
        ("chat_template.jinja", "chat_template"),
        ("preprocessor_config.json", "preprocessor_config.json"),
    ],
)
def test_each_file_counts(tiny_folder, folder, name, key):
    path = folder / name
    path.write_bytes(path.read_bytes() + b" ")
    before, after = _identity(tiny_folder), _identity(folder)
    assert {entry for entry in before if before[entry] != after[entry]} == {key}


def test_configuration_counts(tiny_folder):
    assert _identity(tiny_folder) != _identity(tiny_folder, dtype="float32")
    assert _identity(tiny_folder) != _identity(tiny_folder, attention="eager")


def test_sharded_weights_are_all_hashed(folder):
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    (folder / "b.safetensors").write_bytes(b"b")
    index = {"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "a.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [key for key in _identity(folder) if key.startswith("weights/")] == [
        "weights/a.safetensors",
        "weights/b.safetensors",
    ]


def test_index_cannot_reach_out_of_the_folder(folder):
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = {"weight_map": {"x": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="not in"):
        _identity(folder)


def test_needs_no_torch(tiny_folder):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from rampipe.models.identity import model_identity\nfrom rampipe.config import ModelConfig\n"
        f"assert model_identity(ModelConfig(path={str(tiny_folder)!r}), on_gpu=False)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("path", "slug"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl-7b-instruct"),
        ("/models/My Model (v2)/", "my-model-v2"),
        ("..", "model"),
        ("a/...b..c", "b.c"),
        ("日本", "model"),
        ("x" * 80, "x" * 64),
    ],
)
def test_slugs_are_safe_in_paths(path, slug):
    assert model_slug(ModelConfig(path=path)) == slug
