"""MMNeedle: which cell of which stitched image shows the photograph that a caption describes?

Source: huggingface.co/datasets/Wang-ML-Lab/MMNeedle (arXiv 2406.11230), `data/`: `images_stitched.zip` and
`metadata_stitched.zip` unpacked there, and `file_to_caption.json`. The same captions in github.com/Wang-ML-Lab/
multimodal-needle-in-a-haystack are a pickle, which is not read: unpickling runs code.
Layout: that card, its `mmneedle.py`, and `needle.py` and `sample_images.py` of the repository: `annotations_<images>_
<rows>_<columns>.json`, with the number of needles before it where there are several; `index`, `row` and `col` count
from 0, -1 where the needle is absent.
Licence: CC-BY-4.0; photographs are COCO's. Size: 210,000 questions in 21 files, half of them without their needle.
Evidence: the cells, exact. A question without its needle has none: its right answer is -1.
Score: `exact_match` of `image, row, column`, counted from 1: the benchmark's exact accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, ClassVar

from rampipe.config import DataConfig
from rampipe.data.boxes import box_evidence, image_size
from rampipe.data.listed import Entry, ListedSource
from rampipe.data.text_files import read_json, read_records
from rampipe.errors import DataError
from rampipe.types import ContextPart, Evidence, Sample, StoredImage


class MmNeedleSource(ListedSource):
    """One or ten stitched images a sample; domain `stitched`. `data.split` is e.g. `10_4_4`, or `2_10_4_4`."""

    name: ClassVar[str] = "mmneedle"
    SCORE: ClassVar[str] = "exact_match"
    where: ClassVar[str] = (
        "MMNeedle comes from huggingface.co/datasets/Wang-ML-Lab/MMNeedle: data/file_to_caption.json, and "
        "data/images_stitched.zip and data/metadata_stitched.zip unpacked beside it."
    )

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self._captions: Mapping[str, str] | None = None

    def shard_names(self) -> list[str]:
        """Files of questions in name order."""
        paths = sorted(self.folder.glob("metadata_stitched/*annotations_*.json"))
        return [path.relative_to(self.folder).as_posix() for path in paths]

    def split_of(self, shard: str) -> str:
        """Needles (where several), images, rows and columns."""
        return PurePosixPath(shard).stem.replace("annotations_", "")

    def list_entries(self, shard: str) -> list[Entry]:
        """Questions of one file, with the captions of their needles."""
        if self._captions is None:
            self._captions = read_json(self.folder / "file_to_caption.json", where=self.where)
        grid = [int(side) for side in self.split_of(shard).split("_")[-2:]]
        keys = ("id", "image_ids", "index", "row", "col", "target")
        entries: list[Entry] = []
        for line in read_records(self.folder / shard, keys=keys, where=self.where):
            captions = [self._caption(target) for target in _many(line["target"])]
            sample_id = f"{self.split_of(shard)}/{line['id']}"
            entries.append(Entry(sample_id, tuple(line["image_ids"]), {**line, "captions": captions, "grid": grid}))
        return entries

    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """All stitched images, then the captions."""
        line = entry.line
        return Sample(
            sample_id=entry.sample_id,
            domain="stitched",
            context=tuple(ContextPart(kind="image", image=index) for index in range(len(images))),
            images=images,
            question=_question(line["captions"], len(images), line["grid"]),
            answers=_answers(line),
            choices=None,
            evidence=tuple(_cells(entry, images)),
        )

    def _caption(self, target: str) -> str:
        captions = self._captions or {}
        name = PurePosixPath(target).name
        if name not in captions:
            raise DataError(f"file_to_caption.json: no caption of {name}. {self.where}")
        return captions[name]


def _many(value: Any) -> list[Any]:
    """Files with one needle hold plain values, those with several hold lists."""
    return value if isinstance(value, list) else [value]


def _places(line: Mapping[str, Any]) -> Iterator[tuple[int, int, int]]:
    """Image, row and column of each needle, from 0; the image is -1 where it is absent."""
    yield from zip(_many(line["index"]), _many(line["row"]), _many(line["col"]), strict=True)


def _answers(line: Mapping[str, Any]) -> tuple[str, ...]:
    """Where no needle is there, the benchmark takes one -1 for all."""
    spelt = [_spell(*place) for place in _places(line)]
    return tuple(dict.fromkeys(["-1", "; ".join(spelt)] if set(spelt) == {"-1"} else ["; ".join(spelt)]))


def _spell(image: int, row: int, column: int) -> str:
    return "-1" if image < 0 else f"{image + 1}, {row + 1}, {column + 1}"


def _question(captions: list[str], num_images: int, grid: list[int]) -> str:
    asked = "\n".join(f"Caption {index + 1}: {caption}" for index, caption in enumerate(captions))
    return (
        f"There are {num_images} images, numbered from 1, each divided into {grid[0]} rows and {grid[1]} columns. "
        "Find the cell that fits each caption. Answer only with `image, row, column`, separated by `; ` for several "
        f"captions, and -1 for a caption that fits no cell.\n{asked}"
    )


def _cells(entry: Entry, images: tuple[StoredImage, ...]) -> Iterator[Evidence]:
    num_rows, num_columns = entry.line["grid"]
    name = f"sample {entry.sample_id}"
    for image, row, column in _places(entry.line):
        if image < 0:
            continue
        if image >= len(images) or not (0 <= row < num_rows and 0 <= column < num_columns):
            raise IndexError(f"needle in image {image}, row {row}, column {column} of {len(images)} images")
        size = image_size(images[image], name=f"{name}: image {image}")
        width, height = size[0] / num_columns, size[1] / num_rows
        corners = (column * width, row * height, (column + 1) * width, (row + 1) * height)
        yield box_evidence(image, corners, size=size, name=name)
