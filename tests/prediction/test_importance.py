from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prediction_pools import GOLDENS, published_folder, synthetic_pool

from espalier.errors import ConfigurationError, DataError, MissingDependencyError
from espalier.prediction.features import feature_matrix
from espalier.prediction.importance import (
    classification_importance,
    pearson_importance,
    regression_importance,
    shap_importance,
    shap_values,
)
from espalier.prediction.published import TMLR_MODELS, TMLR_PRUNERS, read_published
from espalier.prediction.regression import build_regressor, settings_of


def test_pearson_with_the_target_is_the_correlation() -> None:
    table = synthetic_pool().assign(motif=3.0)
    found = pearson_importance(table, "topometrics", ())["all"]
    expected = np.corrcoef(table["spectral_radius"], table["drop"])[0, 1]
    assert found["spectral_radius"] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(found["motif"])
    fitted = pearson_importance(table, "topometrics")["all"]
    assert abs(fitted["spectral_radius"]) > abs(found["spectral_radius"])


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("tmlr_fig3_fig4_pearson_vs_regressor_output.csv", {}),
        ("tmlr_fig3_fig4_pearson_vs_drop.csv", {"regressors": ()}),
    ],
)
def test_figures_3_and_4(root: Path, file: str, options: dict[str, object]) -> None:
    table = read_published(published_folder(root), models=TMLR_MODELS, pruners=TMLR_PRUNERS).table
    golden = pd.read_csv(GOLDENS / file, index_col=0)
    found = pearson_importance(table, settings=settings_of(table), **options)
    assert list(found.columns) == list(golden.columns)
    assert np.allclose(found.loc[golden.index], golden, rtol=0, atol=1e-9)


def test_permutation_finds_the_feature_that_matters() -> None:
    table = synthetic_pool(noise=0.001)
    features = "topometrics+dataset+architecture+sparsity"
    found = regression_importance(table, features, "ridge", repeats=3)
    ranked = found.sort_values("importance", ascending=False)["feature"].tolist()
    assert ranked[0] == "spectral_radius"
    assert set(ranked[:4]) == {"spectral_radius", "model", "dataset", "sparsity"}
    assert found["score"].iloc[0] > 0.9 and found["folds"].iloc[0] == 5
    again = regression_importance(table, features, "ridge", repeats=3)
    pd.testing.assert_frame_equal(found, again, check_exact=True)
    flat = regression_importance(table.assign(motif=1.0), "regional", "ridge", repeats=2)
    assert flat.set_index("feature").loc["motif", "importance"] == 0


def test_permutation_of_a_classifier() -> None:
    table = synthetic_pool()
    found = classification_importance(
        table,
        "pruner",
        "local",
        "extra_trees",
        protocol="grouped",
        repeats=2,
        settings=settings_of(table, ("model",)),
    )
    assert list(found["setting"].unique()) == ["a", "b"]
    best = found.sort_values("importance", ascending=False).groupby("setting").first()
    assert set(best["feature"]) == {"sink_nodes"}
    assert (best["importance"] > 0.2).all()


def test_bad_input_to_importance() -> None:
    table = synthetic_pool()
    with pytest.raises(DataError, match="0 shuffles"):
        regression_importance(table, repeats=0)
    with pytest.raises(DataError, match="no fold has a score"):
        regression_importance(table.assign(drop=1.0), regressor="ridge")
    with pytest.raises(ConfigurationError, match="unknown regressor"):
        pearson_importance(table, regressors=["rigid"])
    with pytest.raises(DataError, match="'drop'"):
        pearson_importance(table.drop(columns="drop"))


def test_shap_is_named_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(MissingDependencyError, match="pip install shap"):
        shap_importance(synthetic_pool(), "local", "ridge")


@pytest.mark.parametrize("regressor", ["extra_trees", "ridge", "xgboost"])
def test_shap_values_add_up_to_the_prediction(regressor: str) -> None:
    pytest.importorskip("shap", reason="shap is not installed")
    if regressor == "xgboost":
        pytest.importorskip("xgboost", reason="xgboost is not installed")
    table = synthetic_pool()
    x = feature_matrix(table, "local").values
    estimator = build_regressor(regressor).fit(x, table["drop"].to_numpy())
    found = shap_values(estimator, x[:20], x[20:60])
    assert np.allclose(found.base + found.values.sum(axis=1), estimator.predict(x[:20]), atol=1e-4)
