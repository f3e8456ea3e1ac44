"""rampipe: find the attention heads of a multimodal LLM that fetch the evidence.

`rampipe.open_run(folder)` gives the tables of a run as Polars LazyFrames. Importing this package imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rampipe.tables.read import OpenRun, open_run

__version__ = "0.1.0"
__all__ = ["OpenRun", "__version__", "open_run"]


def __getattr__(name: str) -> Any:
    """`open_run` and `OpenRun`, imported on first use: they need Polars, which a GPU worker never loads."""
    if name in ("OpenRun", "open_run"):
        from rampipe.tables import read

        return getattr(read, name)
    raise AttributeError(f"module 'rampipe' has no attribute {name!r}")
