"""Stored frames of a video, for datasets that publish videos: no video decoder is among our dependencies.

Frames lie in one folder a video as `<frame number>.jpg`, numbered from 0, all or some of them. This is our own layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

MAX_FRAMES = 32

One = TypeVar("One")


def list_frames(root: Path, folder: str) -> list[tuple[int, str]]:
    """Number and name, relative to `root`, of the stored frames of one video, in time order."""
    paths = (root / folder).glob("*.jpg")
    return sorted((int(path.stem), f"{folder}/{path.name}") for path in paths if path.stem.isdigit())


def spread(frames: Sequence[One], *, at_most: int = MAX_FRAMES) -> list[One]:
    """The middle frames of `at_most` equal parts; all frames when there are no more than that."""
    wanted = min(len(frames), at_most)
    return [frames[(2 * index + 1) * len(frames) // (2 * wanted)] for index in range(wanted)]
