"""`rampipe data check`: counts, error codes, and evidence drawn where it lies."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from rampipe.cli import main
from rampipe.data.evidence_pictures import INK, draw_evidence
from rampipe.errors import SampleError
from rampipe.tables.shards import write_shards
from rampipe.types import ContextPart, Evidence, Sample, StoredImage
from tests.unit.data.made import picture


def make_sample(index: int, **changes) -> Sample:
    sample = Sample(
        sample_id=f"../odd/id {index}",
        domain="invoice",
        context=(ContextPart("text", text="Two pages:"), ContextPart("image", image=0), ContextPart("image", image=1)),
        images=(StoredImage(bytes=picture(80, 60), path=None), StoredImage(bytes=picture(100, 200), path=None)),
        question="Total?",
        answers=("1",),
        choices=None,
        evidence=(Evidence("box", image=1, box=(10.0, 20.0, 60.0, 120.0)),),
    )
    return replace(sample, **changes)


def check(folder, *flags, samples, capsys) -> tuple[int, str]:
    write_shards(samples, folder / "samples", split="eval", rows_per_shard=2)
    code = main(["data", "check", str(folder / "samples"), "--out", str(folder / "pictures"), *flags])
    return code, capsys.readouterr().out


def test_a_good_dataset_is_counted_and_drawn(tmp_path, capsys):
    samples = [make_sample(0), make_sample(1, evidence=()), make_sample(2, domain="letter", answers=())]
    code, out = check(tmp_path, "--draw", "2", samples=samples, capsys=capsys)
    assert code == 0
    assert "samples: 3 ok, 0 errors of 3" in out
    assert "domains: invoice 2, letter 1" in out
    assert "evidence: box 2, image 0, text 0; samples without evidence: 1" in out
    assert "samples without answers: 1" in out
    assert "image height: 60 to 200, 130 in the median px" in out
    assert "covers: 25.00% in the median" in out
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["sample-000000-image-1.png", "sample-000002-image-1.png"]
    assert f"drawn: {tmp_path / 'pictures' / names[0]} (../odd/id 0)" in out


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"evidence": (Evidence("box", image=1, box=(60.0, 20.0, 10.0, 120.0)),)}, "evidence_outside"),
        ({"evidence": (Evidence("box", image=0, box=(90.0, 2.0, 95.0, 12.0)),)}, "evidence_outside"),
        ({"evidence": (Evidence("image", image=7),)}, "bad_row"),
        ({"images": (StoredImage(bytes=b"", path=None), StoredImage(bytes=picture(), path=None))}, "image_missing"),
        ({"images": (StoredImage(bytes=b"?", path=None), StoredImage(bytes=picture(), path=None))}, "image_corrupt"),
    ],
)
def test_a_bad_sample_is_counted_by_code_and_fails_the_command(tmp_path, capsys, changes, code):
    samples = [make_sample(0), make_sample(1, **changes), make_sample(2, **changes)]
    returned, out = check(tmp_path, samples=samples, capsys=capsys)
    assert returned == 1
    assert "samples: 1 ok, 2 errors of 3" in out
    assert f"  {code}: 2, the first: sample ../odd/id 1" in out


def test_a_box_that_leaves_its_image_in_part_is_fine(tmp_path, capsys):
    sample = make_sample(0, evidence=(Evidence("box", image=0, box=(-5.0, 2.0, 95.0, 12.0)),))
    assert check(tmp_path, samples=[sample], capsys=capsys)[0] == 0


def test_limit_and_no_pictures(tmp_path, capsys):
    samples = [make_sample(index) for index in range(5)]
    _, out = check(tmp_path, "--limit", "3", "--draw", "0", samples=samples, capsys=capsys)
    assert "samples: 3 ok, 0 errors of 3" in out
    assert not (tmp_path / "pictures").exists()


def test_what_cannot_be_opened_is_one_line_and_the_users_mistake(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 2
    assert main(["data", "check", str(tmp_path), "--source", "refcoco"]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 2
    assert "did you mean 'refcocog'" in errors


def test_help_shows_examples(capsys):
    for argv in (["data", "--help"], ["data", "check", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(argv)
        assert caught.value.code == 0
        assert "rampipe data check samples/" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["data"])
    assert caught.value.code == 2
    capsys.readouterr()


def test_the_frame_lies_on_the_box(tmp_path):
    (path,) = draw_evidence(make_sample(0), tmp_path, stem="x", max_images=3)
    with Image.open(path) as image:
        assert image.size == (100, 200)
        ink = {(x, y) for x in range(100) for y in range(200) if image.getpixel((x, y)) == INK}
    assert (min(x for x, _ in ink), min(y for _, y in ink)) == (10, 20)
    assert (max(x for x, _ in ink), max(y for _, y in ink)) == (59, 119)
    assert (35, 70) not in ink


def test_whole_images_get_a_frame_and_no_more_than_asked_are_drawn(tmp_path):
    both = make_sample(0, evidence=(Evidence("image", image=0), Evidence("image", image=1)))
    assert [path.name for path in draw_evidence(both, tmp_path, stem="x", max_images=1)] == ["x-image-0.png"]
    with Image.open(tmp_path / "x-image-0.png") as image:
        assert image.getpixel((0, 0)) == INK
        assert image.getpixel((79, 59)) == INK
        assert image.getpixel((40, 30)) != INK


def test_an_image_cut_short_is_found_when_it_is_drawn(tmp_path, capsys):
    cut = (StoredImage(bytes=picture(80, 60), path=None), StoredImage(bytes=picture(300, 200)[:60], path=None))
    with pytest.raises(SampleError, match="image 1 cannot be decoded"):
        draw_evidence(make_sample(0, images=cut), tmp_path, stem="x", max_images=1)
    _, out = check(tmp_path, samples=[make_sample(0, images=cut)], capsys=capsys)
    assert "not drawn: sample ../odd/id 0: image 1" in out
