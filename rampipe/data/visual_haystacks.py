"""Visual Haystacks: is there a certain object in the one photograph, of many, that shows another?

Source: huggingface.co/datasets/tsunghanwu/visual_haystacks (arXiv 2407.13766) in `VHs_qa/`, and COCO 2017 in `coco/`.
Layout: `README.md`, `main.py` and `solvers/base_solver.py` of github.com/visual-haystacks/vhs_benchmark: a file
`visual_haystack_<number of images>.json` is a list of `pos_image`, `neg_image` and `conversations`, with image paths
relative to the folder that holds `coco/`. The benchmark puts the needles at random places; here the places follow from
the sample's id, so they are the same in every run.
Licence: MIT; photographs are COCO's. Size: 1,000 questions a file, 1 to 10,000 images a question.
Evidence: the needle images, whole.
Score: `containment`: the benchmark looks for the word yes or no in the prediction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import ClassVar

from rampipe.data.listed import Entry, ListedSource
from rampipe.data.text_files import read_records
from rampipe.types import ContextPart, Evidence, Sample, StoredImage

_ASK = "You are given a set of images. Please answer the following question in Yes or No: "


class VisualHaystacksSource(ListedSource):
    """A haystack a sample; domain `photographs`. `data.split` is e.g. `single_needle/VHs_small/10`."""

    name: ClassVar[str] = "visual_haystacks"
    SCORE: ClassVar[str] = "containment"
    where: ClassVar[str] = (
        "Questions come from huggingface.co/datasets/tsunghanwu/visual_haystacks into VHs_qa/, photographs from COCO "
        "2017 into coco/ beside it."
    )

    def shard_names(self) -> list[str]:
        """Files of questions in path order."""
        paths = sorted(self.folder.glob("VHs_qa/**/visual_haystack_*.json"))
        return [path.relative_to(self.folder).as_posix() for path in paths]

    def split_of(self, shard: str) -> str:
        """Folder below `VHs_qa` and number of images."""
        path = PurePosixPath(shard)
        folder = path.parent.relative_to("VHs_qa").as_posix()
        return f"{folder}/{path.stem.removeprefix('visual_haystack_')}"

    def list_entries(self, shard: str) -> list[Entry]:
        """Questions of one file; images in the order in which they are shown."""
        keys = ("pos_image", "neg_image", "conversations")
        split = self.split_of(shard)
        entries: list[Entry] = []
        for index, line in enumerate(read_records(self.folder / shard, keys=keys, where=self.where)):
            sample_id = f"{split}/{index}"
            entries.append(Entry(sample_id, _hide(line["pos_image"], line["neg_image"], sample_id), line))
        return entries

    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """All photographs, then the question."""
        asked, answered = entry.line["conversations"][:2]
        needles = set(entry.line["pos_image"])
        return Sample(
            sample_id=entry.sample_id,
            domain="photographs",
            context=tuple(ContextPart(kind="image", image=index) for index in range(len(images))),
            images=images,
            question=_ASK + asked["value"],
            answers=(answered["value"],),
            choices=None,
            evidence=tuple(
                Evidence(kind="image", image=index) for index, name in enumerate(entry.images) if name in needles
            ),
        )


def _hide(needles: Sequence[str], hay: Sequence[str], sample_id: str) -> tuple[str, ...]:
    """Hay in its published order with each needle at a place that only the sample's id decides."""
    shown = list(hay)
    for index, needle in enumerate(needles):
        digest = hashlib.sha256(f"{sample_id}/{index}".encode()).digest()
        shown.insert(int.from_bytes(digest[:8]) % (len(shown) + 1), needle)
    return tuple(shown)
