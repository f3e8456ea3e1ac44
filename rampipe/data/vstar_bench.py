"""V*Bench: small objects in photographs of about 2200 x 1500 pixels, asked for an attribute or a relation.

Source: huggingface.co/datasets/craigwu/vstar_bench (arXiv 2312.14135): `direct_attributes/` and `relative_position/`,
an image and a JSON file of the same stem each. Layout: `vstar_bench_eval.py` and `visual_search.py` of
github.com/penghao-wu/vstar: `bbox` is left, top, width, height of each of `target_object`, and the first of `options`
is right. So that its letter says nothing, options are shown in an order that follows from the sample's id. The
folders `OCR` and `GPT4V-hard` have no boxes and are not read.
Licence: code MIT, the data's card is silent; photographs are SA-1B's. Size: 191 questions.
Evidence: the boxes of the objects, exact.
Score: `choice`. The benchmark takes the likeliest option; ours judges what is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import ClassVar

from rampipe.data.boxes import box_evidence, corners_of, image_size
from rampipe.data.listed import Entry, ListedSource
from rampipe.data.options import with_options
from rampipe.data.text_files import read_json
from rampipe.errors import DataError
from rampipe.types import ContextPart, Sample, StoredImage

_KINDS = ("direct_attributes", "relative_position")
_KEYS = ("target_object", "bbox", "question", "options")


class VStarBenchSource(ListedSource):
    """One photograph a sample; domain and split are `direct_attributes` or `relative_position`."""

    name: ClassVar[str] = "vstar_bench"
    SCORE: ClassVar[str] = "choice"
    where: ClassVar[str] = (
        "V*Bench comes from huggingface.co/datasets/craigwu/vstar_bench: direct_attributes/ and relative_position/."
    )

    def shard_names(self) -> list[str]:
        """One virtual shard a kind of question: `<kind>-json`."""
        return [f"{kind}-json" for kind in _KINDS if (self.folder / kind).is_dir()]

    def list_entries(self, shard: str) -> list[Entry]:
        """Questions by file name; the image is the file of the same stem that is not JSON."""
        kind = self.split_of(shard)
        files = sorted(path.name for path in (self.folder / kind).iterdir() if path.is_file())
        images = {PurePosixPath(file).stem: file for file in files if not file.endswith(".json")}
        entries: list[Entry] = []
        for file in (file for file in files if file.endswith(".json")):
            stem = PurePosixPath(file).stem
            line = read_json(self.folder / kind / file, where=self.where)
            if missing := [key for key in _KEYS if not isinstance(line, dict) or key not in line]:
                raise DataError(f"{kind}/{file}: no key {missing}. {self.where}")
            image = images.get(stem, f"{stem}.jpg")
            entries.append(Entry(f"{kind}/{stem}", (f"{kind}/{image}",), {**line, "kind": kind}))
        return entries

    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """The photograph, then the question with its options."""
        line, name = entry.line, f"sample {entry.sample_id}"
        size = image_size(images[0], name=f"{name}: image 0")
        options = _shuffled(line["options"], entry.sample_id)
        return Sample(
            sample_id=entry.sample_id,
            domain=line["kind"],
            context=(ContextPart(kind="image", image=0),),
            images=images,
            question=with_options(line["question"], options),
            answers=(line["options"][0],),
            choices=tuple(options),
            evidence=tuple(
                box_evidence(0, corners_of(box, order="xywh"), size=size, name=name) for box in line["bbox"]
            ),
        )


def _shuffled(options: Sequence[str], sample_id: str) -> list[str]:
    return sorted(options, key=lambda option: hashlib.sha256(f"{sample_id}/{option}".encode()).digest())
