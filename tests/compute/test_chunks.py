"""Rows in chunks of limited size."""

import pytest

from frofa.compute.memory import row_chunks, rows_per_chunk


@pytest.mark.parametrize(("limit", "row_size", "expected"), [(100, 10, 10), (100, 30, 3), (5, 10, 1), (7, 0, 7)])
def test_a_chunk_has_as_many_rows_as_the_limit_holds(limit: int, row_size: int, expected: int) -> None:
    assert rows_per_chunk(limit, row_size) == expected


@pytest.mark.parametrize("n_rows", [0, 1, 3, 4, 10])
def test_chunks_cover_all_rows_in_order(n_rows: int) -> None:
    parts = [list(range(n_rows))[part] for part in row_chunks(n_rows, 31, 10)]
    assert [row for part in parts for row in part] == list(range(n_rows))
    assert all(1 <= len(part) <= 3 for part in parts)
