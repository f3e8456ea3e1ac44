"""Sums per cluster and head: order never matters, twice and never are errors, null stays null."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Event

import numpy as np
import polars as pl
import pytest

from rampipe.errors import ConfigError, DataError, IncompleteError
from rampipe.heads.layout import Rows
from rampipe.heads.metrics import metric_by_id
from rampipe.heads.reduce import find_wanted, reduce_metric, sum_parts
from rampipe.heads.scopes import Scope, iterate_scopes
from tests.unit.heads.planted import Study, part_of, planted_masses

RAM = metric_by_id("ram")
MASSES = planted_masses(24, {}, shape=(3, 4))


def scopes_of(study: Study, metric_id: str = "ram") -> dict[str, Scope]:
    return {scope.name: scope for scope in iterate_scopes(reduce_metric(*study.parts(), metric_by_id(metric_id)))}


def test_means_are_those_of_numpy() -> None:
    scopes = scopes_of(Study(MASSES, domains=("docs", "films", "photos"), per_context=2))
    exact = MASSES.astype(np.float32).astype(np.float64).reshape(24, -1)
    np.testing.assert_allclose(scopes["overall"].means, exact.mean(axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(scopes["films"].means, exact[1::3].mean(axis=0), rtol=0, atol=1e-12)
    assert list(scopes) == ["overall", "docs", "films", "photos"]
    assert len(scopes["overall"].clusters) == 12


@pytest.mark.parametrize("seed", range(5))
def test_order_of_rows_does_not_change_a_bit(seed: int) -> None:
    head_stats, samples = Study(MASSES, domains=("docs", "films"), per_context=3).frames()
    mixed = head_stats.collect().sample(fraction=1.0, shuffle=True, seed=seed).lazy()
    mixed_samples = samples.collect().sample(fraction=1.0, shuffle=True, seed=seed).lazy()
    straight = reduce_metric(Study(MASSES, domains=("docs", "films"), per_context=3).parts()[0], samples, RAM)
    shuffled = reduce_metric([part_of(mixed)], mixed_samples, RAM)
    assert straight.sums.tobytes() == shuffled.sums.tobytes()
    assert straight.elsewhere.tobytes() == shuffled.elsewhere.tobytes()
    assert straight.samples.equals(shuffled.samples)


def test_sums_are_exact() -> None:
    """However the samples lie in files, and in whatever order. Quotients use all bits of a float64."""
    masses = planted_masses(400, {}, shape=(1, 2))
    study = Study(np.asarray(masses), np.full_like(masses, 0.1))
    found = set[bytes]()
    for part_samples in (1, 7, 50, 400):
        parts, samples = study.parts(part_samples=part_samples)
        sums = reduce_metric(parts[::-1], samples, metric_by_id("visual_share"))
        found.add(next(iterate_scopes(sums)).means.tobytes())
    assert len(found) == 1
    visual = masses.astype(np.float32)[:, 0, 0].astype(np.float64)
    share = visual / (visual + np.float64(np.float32(0.1)))
    rng = np.random.default_rng(0)  # twin: the same quotients as they are
    assert len({float(np.cumsum(rng.permutation(share))[-1]) for _ in range(30)}) > 1


def test_a_changed_value_changes_the_bytes() -> None:
    """Twin: equal bytes above are not equal by blindness."""
    changed = MASSES.copy()
    changed[5, 1, 2] += 1e-4
    first, second = reduce_metric(*Study(MASSES).parts(), RAM), reduce_metric(*Study(changed).parts(), RAM)
    assert first.sums.tobytes() != second.sums.tobytes()


def test_sample_without_evidence_is_left_out_and_counted() -> None:
    scope = scopes_of(Study(MASSES, without_evidence=frozenset({0, 7})))["overall"]
    kept = np.delete(MASSES.astype(np.float32).astype(np.float64), [0, 7], axis=0)
    np.testing.assert_allclose(scope.means, kept.reshape(22, -1).mean(axis=0), atol=1e-12)
    assert (scope.num_samples, scope.num_null, set(scope.num_defined)) == (24, 2, {22})
    as_zero = MASSES.copy()
    as_zero[[0, 7]] = 0.0
    assert not np.allclose(scope.means, as_zero.reshape(24, -1).mean(axis=0), rtol=1e-3)  # what 0.0 would have given


def test_a_domain_without_evidence_has_no_means() -> None:
    study = Study(MASSES, domains=("docs", "films"), without_evidence=frozenset(range(1, 24, 2)))
    scope = scopes_of(study)["films"]
    assert np.isnan(scope.means).all()
    assert (scope.num_samples, scope.num_null, scope.clusters) == (12, 12, ())


def test_null_of_single_heads_counts_per_head() -> None:
    """visual_share is undefined where a head gives nothing to visual tokens."""
    masses = MASSES.copy()
    masses[:6, 0, 0] = 0.0
    scope = scopes_of(Study(masses), "visual_share")["overall"]
    assert scope.num_defined[0] == 18
    assert set(scope.num_defined[1:]) == {24}
    np.testing.assert_allclose(scope.means, 1.0)  # all visual mass is evidence here; zeros would pull it to 0.75


def test_elsewhere_is_over_the_same_samples() -> None:
    elsewhere = np.full_like(MASSES, 0.25)
    elsewhere[3] = 1.0
    scope = scopes_of(Study(np.minimum(MASSES, 0.1), elsewhere, without_evidence=frozenset({3})))["overall"]
    np.testing.assert_allclose(scope.elsewhere, 0.25, atol=1e-6)


def test_duplicated_row_is_refused_by_its_key() -> None:
    head_stats, samples = Study(MASSES).frames()
    rows = head_stats.collect()
    again = rows.filter(pl.col("sample_id") == "docs/00003", pl.col("layer") == 1, pl.col("head") == 2)
    with pytest.raises(DataError, match=r"sample 'docs/00003', head 1\.2, query 'question', has 2 rows"):
        reduce_metric([part_of(pl.concat([rows, again]))], samples, RAM)


def test_duplicated_file_is_refused() -> None:
    head_stats, samples = Study(MASSES).frames()
    with pytest.raises(DataError, match=r"sample_id 'docs/00000' has 2 rows"):
        reduce_metric([part_of(head_stats), part_of(head_stats)], pl.concat([samples, samples]), RAM)
    with pytest.raises(DataError, match=r"sample 'docs/00000', head 0\.0, query 'question', has 2 rows"):
        reduce_metric([part_of(head_stats), part_of(head_stats)], samples, RAM)
    with pytest.raises(DataError, match=r"sample 'docs/00000', head 0\.0, query 'question', has 2 rows"):
        reduce_metric([part_of(pl.concat([head_stats, head_stats]))], samples, RAM)


def test_duplicate_that_hides_a_hole_is_refused() -> None:
    """As many rows as cells, but one twice and one never."""
    head_stats, samples = Study(MASSES).frames()
    rows = head_stats.collect()
    with pytest.raises(DataError, match="has 2 rows, allowed 1"):
        reduce_metric([part_of(pl.concat([rows[1:], rows[7:8]]))], samples, RAM)


def test_absent_row_is_refused() -> None:
    head_stats, samples = Study(MASSES).frames()
    missing = (pl.col("sample_id") == "docs/00000") & (pl.col("layer") == 0) & (pl.col("head") == 2)
    without = head_stats.filter(~missing)
    with pytest.raises(IncompleteError, match=r"sample 'docs/00000', head 0\.2 has no question row: 287 of 288"):
        reduce_metric([part_of(without)], samples, RAM)


def test_row_of_an_unknown_sample_is_refused() -> None:
    head_stats, samples = Study(MASSES).frames()
    with pytest.raises(DataError, match="sample 'docs/00004' has rows but is not in the samples table"):
        reduce_metric([part_of(head_stats)], samples.filter(pl.col("sample_id") != "docs/00004"), RAM)


def test_of_several_bad_files_the_first_is_named_and_later_ones_are_left() -> None:
    """The first one fails only after the second has failed."""
    parts, samples = Study(planted_masses(40, {}, shape=(1, 2))).parts(part_samples=1)
    wanted, has_failed, opened = find_wanted(parts, samples, RAM), Event(), list[int]()
    broken = [_Broken(place, has_failed, opened) for place in range(2, 40)]
    with pytest.raises(DataError, match="part 2 is bad"):
        sum_parts([*parts[:2], *broken], wanted, num_threads=2)
    assert sorted(opened) == [2, 3]
    with pytest.raises(DataError, match="part 3 is bad"):  # twin: it is as bad by itself
        sum_parts([*parts[:2], *broken[1:]], wanted, num_threads=2)


@dataclass(frozen=True)
class _Broken:
    place: int
    has_failed: Event
    opened: list[int]

    @property
    def name(self) -> str:
        return f"part {self.place}"

    def open(self) -> AbstractContextManager[Rows]:
        self.opened.append(self.place)
        if self.place == 2:
            assert self.has_failed.wait(60)
        self.has_failed.set()
        raise DataError(f"{self.name} is bad")


def test_value_that_is_not_finite_is_refused() -> None:
    head_stats, samples = Study(MASSES).frames()
    broken = head_stats.with_columns(mass_evidence=pl.col("mass_evidence") * float("nan"))
    with pytest.raises(DataError, match=r"head \d\.\d: value nan is not finite"):
        reduce_metric([part_of(broken)], samples, RAM)


def test_group_that_was_not_captured_is_named() -> None:
    frames = Study(MASSES, queries=("question", "answer")).parts()
    with pytest.raises(ConfigError, match=r"'ram_last' needs query group 'last'.*\['answer', 'question'\].*queries"):
        reduce_metric(*frames, metric_by_id("ram_last"))


def test_metric_that_is_null_everywhere_says_why() -> None:
    with pytest.raises(DataError, match=r"null for all 24 samples: .*capture\.calibrate was off"):
        reduce_metric(*Study(MASSES).parts(), metric_by_id("ram_calibrated"))


def test_run_without_a_sample_is_refused() -> None:
    head_stats, samples = Study(MASSES).frames()
    with pytest.raises(DataError, match="no measured sample"):
        reduce_metric([part_of(head_stats.head(0))], samples.head(0), RAM)


def test_domain_named_like_the_overall_scope_is_refused() -> None:
    with pytest.raises(DataError, match="Rename the domain"):
        scopes_of(Study(MASSES, domains=("overall", "docs")))
