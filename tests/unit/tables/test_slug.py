from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rampipe.tables.slug import slug


@pytest.mark.fault("B23")
@given(st.text(max_size=200))
def test_every_text_becomes_a_safe_name(text: str) -> None:
    made = slug(text)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", made)
    assert ".." not in made
    assert slug(made) == made


def test_names_stay_readable() -> None:
    assert slug("Qwen/Qwen3-VL-8B-Instruct") == "qwen-qwen3-vl-8b-instruct"
    assert slug("../../etc/passwd") == "etc-passwd"


def test_long_names_stay_different() -> None:
    assert slug("a" * 100) != slug("a" * 101)
    assert len(slug("a" * 100)) <= 64
