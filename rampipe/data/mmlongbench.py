"""MMLongBench's needles: MM-NIAH made anew, each needle at several depths of documents of 8K to 128K tokens.

Source: huggingface.co/datasets/ZhaoweiWang/MMLongBench (arXiv 2505.10610): `0_mmlb_data.tar.gz` unpacked to
`mmlb_data/`, `2_mm-niah_image.tar.gz` to `mmlb_image/`. Layout: `scripts/generate_configs.py` and `data.py` of
github.com/EdinburghNLP/MMLongBench; `positive_ctxs` as github.com/ab-cli/MMRetHead reads it. Not MMLongBench-Doc, which
is another dataset. Its two tasks of Visual Haystacks are not read: no public code says which of their images is the
needle, and `visual_haystacks` reads the files they were made from. Nor are its tasks without needles.
Licence: MIT; documents are OBELICS'. Size: six tasks, each at 8K, 16K, 32K, 64K and 128K tokens; a needle is three or
six lines, one a depth. A file is read whole, and at 128K holds about a gigabyte: name one split.
Evidence: a text needle is its characters in the document, wherever they stand; an image needle is the whole image that
carries it. A needle that the document does not show as published has no evidence here. Split `mm_niah_retrieval-text-
rendered/<length>` shows text needles as pictures behind their paragraphs, as arXiv 2605.27243 does; the picture is
evidence. Pictures are those of `mmlb_image/mm-niah/text_needle_image/` where that folder is, else made here.
Score: `containment`, and `choice` for options, near the benchmark's substring match and letter. Counting is judged as
one list; the benchmark compares the sums.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, ClassVar

from rampipe.data.interleaved import SLOT, find_images, find_texts, interleave, name_images, name_slots
from rampipe.data.listed import Entry, Line, ListedSource
from rampipe.data.options import BRIEF, INSTRUCTION
from rampipe.data.rendered_text import render_text
from rampipe.data.text_files import read_lines
from rampipe.types import Sample, StoredImage

_FILE = re.compile(r"((?:retrieval|counting|reasoning)-(?:text|image))_test_K(\d+)_dep\d+\.jsonl")
_KEYS = ("id", "question", "answer", "ctxs", "image_list")
_RENDERED = "#rendered"
"""Ends the name of the virtual shard that shows the text needles of a file as pictures."""
_PICTURES = "text_needle_image"


class MmLongBenchSource(ListedSource):
    """One document a sample; domain is the task. `data.split` is e.g. `mm_niah_retrieval-image/32k`."""

    name: ClassVar[str] = "mmlongbench"
    SCORE: ClassVar[str] = "containment"
    where: ClassVar[str] = (
        "MMLongBench comes from huggingface.co/datasets/ZhaoweiWang/MMLongBench: 0_mmlb_data.tar.gz unpacked to "
        "mmlb_data/, 2_mm-niah_image.tar.gz to mmlb_image/."
    )

    def shard_names(self) -> list[str]:
        """Files of MM-NIAH in name order; those of one text needle a question twice."""
        paths = sorted(self.folder.glob("mmlb_data/NIAH/*.jsonl"))
        files = [path.relative_to(self.folder).as_posix() for path in paths if _FILE.fullmatch(path.name)]
        return files + [f"{file}{_RENDERED}" for file in files if _task_and_length(file)[0] == "retrieval-text"]

    def split_of(self, shard: str) -> str:
        """The benchmark's name of the task, and the length."""
        task, length = _task_and_length(shard)
        return f"mm_niah_{task}/{length}k"

    def list_entries(self, shard: str) -> list[Entry]:
        """Lines of one file. A needle's lines share its id, so their order is part of ours."""
        task, _ = _task_and_length(shard)
        seen: Counter[str] = Counter()
        entries: list[Entry] = []
        path = self.folder / shard.removesuffix(_RENDERED)
        for _, published in read_lines(path, keys=_KEYS, where=self.where):
            line = _as_picture(published) if shard.endswith(_RENDERED) else published
            shown = (*line["image_list"], *(line.get("needle_image_list") or ()), *(line.get("choices_image") or ()))
            needle = str(line["id"])
            sample_id = f"{self.split_of(shard)}/{needle}/{seen[needle]}"
            seen[needle] += 1
            entries.append(Entry(sample_id, tuple(f"mmlb_image/{name}" for name in shown), {**line, "task": task}))
        return entries

    def read_images(self, entry: Entry) -> tuple[StoredImage, ...]:
        """Image files; the picture of a text is made where none are there."""
        names = [name for name in entry.images if f"/{_PICTURES}/" in name]
        if not names or (self.folder / names[0]).parent.is_dir():
            return super().read_images(entry)
        published = super().read_images(replace(entry, images=tuple(one for one in entry.images if one not in names)))
        made = render_text(entry.line["rendered"], path=names[0])
        place = entry.images.index(names[0])
        return (*published[:place], made, *published[place:])

    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """Document, then the images that question and options show, then the question: it has no place for images."""
        line = entry.line
        document = list(interleave("\n\n".join(paragraph["text"] for paragraph in line["ctxs"])))
        shown, options = line["image_list"], line.get("choices_image") or ()
        num_slots = sum(part.kind == "image" for part in document)
        num_asked = line["question"].count(SLOT)
        if num_slots != len(shown) or num_slots + num_asked + len(options) != len(images):
            raise ValueError(f"{num_slots} and {num_asked} places for {len(images)} images")
        letters = string.ascii_uppercase[: len(options)]
        asked = range(num_slots, num_slots + num_asked)
        return Sample(
            sample_id=entry.sample_id,
            domain=line["task"],
            context=(
                *document,
                *name_images(asked, "Image", [str(index + 1) for index in range(num_asked)]),
                *name_images(range(asked.stop, len(images)), "Option", letters),
            ),
            images=images,
            question=f"{name_slots(line['question'])}\n{INSTRUCTION if options else BRIEF}",
            answers=_answers(line["answer"], letters),
            choices=tuple(letters) or None,
            evidence=(
                *find_texts(document, _needles(line, kind="text", key="text")),
                *find_images(shown, (f"mm-niah/{name}" for name in _needles(line, kind="image", key="image"))),
            ),
        )


def _task_and_length(shard: str) -> tuple[str, str]:
    """Only for names that `shard_names` gives."""
    task, length = _FILE.findall(PurePosixPath(shard).name.removesuffix(_RENDERED))[0]
    return f"{task}-rendered" if shard.endswith(_RENDERED) else task, length


def _as_picture(line: Line) -> Line:
    """The one text needle taken out of its paragraph, and a picture of it behind that.

    Unchanged, without a needle, where there is none to take: it is no evidence then.
    """
    needles = _needles(line, kind="text", key="text")
    paragraphs = list(line["ctxs"])
    index = next((i for i, one in enumerate(paragraphs) if needles and needles[0] in one["text"]), None)
    if len(needles) != 1 or index is None:
        return {**line, "positive_ctxs": []}
    left = {**paragraphs[index], "text": paragraphs[index]["text"].replace(needles[0], "").strip()}
    paragraphs[index : index + 1] = [left, {"type": "image", "text": SLOT}]
    place = sum(one["text"].count(SLOT) for one in paragraphs[: index + 1])
    picture = f"{_PICTURES}/{_file_stem(needles[0])}.png"
    return {
        **line,
        "ctxs": paragraphs,
        "image_list": [*line["image_list"][:place], f"mm-niah/{picture}", *line["image_list"][place:]],
        "positive_ctxs": [{"type": "image", "image": picture}],
        "rendered": needles[0],
    }


def _file_stem(text: str) -> str:
    """How github.com/ab-cli/MMRetHead names the picture of a text."""
    return re.sub(r"[^\w\s-]", "", text.rstrip(".")).lower().replace(" ", "_")


def _needles(line: Line, *, kind: str, key: str) -> list[Any]:
    return [needle[key] for needle in line.get("positive_ctxs") or () if needle["type"] == kind]


def _answers(answer: Any, letters: str) -> tuple[str, ...]:
    """A letter for an option, which is numbered from 0; a list of counts as one text; any of a list of texts."""
    if letters:
        return (letters[int(answer)],)
    if isinstance(answer, list) and all(isinstance(one, str) for one in answer):
        return tuple(answer)
    return (json.dumps(answer) if isinstance(answer, list) else str(answer),)
