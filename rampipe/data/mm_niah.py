"""MM-NIAH: needles of text or image in long documents of text and images, to be found, counted, or reasoned with.

Source: huggingface.co/datasets/OpenGVLab/MM-NIAH (arXiv 2406.07230), `mm_niah_<split>/annotations/<task>.jsonl` with
`mm_niah_<split>/images.tar.gz` unpacked to `mm_niah_<split>/images/`. Layout: `README.md` and
`shells/data/mm_niah.json` of github.com/OpenGVLab/MM-NIAH. MMLongBench's version has other files: `mmlongbench`.
Licence: MIT; documents are OBELICS'. Size: 3,114 questions in val (18 GB of images), 17,787 in test (44 GB).
Evidence: a text needle is its characters in the context, wherever they stand; an image needle is its whole image. Only
a needle whose path the context shows can be placed: one that was pasted into another image has no evidence here.
Score: `exact_match`, and `choice` for image needles, as the benchmark does. Counting is judged as one list; the
benchmark gives credit for each right number of it.
"""

from __future__ import annotations

import json
import string
from typing import Any, ClassVar

from rampipe.data.interleaved import SLOT, find_images, find_texts, interleave, name_images, name_slots
from rampipe.data.listed import Entry, Line, ListedSource
from rampipe.data.options import BRIEF, INSTRUCTION, with_options
from rampipe.data.text_files import read_lines
from rampipe.types import Sample, StoredImage


class MmNiahSource(ListedSource):
    """One document a sample; domain is the task, e.g. `retrieval-image`."""

    name: ClassVar[str] = "mm_niah"
    SCORE: ClassVar[str] = "exact_match"
    where: ClassVar[str] = (
        "MM-NIAH comes from huggingface.co/datasets/OpenGVLab/MM-NIAH: mm_niah_<split>/annotations/<task>.jsonl, with "
        "images.tar.gz unpacked to mm_niah_<split>/images/."
    )

    def shard_names(self) -> list[str]:
        """One virtual shard a task file: `<split>-<task>.jsonl`."""
        paths = sorted(self.folder.glob("mm_niah_*/annotations/*.jsonl"))
        return [f"{path.parts[-3].removeprefix('mm_niah_')}-{path.name}" for path in paths]

    def list_entries(self, shard: str) -> list[Entry]:
        """Lines of one task file. Ids count from 0 in each task, so split and task are part of ours."""
        split, _, file = shard.partition("-")
        root = f"mm_niah_{split}"
        keys = ("id", "images_list", "context", "question", "answer", "meta")
        entries: list[Entry] = []
        for _, line in read_lines(self.folder / root / "annotations" / file, keys=keys, where=self.where):
            shown = [*line["images_list"], *(line["meta"].get("choices_image_path") or ())]
            task = file.removesuffix(".jsonl")
            images = tuple(f"{root}/images/{name}" for name in shown)
            entries.append(Entry(f"{split}/{task}/{line['id']}", images, {**line, "task": task}))
        return entries

    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """Document, then the images that question and options show, then the question: it has no place for images."""
        line, meta = entry.line, entry.line["meta"]
        document = list(interleave(line["context"]))
        num_shown = sum(part.kind == "image" for part in document)
        num_asked = line["question"].count(SLOT)
        if num_shown + num_asked != len(line["images_list"]):
            raise ValueError(f"{num_shown + num_asked} places for {len(line['images_list'])} images")
        asked = name_images(
            range(num_shown, num_shown + num_asked), "Image", [str(index + 1) for index in range(num_asked)]
        )
        options = range(len(line["images_list"]), len(images))
        offered = name_images(options, "Option", string.ascii_uppercase[: len(options)])
        return Sample(
            sample_id=entry.sample_id,
            domain=line["task"],
            context=(*document, *asked, *offered),
            images=images,
            question=_question(line),
            answers=_answers(line),
            choices=_choices(meta),
            evidence=(
                *find_texts(document, meta.get("needles") or ()),
                *find_images(line["images_list"][:num_shown], meta.get("needles") or ()),
            ),
        )


def _question(line: Line) -> str:
    question = name_slots(line["question"])
    if line["meta"].get("choices"):
        return with_options(question, line["meta"]["choices"])
    return f"{question}\n{INSTRUCTION if line['meta'].get('choices_image_path') else BRIEF}"


def _choices(meta: Any) -> tuple[str, ...] | None:
    if meta.get("choices"):
        return tuple(meta["choices"])
    pictures = meta.get("choices_image_path")
    return tuple(string.ascii_uppercase[: len(pictures)]) if pictures else None


def _answers(line: Line) -> tuple[str, ...]:
    """One answer; none where a split withholds it. A multiple choice is numbered from 0."""
    answer, meta = line["answer"], line["meta"]
    if answer is None:
        return ()
    if meta.get("choices") or meta.get("choices_image_path"):
        return (string.ascii_uppercase[int(answer)],)
    return (json.dumps(answer) if isinstance(answer, list) else str(answer),)
