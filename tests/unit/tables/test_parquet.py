from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rampipe.errors import DataError, StorageError
from rampipe.tables.parquet import parse, read_metadata, to_bytes
from rampipe.tables.rows import head_stats_table
from rampipe.tables.schema import load_schema
from tests.unit.tables.synthetic import result

SCHEMA = load_schema("head_stats.v2")
TABLE = head_stats_table([result(row) for row in range(1, 40)])
DATA = to_bytes(TABLE, metadata={"unit": "7", "fingerprint": "ab"})


def test_an_empty_table_has_no_row_group() -> None:
    empty = to_bytes(TABLE.slice(0, 0), metadata={"unit": "7"})
    assert parse(empty, SCHEMA).num_rows == 0
    assert read_metadata(empty) == {"unit": "7"}
    assert pq.read_metadata(pa.BufferReader(empty)).num_row_groups == 0


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def detected(data: bytes) -> bool:
    """A table that is read with other values is what must not happen, so it does not count."""
    try:
        parse(data, SCHEMA)
    except (StorageError, DataError):
        return True
    return False


def test_what_is_written_is_read() -> None:
    assert parse(DATA, SCHEMA).equals(TABLE)
    assert read_metadata(DATA) == {"unit": "7", "fingerprint": "ab"}


def test_the_same_table_gives_the_same_bytes() -> None:
    assert to_bytes(TABLE, metadata={"fingerprint": "ab", "unit": "7"}) == DATA
    chunked = pa.concat_tables([TABLE.slice(0, 5), TABLE.slice(5)])
    assert to_bytes(chunked, metadata={"unit": "7", "fingerprint": "ab"}) == DATA
    assert to_bytes(TABLE, metadata={"unit": "8", "fingerprint": "ab"}) != DATA


def pages(data: bytes) -> list[int]:
    """The last byte of every column chunk: inside its last page, behind the page header, which no checksum covers."""
    group = pq.read_metadata(pa.BufferReader(data)).row_group(0)
    columns = [group.column(index) for index in range(group.num_columns)]
    starts = [column.dictionary_page_offset or column.data_page_offset for column in columns]
    return [
        start + column.total_compressed_size - 1
        for start, column in zip(starts, columns, strict=True)
        if column.physical_type == "FLOAT" and column.statistics.null_count == 0
    ]


def test_a_flipped_bit_is_found_by_the_page_checksum_and_by_nothing_else() -> None:
    with_checksum, without = io.BytesIO(), io.BytesIO()
    for buffer, checksum in ((with_checksum, True), (without, False)):
        pq.write_table(TABLE, buffer, compression="none", use_dictionary=False, write_page_checksum=checksum)
    assert all(detected(flipped(with_checksum.getvalue(), place)) for place in pages(with_checksum.getvalue()))
    silent = without.getvalue()
    assert len(pages(silent)) > 5
    read = [parse(flipped(silent, place), SCHEMA) for place in pages(silent)]
    assert not any(table.equals(TABLE) for table in read)


def test_a_flip_in_any_column_of_our_files_is_found() -> None:
    assert len(pages(DATA)) > 5
    assert [place for place in pages(DATA) if not detected(flipped(DATA, place))] == []


@pytest.mark.parametrize("damaged", [DATA[:-1], DATA[: len(DATA) // 2], b"", bytes(len(DATA))])
def test_a_truncated_or_zeroed_file_names_its_source(damaged: bytes) -> None:
    with pytest.raises(StorageError, match=r"head_stats/unit-000001\.parquet"):
        parse(damaged, SCHEMA, source="head_stats/unit-000001.parquet")
    with pytest.raises(StorageError):
        read_metadata(damaged)


def test_a_null_in_a_required_column_is_refused() -> None:
    loose = pa.schema([field.with_nullable(True) for field in TABLE.schema])
    rows = TABLE.to_pylist()
    rows[3]["mass_question"] = None
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=loose), buffer)
    with pytest.raises(StorageError, match="mass_question"):
        parse(buffer.getvalue(), SCHEMA)


def test_another_schema_is_refused() -> None:
    data = to_bytes(TABLE.drop_columns(["hit"]), metadata={})
    with pytest.raises(DataError, match="no column 'hit'"):
        parse(data, SCHEMA)
