"""MLVU: multiple-choice questions on videos of 3 minutes to 2 hours. No evidence: for evaluation only.

Source: huggingface.co/datasets/MLVU/MVLU, the dev set (arXiv 2406.04264): `json/<number>_<task>.json`, also in
github.com/JUNJIE99/MLVU as `data/`. Layout: those files and `evaluation/multiple_choice_evaluation/choice_bench.py`.
Tasks 8 and 9 (free text, graded by a language model) have no candidates and are not read.
Videos are not decoded: frames lie in `frames/<number>_<task>/<video>/<frame number>.jpg`, our own layout; at most 32
are shown, evenly spread.
Licence: CC-BY-NC-SA-4.0; videos are third parties'. Size: 2,175 questions in seven tasks.
Evidence: none published.
Score: `choice`, as the benchmark. Two questions of `needle` have an answer that is no candidate: none is right.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import ClassVar

from rampipe.data.frames import list_frames, spread
from rampipe.data.listed import Entry, ListedSource
from rampipe.data.options import with_options
from rampipe.data.text_files import read_records
from rampipe.types import ContextPart, Sample, StoredImage

_TASKS = tuple("1234567")


class MlvuSource(ListedSource):
    """One video a sample; domain and split are the task, e.g. `1_plotQA`."""

    name: ClassVar[str] = "mlvu"
    SCORE: ClassVar[str] = "choice"
    where: ClassVar[str] = (
        "MLVU comes from huggingface.co/datasets/MLVU/MVLU: json/<number>_<task>.json, and frames are stored as "
        "frames/<number>_<task>/<video>/<frame number>.jpg."
    )

    def shard_names(self) -> list[str]:
        """Files of the multiple-choice tasks in order."""
        return [f"json/{path.name}" for path in sorted(self.folder.glob("json/*_*.json")) if path.name[0] in _TASKS]

    def split_of(self, shard: str) -> str:
        """Number and name of the task."""
        return PurePosixPath(shard).stem

    def list_entries(self, shard: str) -> list[Entry]:
        """Questions of one task; they have no ids, so their order is one."""
        task = self.split_of(shard)
        keys = ("video", "question", "candidates", "answer")
        shown: dict[str, tuple[str, ...]] = {}
        entries: list[Entry] = []
        for index, line in enumerate(read_records(self.folder / shard, keys=keys, where=self.where)):
            folder = f"frames/{task}/{PurePosixPath(line['video']).stem}"
            if folder not in shown:
                names = [name for _, name in spread(list_frames(self.folder, folder))]
                shown[folder] = tuple(names) or (f"{folder}/0.jpg",)
            entries.append(Entry(f"{task}/{index}", shown[folder], {**line, "task": task}))
        return entries

    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """The video, then the question with its options."""
        line = entry.line
        return Sample(
            sample_id=entry.sample_id,
            domain=line["task"],
            context=(ContextPart(kind="video", frames=tuple(range(len(images)))),),
            images=images,
            question=with_options(line["question"], line["candidates"]),
            answers=(line["answer"],),
            choices=tuple(line["candidates"]),
            evidence=(),
        )
