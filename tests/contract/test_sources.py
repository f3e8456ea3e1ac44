"""What holds for every dataset of the tuple, and for the real slices where they are present."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from rampipe.config import DataConfig
from rampipe.data import SOURCES, open_source
from rampipe.data.listed import ListedSource
from rampipe.errors import ConfigError, DataError
from rampipe.trials.scores import SCORES
from rampipe.types import Sample

REAL = [("sroie", "sroie", 480), ("omniglot_needle", "omniglot_needle", 200), ("longdocurl", "longdocurl_sample", 3)]

SAMPLES_PAGE = Path(__file__).resolve().parents[2] / "docs/samples.md"


def test_names_are_unique():
    names = [source.name for source in SOURCES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_opens_by_name_without_touching_files(source, tmp_path):
    config = DataConfig(source=source.name, path=str(tmp_path / "nowhere"))
    opened = open_source(config)
    assert isinstance(opened, source)
    with pytest.raises(DataError, match="nowhere"):
        opened.shards()


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_says_licence_size_evidence_and_score(source):
    said = (sys.modules[source.__module__].__doc__ or "").lower()
    assert [word for word in ("licence", "size", "evidence") if word not in said] == []
    assert source.SCORE in {rule.ID for rule in SCORES}
    if issubclass(source, ListedSource):
        assert f"score: `{source.SCORE}`".lower() in said
        assert "source: " in said


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_stands_in_the_table_of_the_documentation(source):
    rows = [line for line in SAMPLES_PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    row = next((line for line in rows if line.startswith(f"| `{source.name}` |")), None)
    assert row is not None, f"docs/samples.md has no row for {source.name}"
    assert f"`{source.SCORE}`" in row


@pytest.mark.parametrize("name", ["sorie", "omniglot", "sample"])
def test_unknown_name_gets_the_nearest(name):
    near = {"sorie": "sroie", "omniglot": "omniglot_needle", "sample": "samples"}[name]
    with pytest.raises(ConfigError, match=f"data.source = '{name}'.*did you mean '{near}'"):
        open_source(DataConfig(source=name, path="x"))


@pytest.mark.data
@pytest.mark.parametrize(("name", "folder", "num_samples"), REAL)
def test_real_slice(real_data, name, folder, num_samples):
    path = real_data / folder
    if not (path / "samples.jsonl").is_file():
        pytest.skip(f"real data slice {folder} not found: set RAMPIPE_REAL_DATA to the folder that holds it")
    source = open_source(DataConfig(source=name, path=str(path)))
    shards = source.shards()
    assert sum(shard.num_rows for shard in shards) == num_samples
    results = [result for shard in shards for result in source.read(shard.path, 0, shard.num_rows)]
    assert len({result.sample_id for result in results}) == num_samples
    for result in results:
        assert isinstance(result.sample, Sample), result.sample
        _check_boxes(result.sample)


def _check_boxes(sample: Sample) -> None:
    assert sample.evidence
    sizes = {
        evidence.image: Image.open(io.BytesIO(sample.images[evidence.image].bytes)).size for evidence in sample.evidence
    }
    for evidence in sample.evidence:
        if evidence.box is not None:
            x0, y0, x1, y1 = evidence.box
            width, height = sizes[evidence.image]
            assert 0 <= x0 < x1 <= width, sample.sample_id
            assert 0 <= y0 < y1 <= height, sample.sample_id
