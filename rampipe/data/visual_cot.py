"""Visual-CoT: questions of twelve older datasets, each with the box of the region that answers it.

Source: huggingface.co/datasets/deepcs233/Visual-CoT (arXiv 2403.16999): `metadata/<dataset>_cot_train.jsonl`, and the
joined and unpacked `cot_images_tar_split` as `cot/<dataset>/`. Layout: `tools/convert_data_to_llava_format.py` of
github.com/deepcs233/Visual-CoT: `bboxs` are x0, y0, x1, y1 in pixels of an image of `width` x `height`; images of
`textcap` are those of `textvqa`. The files `viscot_*.json` hold boxes of padded squares and are not read.
Licence: apache-2.0 on the card; images have their datasets' own. Size: 363,000 boxes in 438,000 questions, 143 GB.
Evidence: the boxes, made in part by models: good to a few pixels for text, less so for objects.
Score: `containment`. The benchmark lets a language model grade the answer.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import ClassVar

from rampipe.data.boxes import box_evidence, corners_of, image_size, scaled
from rampipe.data.listed import Entry, ListedSource
from rampipe.data.text_files import read_lines
from rampipe.types import ContextPart, Sample, StoredImage

_IMAGES_OF = {"textcap": "textvqa"}


class VisualCotSource(ListedSource):
    """One image a sample; domain and split are the older dataset's name."""

    name: ClassVar[str] = "visual_cot"
    SCORE: ClassVar[str] = "containment"
    where: ClassVar[str] = (
        "Visual-CoT comes from huggingface.co/datasets/deepcs233/Visual-CoT: metadata/<dataset>_cot_train.jsonl, and "
        "its cot_images_tar_split joined and unpacked to cot/<dataset>/."
    )

    def shard_names(self) -> list[str]:
        """Files of questions in name order."""
        paths = sorted(self.folder.glob("metadata/*_cot_*.jsonl"))
        return [path.relative_to(self.folder).as_posix() for path in paths]

    def split_of(self, shard: str) -> str:
        """The older dataset."""
        return PurePosixPath(shard).stem.split("_cot_")[0]

    def list_entries(self, shard: str) -> list[Entry]:
        """Questions of one file; they have no ids, so the line number is one."""
        keys = ("question", "answer", "image", "width", "height", "bboxs", "dataset")
        entries: list[Entry] = []
        for number, line in read_lines(self.folder / shard, keys=keys, where=self.where):
            folder = _IMAGES_OF.get(line["dataset"], line["dataset"])
            sample_id = f"{PurePosixPath(shard).stem}/{number}"
            entries.append(Entry(sample_id, (f"cot/{folder}/{line['image']}",), line))
        return entries

    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """The image, then the question. Boxes are scaled where the stored image has another size than the labelled."""
        line, name = entry.line, f"sample {entry.sample_id}"
        size = image_size(images[0], name=f"{name}: image 0")
        labelled = (float(line["width"]), float(line["height"]))
        return Sample(
            sample_id=entry.sample_id,
            domain=line["dataset"],
            context=(ContextPart(kind="image", image=0),),
            images=images,
            question=line["question"],
            answers=(str(line["answer"]),),
            choices=None,
            evidence=tuple(
                box_evidence(0, scaled(corners_of(box), size=labelled, to=size), size=size, name=name)
                for box in line["bboxs"]
            ),
        )
