"""What one metric is: the shape that every file of this folder has."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import polars as pl

from rampipe.types import QueryGroup


@runtime_checkable
class Metric(Protocol):
    """A number per (sample, head), derived from the sufficient statistics of `head_stats`.

    Each metric is a module with these names. `counts` are the columns of `samples` that the expression needs beside
    the columns of `head_stats`; `undefined` says when the value is null. Null is never replaced by 0.
    """

    @property
    def ID(self) -> str: ...  # noqa: D102, N802
    @property
    def MEANING(self) -> str: ...  # noqa: D102, N802
    @property
    def SOURCE(self) -> str: ...  # noqa: D102, N802
    @property
    def QUERY(self) -> QueryGroup: ...  # noqa: D102, N802
    @property
    def COUNTS(self) -> tuple[str, ...]: ...  # noqa: D102, N802
    @property
    def UNDEFINED(self) -> str: ...  # noqa: D102, N802

    def expression(self) -> pl.Expr:
        """Float64 value of one row of `head_stats`, null when undefined."""
        ...
