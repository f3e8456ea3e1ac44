"""VidSTG with VidOR in their published layouts, and frames by number."""

from __future__ import annotations

import itertools
import json

import pytest

from rampipe.errors import DataError
from tests.unit.data.made import errors_of, picture, put, samples_of, source_of


def annotation(**changes):
    return {
        "vid": "107",
        "fps": 10.0,
        "frame_count": 100,
        "used_segment": {"begin_fid": 10, "end_fid": 89},
        "width": 640,
        "height": 360,
        "subject/objects": [{"tid": 2, "category": "child"}, {"tid": 7, "category": "ball"}],
        "temporal_gt": {"begin_fid": 40, "end_fid": 60},
        "captions": [],
        "questions": [{"description": "who is watching?", "type": "person", "target_id": 2}],
        **changes,
    }


def write(folder, annotations, *, step=10, box=(64, 36, 128, 72), split="val"):
    put(folder / f"annotations/{split}_annotations.json", json.dumps(annotations))
    corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    tracks = [[{"tid": 2, "bbox": corners, "generated": 0, "tracker": "none"}] for _ in range(100)]
    put(folder / "annotation/training/0001/107.json", json.dumps({"video_id": "107", "trajectories": tracks}))
    for frame in range(0, 100, step):
        put(folder / f"frames/107/{frame:06d}.jpg", picture(320, 180, form="JPEG"))


def test_the_tube_covers_the_shown_frames_of_the_answer_only(tmp_path):
    write(tmp_path, [annotation()])
    (sample,) = samples_of(source_of(tmp_path, "vidstg", split="val"))
    assert [image.path for image in sample.images] == [f"frames/107/{frame:06d}.jpg" for frame in range(10, 90, 10)]
    assert sample.context[0].frames == tuple(range(8))
    assert [(piece.image, piece.box) for piece in sample.evidence] == [
        (3, (32.0, 18.0, 64.0, 36.0)),
        (4, (32.0, 18.0, 64.0, 36.0)),
    ]
    assert (sample.question, sample.answers) == ("who is watching?", ("child",))


def test_many_frames_are_thinned_evenly(tmp_path):
    write(tmp_path, [annotation(used_segment={"begin_fid": 0, "end_fid": 100}, fps=2.0)], step=1)
    (sample,) = samples_of(source_of(tmp_path, "vidstg"))
    frames = [int(image.path[-10:-4]) for image in sample.images]
    assert len(frames) == 32
    assert (frames[0], frames[-1]) == (1, 98)
    assert {later - earlier for earlier, later in itertools.pairwise(frames)} == {3, 4}
    assert [frames[piece.image] for piece in sample.evidence] == [frame for frame in frames if 40 <= frame < 60]


def test_the_frame_behind_the_segment_is_not_shown(tmp_path):
    write(tmp_path, [annotation(used_segment={"begin_fid": 10, "end_fid": 80})])
    (sample,) = samples_of(source_of(tmp_path, "vidstg", split="val"))
    assert [image.path for image in sample.images] == [f"frames/107/{frame:06d}.jpg" for frame in range(10, 80, 10)]


def test_two_frames_a_second_are_shown_but_four_at_least(tmp_path):
    segment = {"begin_fid": 0, "end_fid": 100}
    write(tmp_path, [annotation(used_segment=segment, fps=fps) for fps in (25.0, 100.0)], step=1)
    slow, fast = samples_of(source_of(tmp_path, "vidstg"))
    assert (len(slow.images), len(fast.images)) == (8, 4)
    assert [image.path[-10:-4] for image in fast.images] == ["000012", "000037", "000062", "000087"]


def test_an_answer_between_the_stored_frames_has_no_evidence(tmp_path):
    write(tmp_path, [annotation(temporal_gt={"begin_fid": 41, "end_fid": 50})])
    assert samples_of(source_of(tmp_path, "vidstg"))[0].evidence == ()


@pytest.mark.parametrize("box", [(128, 36, 64, 72), (700, 36, 800, 72)])
def test_a_wrong_box_and_missing_frames_cost_their_samples(tmp_path, box):
    write(tmp_path, [annotation(), annotation(used_segment={"begin_fid": 95, "end_fid": 99})], box=box)
    errors = errors_of(source_of(tmp_path, "vidstg"))
    assert [error and error.code for error in errors] == ["evidence_outside", "image_missing"]


def test_a_video_without_boxes_stops_the_plan(tmp_path):
    write(tmp_path, [annotation(vid="108")])
    with pytest.raises(DataError, match="no boxes of video 108 of split 'val'"):
        source_of(tmp_path, "vidstg").shards()
