"""Videos that a model cannot stack are measured all the same, in batches of one length."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rampipe.tables.read import open_run
from rampipe.tables.shards import write_shards
from tests.families.llava import write_llava_onevision
from tests.families.samples import one_video
from tests.local_run import finished_run, make_config


def test_videos_of_several_lengths_go_through_one_unit(tmp_path: Path) -> None:
    write_llava_onevision(tmp_path / "model")
    samples = [replace(one_video(num_frames=count), sample_id=f"frames-{count}") for count in (2, 3, 2)]
    samples = [replace(sample, sample_id=f"{number}-{sample.sample_id}") for number, sample in enumerate(samples)]
    write_shards(samples, tmp_path / "samples", split="eval")
    uri = finished_run(make_config(model=tmp_path / "model", data=tmp_path / "samples", out=tmp_path / "runs"))
    run = open_run(uri)
    assert run.errors.collect().height == 0
    assert run.samples.collect().height == len(samples)
