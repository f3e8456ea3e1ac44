"""RefCOCOg: one object of a COCO photograph, named by an expression of a few words.

Source: huggingface.co/datasets/lmms-lab/RefCOCOg, `data/val-*.parquet` and `data/test-*.parquet`, a formatted version
of github.com/lichengunc/refer. The original `refs(umd).p` is a pickle and is not read: unpickling runs code.
Layout: that dataset's card; `bbox` is left, top, width, height in pixels, as lmms-eval's `tasks/refcocog/utils_rec.py`
reads it. `answer` holds several expressions: each is a sample.
Licence: none on the card; COCO's images have Flickr licences of their own. Size: 7,573 and 5,023 rows, 2.1 GB.
Evidence: the box of the object, exact.
Score: `box_iou`, correct from 0.5: the field's accuracy at IoU 0.5. The answer is the box in shares of the sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from rampipe.data.boxes import box_evidence, corners_of, image_size
from rampipe.data.hub_table import HubTableSource, Row
from rampipe.data.listed import Entry
from rampipe.types import ContextPart, Sample, StoredImage

_ASK = (
    "Give the bounding box of the region that this describes, as [x0, y0, x1, y1] in shares of the image's width and "
    "height between 0 and 1: "
)


class RefCocogSource(HubTableSource):
    """One photograph and one expression a sample; domain `referring`."""

    name: ClassVar[str] = "refcocog"
    SCORE: ClassVar[str] = "box_iou"
    where: ClassVar[str] = "RefCOCOg comes from huggingface.co/datasets/lmms-lab/RefCOCOg: data/<split>-*.parquet."
    columns: ClassVar[tuple[str, ...]] = ("question_id", "answer", "bbox", "file_name")

    def questions(self, row: Row, place: str) -> Iterator[tuple[str, Row]]:
        """One question an expression."""
        for index, expression in enumerate(row["answer"] or ()):
            yield f"{row['question_id']}@{place}/{index}", {"expression": expression, "bbox": row["bbox"]}

    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """The expression asked for its box."""
        name = f"sample {entry.sample_id}"
        width, height = size = image_size(images[0], name=f"{name}: image 0")
        corners = corners_of(entry.line["bbox"], order="xywh")
        evidence = box_evidence(0, corners, size=size, name=name)
        x0, y0, x1, y1 = corners
        shares = (x0 / width, y0 / height, x1 / width, y1 / height)
        return Sample(
            sample_id=entry.sample_id,
            domain="referring",
            context=(ContextPart(kind="image", image=0),),
            images=images,
            question=_ASK + entry.line["expression"],
            answers=("[" + ", ".join(f"{share:.3f}" for share in shares) + "]",),
            choices=None,
            evidence=(evidence,),
        )
