"""docs/reliability.md holds what runs found: each run replaces its own section and leaves the others as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write_section(path: Path, name: str, lines: Sequence[str]) -> None:
    """Replace what stands between the two comments of a section. Raises ValueError when the file has none."""
    text = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: written by a run -->\n", f"<!-- end of {name} -->"
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"{path}: no section {name!r}. Put back the lines {begin.strip()!r} and {end!r}.")
    path.write_text(before + begin + "\n".join(lines) + "\n" + end + after, encoding="utf-8")
