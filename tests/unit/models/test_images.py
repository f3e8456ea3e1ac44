"""Stored bytes to images: every damaged image becomes a named error, and none a warning or a crash."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from rampipe.errors import SampleError
from rampipe.models.images import decode_images
from rampipe.types import Sample, StoredImage


def _sample(*contents: bytes | None, path: str | None = None) -> Sample:
    images = tuple(StoredImage(content, path) for content in contents)
    return Sample("s/1", "tiny", (), images, "q", ("a",), None, ())


def _save(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises more pixels than it has."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


GOOD = _save(Image.effect_noise((40, 30), 50).convert("RGB"))


@pytest.mark.fault("B1", "B2", "B3", "B4", "B5")
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "image_missing"),
        (b"", "image_empty"),
        (b"<html>not found</html>", "image_corrupt"),
        (GOOD[: len(GOOD) // 2], "image_corrupt"),
        (GOOD[:100], "image_corrupt"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n", "image_corrupt"),
        (_save(Image.new("RGB", (1, 1))), "image_too_small"),
        (_save(Image.new("RGB", (300, 3))), "image_too_small"),
        (_save(Image.new("RGB", (101, 100))), "image_too_large"),
        (_bomb(12_000, 10_000), "image_too_large"),
        (_bomb(20_000, 20_000), "image_too_large"),
    ],
)
def test_damage_is_named(content, code):
    with pytest.raises(SampleError, match="sample s/1: image 1") as caught:
        decode_images(_sample(GOOD, content), max_pixels=10_000)
    assert (caught.value.stage, caught.value.code) == ("decode", code)


def test_paths_are_not_followed(tmp_path):
    (tmp_path / "a.png").write_bytes(GOOD)
    with pytest.raises(SampleError) as caught:
        decode_images(_sample(None, path=str(tmp_path / "a.png")), max_pixels=10_000)
    assert caught.value.code == "image_missing"


@pytest.mark.fault("B5")
def test_size_is_judged_before_pixels(monkeypatch):
    """The limit is the reason: with a higher one the same bytes are found to be truncated."""
    content = _bomb(4000, 3000)
    codes = []
    for limit in (10_000, 10**8):
        with pytest.raises(SampleError) as caught:
            decode_images(_sample(content), max_pixels=limit)
        codes.append(caught.value.code)
    assert codes == ["image_too_large", "image_corrupt"]


def test_order_and_pixels_are_kept():
    contents = [GOOD, _save(Image.new("RGB", (8, 9), (1, 2, 3)))]
    first, second = decode_images(_sample(*contents), max_pixels=10_000)
    assert (first.size, second.size) == ((40, 30), (8, 9))
    assert second.getpixel((7, 8)) == (1, 2, 3)
    assert np.array_equal(np.asarray(first), np.asarray(Image.open(BytesIO(GOOD))))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode):
    kind = "TIFF" if mode in ("CMYK", "I;16") else "PNG"
    (image,) = decode_images(_sample(_save(Image.new(mode, (8, 8)), kind)), max_pixels=10_000)
    assert (image.mode, image.size) == ("RGB", (8, 8))


def test_orientation_is_not_applied_and_does_not_travel():
    picture = Image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6
    content = _save(picture, "JPEG", exif=exif)
    (image,) = decode_images(_sample(content), max_pixels=10_000)
    assert image.size == (40, 20)
    assert not image.getexif()
    assert Image.open(BytesIO(content)).getexif()[0x0112] == 6


@pytest.mark.fault("B1")
def test_flipped_bytes_never_escape():
    """300 damaged copies: each decodes or is a SampleError."""
    rng = np.random.default_rng(0)
    sources = [_save(Image.new("P", (20, 20)), kind) for kind in ("PNG", "GIF", "BMP", "TIFF")]
    sources += [_save(Image.new("RGB", (20, 20)), kind) for kind in ("JPEG", "WEBP")]
    for number in range(300):
        content = bytearray(sources[number % len(sources)])
        for place in rng.integers(0, len(content), 4):
            content[place] = rng.integers(0, 256)
        try:
            decode_images(_sample(bytes(content)), max_pixels=10_000)
        except SampleError as error:
            assert error.stage == "decode"
