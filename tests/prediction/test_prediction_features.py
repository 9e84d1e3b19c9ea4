from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_pools import synthetic_pool

from espalier.errors import ConfigurationError, DataError
from espalier.prediction.features import (
    CONTROLS,
    FEATURES,
    complete_rows,
    feature_matrix,
    group_codes,
    needs_graph,
    require_unique,
    scaled_within,
)
from espalier.topology.topometrics import TOPOMETRICS


def test_importing_the_package_loads_no_learner() -> None:
    code = (
        "import sys, espalier.prediction; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'sklearn', 'pandas', 'xgboost')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_where_the_package_says() -> None:
    import espalier.prediction as package

    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing


def test_expressions_give_numbers_and_one_hot_columns() -> None:
    table = synthetic_pool()
    matrix = feature_matrix(table, "local+dataset+sparsity")
    assert matrix.names[:5] == ("sink_nodes", "source_nodes", "disc_nodes", "r-out", "r-in")
    assert matrix.names[5:] == ("dataset=x", "dataset=y", "dataset=z", "sparsity")
    assert matrix.groups[5:] == ("dataset", "dataset", "dataset", "sparsity")
    assert np.array_equal(matrix.values[:, 5:8].sum(axis=1), np.ones(len(table)))
    assert np.array_equal(matrix.values[:, 8], table["sparsity"])
    overlapping = feature_matrix(table, "topometrics+local")
    assert overlapping.names == TOPOMETRICS


def test_controls_look_at_no_graph() -> None:
    assert not any(needs_graph(control) for control in CONTROLS)
    assert needs_graph("sparsity+layer-density")
    bare = synthetic_pool()[["pruning", "sparsity", "model", "dataset"]]
    for control in CONTROLS:
        assert len(feature_matrix(bare, control).values) == len(bare)


def test_bad_columns_are_named() -> None:
    table = synthetic_pool()
    with pytest.raises(ConfigurationError, match="Did you mean 'topometrics'"):
        feature_matrix(table, "topometric")
    with pytest.raises(ConfigurationError, match="twice"):
        feature_matrix(table, "local+local")
    with pytest.raises(DataError, match=r"'motif' Did you mean 'motifs'\?"):
        feature_matrix(table.rename(columns={"motif": "motifs"}), "topometrics")
    with pytest.raises(DataError, match="lacks columns 'jaccard_init'"):
        feature_matrix(table, "stability")
    holed = table.assign(motif=[np.nan, np.inf] + [1.0] * (len(table) - 2))
    with pytest.raises(DataError, match=r"\{'motif': 2\}"):
        feature_matrix(holed, "regional")
    assert list(np.flatnonzero(~complete_rows(holed, FEATURES["regional"].columns))) == [0, 1]
    with pytest.raises(DataError, match="not all numbers"):
        feature_matrix(table.assign(motif="many"), "regional")
    with pytest.raises(DataError, match="2 repeated rows"):
        require_unique(pd.concat([table, table.iloc[:2]]))


def test_scaling_within_groups() -> None:
    table = synthetic_pool()
    by = ("model", "dataset")
    scaled = feature_matrix(table, "local+sparsity-level", scale_within=by)
    codes = group_codes(table, by)
    for code in np.unique(codes):
        inside = scaled.values[codes == code][:, :5]
        assert np.array_equal(inside.min(axis=0), np.zeros(5))
        assert np.array_equal(inside.max(axis=0), np.ones(5))
    assert set(scaled.values[:, 5:].ravel()) == {0.0, 1.0}
    with pytest.raises(DataError, match="'models'"):
        feature_matrix(table, "local", scale_within=("models",))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.floats(-1e6, 1e6, allow_nan=False)), min_size=1)
)
def test_scaled_columns_stay_in_the_unit_range_in_any_order(rows: list[tuple[str, float]]) -> None:
    table = pd.DataFrame(rows, columns=["group", "value"])
    values = table[["value"]].to_numpy()
    scaled = scaled_within(values, table, ["group"])
    assert scaled.min() >= 0 and scaled.max() <= 1
    backwards = scaled_within(values[::-1], table.iloc[::-1], ["group"])
    assert np.array_equal(backwards[::-1], scaled)
