"""Neighbours in blocks are those of the whole table of distances."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from tasks.measures.features import feature_distances
from tasks.measures.features.feature_distances import nearest_rows, squared_distances


@pytest.mark.parametrize("block", [3, 1024])
def test_neighbours_are_those_of_a_sorted_table(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_distances, "BLOCK", block)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(10, 6)), rng.normal(size=(17, 6))
    a[4] = b[11]
    table = cdist(a, b)
    np.testing.assert_allclose(squared_distances(a, b), table**2, atol=1e-12)
    rows, distances = nearest_rows(a, b, keep=3)
    np.testing.assert_array_equal(rows, table.argsort(axis=1)[:, :3])
    np.testing.assert_allclose(distances, np.sort(table, axis=1)[:, :3])
    assert distances[4, 0] == 0
    owners = rng.integers(0, 3, 10), rng.integers(0, 3, 17)
    table[owners[0][:, None] == owners[1]] = np.inf
    rows, distances = nearest_rows(a, b, keep=2, owners=owners)
    np.testing.assert_allclose(distances, np.sort(table, axis=1)[:, :2])
    assert (owners[0][:, None] != owners[1][rows]).all()
