"""Which samples share a context: they are one cluster of the bootstrap, not independent measurements."""

from __future__ import annotations

import hashlib

from rampipe.types import ContextPart, Sample, StoredImage

NUM_HEX_DIGITS = 16


def context_key(sample: Sample) -> str:
    """16 hex digits of a SHA-256 over the parts of the context and the bytes of the images that they show.

    Question, answers, evidence, ids and unused images do not count; neither does the numbering of images.
    """
    digest = hashlib.sha256()
    for part in sample.context:
        for field in _fields(part, sample):
            digest.update(len(field).to_bytes(8, "little") + field)
    return digest.hexdigest()[:NUM_HEX_DIGITS]


def _fields(part: ContextPart, sample: Sample) -> list[bytes]:
    if part.kind == "text":
        return [b"text", (part.text or "").encode()]
    indices = part.frames if part.frames is not None else (part.image,)
    contents = [_content(sample.images[index]) for index in indices if index is not None]
    return [part.kind.encode(), len(contents).to_bytes(8, "little"), *contents]


def _content(image: StoredImage) -> bytes:
    return image.bytes if image.bytes is not None else f"path {image.path}".encode()
