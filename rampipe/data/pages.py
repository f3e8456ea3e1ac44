"""Evidence that is known by page only."""

from __future__ import annotations

from collections.abc import Iterable

from rampipe.types import Evidence


def page_evidence(pages: Iterable[int], *, num_pages: int) -> tuple[Evidence, ...]:
    """Whole pages, counted from 1, each once. Raises IndexError for a page that is not there."""
    wanted = list(dict.fromkeys(int(page) for page in pages))
    if beyond := [page for page in wanted if not 1 <= page <= num_pages]:
        raise IndexError(f"evidence on page {beyond[0]} of {num_pages}, counted from 1")
    return tuple(Evidence(kind="image", image=page - 1) for page in wanted)
