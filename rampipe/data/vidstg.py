"""VidSTG: questions on user videos, answered by one object during one part of the video.

Source: github.com/Guaranteer/VidSTG-Dataset (CVPR 2020), `annotations/<split>_annotations.json`; boxes from VidOR
(xdshang.github.io/docs/vidor.html), `annotation/<training or validation>/<group>/<video>.json`. Layout: that
`README.md`, and how TubeDETR's `preproc_vidstg.py` joins the two: `trajectories` has a list of boxes for each frame,
and an `end_fid` is the first frame behind the segment or the answer.
Videos are not decoded: no decoder is among our dependencies. Frames lie in `frames/<video>/<frame number>.jpg`, all or
some of them, numbered from 0 as VidOR counts them; this is our own layout, as none is published. Of the frames inside
`used_segment`, two a second are shown, as the families' own processors sample, but 4 to 32, evenly spread.
Licence: none stated; VidOR's videos are YFCC100M's. Size: 602 videos and 8,956 sentences in val, 732 and 10,303 in
test. Only the questions are read, not the declarative sentences.
Evidence: the tube: the object's box in each shown frame of the answer's time, scaled to the stored frame. A question
none of whose answering frames is shown has none.
Score: `containment` of the object's category. The benchmark scores predicted tubes (vIoU), which a text does not give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, ClassVar

from rampipe.config import DataConfig
from rampipe.data.boxes import box_evidence, image_size, scaled
from rampipe.data.frames import list_frames, num_sampled, spread
from rampipe.data.listed import Entry, ListedSource
from rampipe.data.text_files import read_json, read_records
from rampipe.errors import DataError
from rampipe.types import ContextPart, Evidence, Sample, StoredImage

_FOLDERS = {"train": "training", "val": "training", "test": "validation"}
"""VidSTG's validation set is a part of VidOR's training set, and its test set is VidOR's validation set."""

Tracks = Mapping[int, Mapping[int, Sequence[float]]]
"""Frame, then object id -> corners in pixels of the annotated size."""


class VidStgSource(ListedSource):
    """One video a sample; domain `video`."""

    name: ClassVar[str] = "vidstg"
    SCORE: ClassVar[str] = "containment"
    where: ClassVar[str] = (
        "VidSTG comes from github.com/Guaranteer/VidSTG-Dataset (annotations/), boxes from VidOR (annotation/), and "
        "frames are stored as frames/<video>/<frame number>.jpg."
    )

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self._frames: dict[str, list[tuple[int, str]]] = {}

    def shard_names(self) -> list[str]:
        """One virtual shard a split: `<split>-annotations.json`."""
        paths = sorted(self.folder.glob("annotations/*_annotations.json"))
        return [f"{path.stem.removesuffix('_annotations')}-annotations.json" for path in paths]

    def list_entries(self, shard: str) -> list[Entry]:
        """Questions of one split with the boxes of their frames. Tracks of one video are in memory at a time."""
        split = self.split_of(shard)
        keys = ("vid", "fps", "width", "height", "subject/objects", "used_segment", "temporal_gt", "questions")
        lines = read_records(self.folder / f"annotations/{split}_annotations.json", keys=keys, where=self.where)
        by_video: dict[str, list[tuple[int, Any]]] = {}
        for index, line in enumerate(lines):
            by_video.setdefault(line["vid"], []).append((index, line))
        entries: list[Entry] = []
        for video, asked in by_video.items():
            tracks = self._tracks(video, split)
            for index, line in asked:
                entries += self._questions(line, tracks, f"{split}/{index}/{video}")
        return entries

    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """The video, then the question."""
        line = entry.line
        return Sample(
            sample_id=entry.sample_id,
            domain="video",
            context=(ContextPart(kind="video", frames=tuple(range(len(images)))),),
            images=images,
            question=line["question"],
            answers=(line["category"],),
            choices=None,
            evidence=tuple(_tube(entry, images)),
        )

    def _questions(self, line: Any, tracks: Tracks, stem: str) -> list[Entry]:
        shown = self._shown(line)
        first, stop = line["temporal_gt"]["begin_fid"], line["temporal_gt"]["end_fid"]
        categories = {one["tid"]: one["category"] for one in line["subject/objects"]}
        names = tuple(name for _, name in shown) or (f"frames/{line['vid']}/0.jpg",)
        entries: list[Entry] = []
        for number, question in enumerate(line["questions"]):
            target = question["target_id"]
            boxes = [
                [index, *tracks[frame][target]]
                for index, (frame, _) in enumerate(shown)
                if first <= frame < stop and target in tracks.get(frame, {})
            ]
            about = {"question": question["description"], "category": categories.get(target), "boxes": boxes}
            size = {"width": line["width"], "height": line["height"]}
            entries.append(Entry(f"{stem}/{number}", names, {**about, **size}))
        return entries

    def _shown(self, line: Any) -> list[tuple[int, str]]:
        """Frame number and file of the stored frames of the segment that are shown."""
        video = line["vid"]
        if video not in self._frames:
            self._frames[video] = list_frames(self.folder, f"frames/{video}")
        first, stop = line["used_segment"]["begin_fid"], line["used_segment"]["end_fid"]
        inside = [(frame, name) for frame, name in self._frames[video] if first <= frame < stop]
        return spread(inside, at_most=num_sampled((stop - first) / line["fps"]))

    def _tracks(self, video: str, split: str) -> Tracks:
        folder = _FOLDERS.get(split)
        paths = sorted(self.folder.glob(f"annotation/{folder}/*/{PurePosixPath(video).name}.json"))
        if folder is None or not paths:
            raise DataError(f"annotation/{folder}/: no boxes of video {video} of split {split!r}. {self.where}")
        annotated = read_json(paths[0], where=self.where)
        try:
            return {
                frame: {
                    one["tid"]: [float(one["bbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax")] for one in boxes
                }
                for frame, boxes in enumerate(annotated["trajectories"])
            }
        except (KeyError, TypeError) as error:
            raise DataError(f"{paths[0]}: not a VidOR annotation ({error!r}). {self.where}") from None


def _tube(entry: Entry, images: Sequence[StoredImage]) -> list[Evidence]:
    name = f"sample {entry.sample_id}"
    labelled = (float(entry.line["width"]), float(entry.line["height"]))
    made: list[Evidence] = []
    for image, *box in entry.line["boxes"]:
        size = image_size(images[image], name=f"{name}: frame {image}")
        x0, y0, x1, y1 = (float(value) for value in box)
        corners = scaled((x0, y0, x1, y1), size=labelled, to=size)
        made.append(box_evidence(image, corners, size=size, name=name))
    return made
