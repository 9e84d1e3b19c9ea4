from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from espalier.errors import DataError
from espalier.topology.exact_sums import exact_dot
from espalier.topology.matrices import absolute_matrix, shape_of

WHOLE = st.integers(-(2**52), 2**52)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(WHOLE, WHOLE), max_size=6))
def test_dot_products_are_those_of_python_integers(pairs: list[tuple[int, int]]) -> None:
    first, second = (np.array([pair[k] for pair in pairs], np.int64) for k in (0, 1))
    expected = sum(a * b for a, b in pairs)
    assert exact_dot(first, second) == expected
    assert exact_dot(first.astype(np.float64), second) == expected


def test_absolute_matrices_sum_repeated_entries_first() -> None:
    repeated = sparse.csr_array(
        (np.array([1.0, -3.0, -2.0]), np.array([0, 0, 1]), np.array([0, 2, 3])), shape=(2, 2)
    )
    before = repeated.data.copy()
    found = absolute_matrix(repeated, "layer 0")
    assert found.toarray().tolist() == [[2, 0], [0, 2]] and shape_of(found) == (2, 2)
    np.testing.assert_array_equal(repeated.data, before)
    with pytest.raises(DataError, match="layer 3: a weight is not finite"):
        absolute_matrix(np.array([[np.nan]]), "layer 3")
