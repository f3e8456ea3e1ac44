"""Visual Haystacks in its published layout."""

from __future__ import annotations

import json

from tests.unit.data.made import errors_of, picture, put, samples_of, source_of


def entry(index, *, num_hay=6, needles=1):
    return {
        "pos_image": [f"coco/val2017/p{index}{needle}.jpg" for needle in range(needles)],
        "neg_image": [f"coco/val2017/n{number}.jpg" for number in range(num_hay)],
        "conversations": [
            {"from": "human", "value": "For the image with a dog, is there a cat?"},
            {"from": "gpt", "value": "yes"},
        ],
    }


def write(folder, entries, *, path="single_needle/VHs_small/visual_haystack_7.json"):
    put(folder / "VHs_qa" / path, json.dumps(entries))
    for one in entries:
        for name in (*one["pos_image"], *one["neg_image"]):
            put(folder / name, picture())


def test_needles_lie_at_places_that_the_id_decides(tmp_path):
    write(tmp_path, [entry(index) for index in range(20)])
    samples = samples_of(source_of(tmp_path, "visual_haystacks"))
    places = [sample.evidence[0].image for sample in samples]
    for sample, place, one in zip(samples, places, range(20), strict=True):
        assert [image.path for image in sample.images].index(f"coco/val2017/p{one}0.jpg") == place
        assert len(sample.evidence) == 1
    assert len(set(places)) > 3
    again = samples_of(source_of(tmp_path, "visual_haystacks"))
    assert [sample.evidence[0].image for sample in again] == places


def test_every_needle_is_evidence_and_the_split_is_folder_and_size(tmp_path):
    write(tmp_path, [entry(0, needles=3)], path="multi_needle/visual_haystack_9.json")
    write(tmp_path, [entry(1)])
    source = source_of(tmp_path, "visual_haystacks", split="multi_needle/9")
    (sample,) = samples_of(source)
    assert sample.sample_id == "multi_needle/9/0"
    names = {sample.images[piece.image].path for piece in sample.evidence}
    assert names == {f"coco/val2017/p0{needle}.jpg" for needle in range(3)}
    assert sample.answers == ("yes",)


def test_a_missing_photograph_costs_its_sample(tmp_path):
    write(tmp_path, [entry(0), entry(1)])
    (tmp_path / "coco/val2017/p10.jpg").unlink()
    errors = errors_of(source_of(tmp_path, "visual_haystacks"))
    assert [error and error.code for error in errors] == [None, "image_missing"]
