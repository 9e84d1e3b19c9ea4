from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prediction_pools import synthetic_pool

from espalier.errors import ConfigurationError, DataError
from espalier.files import read_table, write_table
from espalier.prediction import honest, names
from espalier.prediction.classification import CLASSIFIERS, TARGETS
from espalier.prediction.comparison import comparison_rows, comparison_summary
from espalier.prediction.features import FEATURES
from espalier.prediction.folder import find_published, folder_of, published_files
from espalier.prediction.honest import (
    calibration_rows,
    honest_rows,
    leave_one_out_rows,
    protocol_predictions,
)
from espalier.prediction.printed import PRINTED, known_causes, printed_table
from espalier.prediction.published import ENCODINGS
from espalier.prediction.ranking import overlaps
from espalier.prediction.regression import (
    CELL_MEAN,
    REGRESSORS,
    Candidate,
    r2_score,
    regress,
    settings_of,
)
from espalier.prediction.splits import PROTOCOLS
from espalier.prediction.stages import networks_of
from espalier.prediction.strategies import rank_rows, ranking_rows, strategy_scores
from espalier.prediction.tables import (
    LEAK,
    ablation_rows,
    class_importance_rows,
    classification_rows,
    drop_importance_rows,
    family_of,
    is_of_topology,
    regression_means,
    regression_rows,
    trimmed_settings,
    with_layer_density,
)


def pool(**options: object) -> pd.DataFrame:
    table = synthetic_pool(**options)  # type: ignore[arg-type]
    layers = pd.concat(
        [table.assign(layer_id=k, layer_sparsity=(1 - table["sparsity"]) * (k + 1)) for k in (0, 1)]
    )
    return with_layer_density(table.assign(accuracy=0.9 * (1 - table["drop"])), layers)


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    table = pool(pruners=("er", "snip", "grasp"), datasets=("x", "y", "z"), seeds=2)
    quick = {
        "topometrics": (Candidate("ridge", "local"), Candidate("ridge", "topometrics")),
        "layer density": (Candidate("ridge", "layer-density"),),
        "no graph": (CELL_MEAN, Candidate("ridge", "sparsity+dataset")),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(honest, "FAMILIES", quick)
        parts = [protocol_predictions(table, p, folds=3) for p in ("grouped", "leave-dataset-out")]
    return pd.concat(parts, ignore_index=True)


def test_names_of_the_configuration_are_those_of_the_library() -> None:
    assert set(names.REGRESSORS) == set(REGRESSORS)
    assert set(names.CLASSIFIERS) == set(CLASSIFIERS)
    assert set(names.PROTOCOLS) == set(PROTOCOLS)
    assert set(names.FEATURES) == set(FEATURES)
    assert set(names.ENCODINGS) == set(ENCODINGS)
    assert set(names.TARGETS) == set(TARGETS)
    with pytest.raises(ConfigurationError, match="Did you mean 'topometrics'"):
        names.check_features("topometric+dataset")
    with pytest.raises(ConfigurationError, match="twice"):
        names.check_features("dataset+dataset")


def test_what_a_feature_set_looks_at() -> None:
    assert family_of("topometrics") == family_of("local+regional") == "topometrics"
    assert family_of("topometrics+dataset") == "topometrics and names"
    assert family_of("layer-density+dataset") == "layer density and names"
    assert family_of("sparsity+dataset") == "no graph"
    assert is_of_topology("local+pruner")
    assert not is_of_topology("layer-density") and not is_of_topology("pruner")


def test_the_density_of_a_network_is_the_mean_of_its_layers() -> None:
    table = pool()
    assert np.allclose(table["layer_density"], 1.5 * (1 - table["sparsity"]))
    lone = with_layer_density(table, table.iloc[:2].assign(layer_sparsity=0.25))
    assert list(lone["layer_density"].notna().to_numpy().nonzero()[0]) == [0, 1]


def test_regression_rows_are_means_over_runs_and_regressors() -> None:
    table = pool()
    rows = regression_rows(
        table, {"local": 2, "pruner": 1, "sparsity-level": 1}, ["linear", "ridge"],
        protocol="published",
    )  # fmt: skip
    assert set(rows["setting"]) == {"0.6", "0.9", "a", "b"}
    mean = rows[(rows["setting"] == "a") & (rows["features"] == "local")].set_index("regressor")
    expected = regress(table, "local", ["linear", "ridge"], settings=settings_of(table), runs=2)
    own = expected.scores[expected.scores["setting"] == "a"]
    assert mean.loc["mean of 2", "adjusted_r2"] == pytest.approx(own["adjusted_r2"].mean())
    ridge = own[own["regressor"] == "ridge"]
    assert mean.loc["ridge", "mae"] == pytest.approx(ridge["mae"].mean())
    assert mean.loc["mean of 2", "runs"] == 2
    assert (rows["leak"] == LEAK).all()
    constant = rows[(rows["features"] == "sparsity-level") & (rows["setting"] == "0.6")]
    assert "have the same sparsity-level" in constant["problem"].item()
    assert constant["adjusted_r2"].isna().all() and constant["regressors"].item() == 2
    means = regression_means(rows[rows["regressors"] == 2]).set_index("features")
    assert means.loc["local", "settings"] == 4 and means.loc["sparsity-level", "settings"] == 2
    shown = rows[(rows["regressors"] == 2) & (rows["features"] == "local")]
    assert means.loc["local", "adjusted_r2"] == pytest.approx(shown["adjusted_r2"].mean())


def test_networks_that_table_3_seems_to_leave_out() -> None:
    drops = np.concatenate([np.linspace(0, 0.1, 50), [-0.01, 2.0]])
    table = pd.DataFrame({"drop": drops})
    kept = trimmed_settings(table, {"a": np.arange(52), "b": np.array([1, 50]), "c": np.arange(5)})
    assert list(kept["a"]) == list(range(50))
    assert list(kept["b"]) == [1] and list(kept["c"]) == [0, 1, 2, 3, 4]


def test_a_pool_that_is_too_small_says_so() -> None:
    table = pool(pruners=("er",), models=("a",), datasets=("x",), sparsities=(0.6,), seeds=3)
    rows = regression_rows(table, {"topometrics": 1}, ["linear"], protocol="published")
    assert rows["adjusted_r2"].isna().all() and (rows["problem"] != "").all()
    found = protocol_predictions(table, "leave-dataset-out")
    assert found["predicted"].isna().all() and (found["problem"] != "").all()
    assert (honest_rows(found)["problem"] != "").all()
    assert (leave_one_out_rows(found, table)["problem"] != "").all()
    assert (calibration_rows(table, [0.5])["problem"] != "").all()
    assert (classification_rows(table, "pruner", ["local"])["problem"] != "").all()


def test_each_setting_of_the_ablation_has_the_other_name_alone() -> None:
    pytest.importorskip("xgboost")
    rows = ablation_rows(pool(), {"architecture": 1, "sparsity-level": 1, "local": 1}, ["linear"])
    assert set(rows["dataset"]) == {"x", "y", "z"}
    alone = rows[rows["set"] == "ablation"].groupby("setting")["features"].unique()
    assert {name: list(v) for name, v in alone.items()} == {
        "0.6": ["architecture"],
        "0.9": ["architecture"],
        "a": ["sparsity-level"],
        "b": ["sparsity-level"],
    }
    assert set(rows.loc[rows["features"] == "local", "set"]) == {"local"}


def test_every_network_is_predicted_once_per_predictor(predictions: pd.DataFrame) -> None:
    counts = predictions.groupby(["protocol", "predictor"]).size()
    assert (counts == 3 * 2 * 3 * 2 * 2).all() and len(counts) == 2 * 7
    assert predictions["predicted"].notna().all() and (predictions["problem"] == "").all()
    chosen = predictions[predictions["predictor"] == "topometrics"]
    assert (chosen["candidate"] != "").all() and chosen["inner_mae"].notna().all()
    assert (predictions.groupby("predictor")["graph"].nunique() == 1).all()
    assert set(predictions.loc[predictions["graph"].astype(bool), "predictor"]) == {
        "topometrics",
        "linear on topometrics",
        "cell mean + topometrics",
    }


def test_intervals_hold_scores_and_differences(predictions: pd.DataFrame) -> None:
    rows = honest_rows(predictions, draws=200)
    assert set(rows["blocks"]) == {"configuration", "model x dataset"}
    part = predictions[
        (predictions["protocol"] == "grouped") & (predictions["predictor"] == "no graph")
    ]
    grouped = rows[(rows["protocol"] == "grouped") & (rows["measure"] == "r2")]
    alone = grouped[grouped["minus"] == ""].set_index("predictor")
    expected = r2_score(part["observed"].to_numpy(), part["predicted"].to_numpy())
    assert alone.loc["no graph", "value"] == pytest.approx(expected)
    assert (alone["low"] <= alone["value"]).all() and (alone["value"] <= alone["high"]).all()
    gain = grouped[grouped["minus"] == "no graph"].set_index("predictor")
    assert "no graph" not in gain.index
    assert gain.loc["topometrics", "value"] == pytest.approx(
        alone.loc["topometrics", "value"] - alone.loc["no graph", "value"]
    )
    assert not rows.duplicated(["protocol", "predictor", "minus", "measure"]).any()


def test_levels_that_were_left_out(predictions: pd.DataFrame) -> None:
    table = pool(pruners=("er", "snip", "grasp"), seeds=2)
    rows = leave_one_out_rows(predictions, table)
    assert set(rows["protocol"]) == {"leave-dataset-out"}
    assert set(rows["left_out"]) == {"all", "x", "y", "z"}
    one = rows[(rows["left_out"] == "y") & (rows["predictor"] == "cell mean")].iloc[0]
    part = predictions[
        (predictions["protocol"] == "leave-dataset-out")
        & (predictions["predictor"] == "cell mean")
        & (predictions["dataset"] == "y")
    ]
    assert one["mae"] == pytest.approx((part["observed"] - part["predicted"]).abs().mean())
    # The mean of a cell orders nothing: all pruners are tied.
    assert one["rbo"] == pytest.approx(one["rbo_random"])
    assert rows["within_r2"].max() <= 1


def test_levels_of_intervals_that_pairs_allow() -> None:
    rows = calibration_rows(pool(seeds=1), [0.5, 0.99])
    assert "allow a level of" in rows[rows["nominal"] == 0.99]["problem"].item()
    half = rows[rows["nominal"] == 0.5]
    assert len(half) == 6 and half["covered"].between(0, 1).all()


def test_classification_leaves_levels_out_too() -> None:
    rows = classification_rows(
        pool(), "category", ["local", "sparsity"], classifier="logistic", runs=2
    )
    assert set(rows["protocol"]) == {
        "stratified",
        "leave-architecture-out",
        "leave-dataset-out",
        "leave-pruner-out",
        "leave-sparsity-out",
    }
    assert set(rows.loc[rows["protocol"] != "stratified", "setting"]) == {"General"}
    local = rows[(rows["features"] == "local") & (rows["setting"] == "General")]
    assert local.set_index("protocol").loc["stratified", "balanced_accuracy"] > 0.9
    assert "leave-pruner-out" not in set(
        classification_rows(pool(), "pruner", ["local"], classifier="logistic", runs=1)["protocol"]
    )


def test_importance_of_every_kind() -> None:
    pytest.importorskip("xgboost")
    pytest.importorskip("shap")
    table = pool(models=("a",), sparsities=(0.6,), seeds=2)
    rows = drop_importance_rows(table, folds=3, shuffles=2)
    assert set(rows["kind"]) == {"pearson", "permutation", "shap"}
    assert (rows["problem"] == "").all() and rows["importance"].notna().all()
    assert (rows.groupby(["kind", "setting"]).size() == 16).all()
    classes = class_importance_rows(table, ["category"], classifier="logistic", shuffles=2, folds=3)
    assert set(classes["task"]) == {"category"} and classes["importance"].notna().all()


def test_strategies_are_ranked_with_intervals(predictions: pd.DataFrame) -> None:
    table = pool(pruners=("er", "snip", "grasp"), seeds=2)
    scores, problems = strategy_scores(table, None, predictions)
    assert not problems
    found = overlaps(table, scores)
    rows = ranking_rows(found, {"another": "no reason"}, draws=200)
    alone = rows[(rows["minus"] == "") & (rows["problem"] == "")].set_index("strategy")
    assert alone.loc["random", "mean"] == pytest.approx(found["rbo_random"].mean())
    assert rows[rows["strategy"] == "another"]["problem"].item() == "no reason"
    name = "predicted drop (topometrics), dataset held out"
    assert alone.loc[name, "graph"] and not alone.loc["layer_density", "graph"]
    ranks = rank_rows(table, scores)
    tied = ranks[ranks["strategy"] == "random"]
    assert (tied["predicted_rank"] == 2).all()
    assert (
        ranks.groupby(["strategy", "model", "dataset", "sparsity"])["observed_rank"].sum() == 6
    ).all()
    lone, problems = strategy_scores(table[table["dataset"] == "x"])
    assert set(problems) and "random" in set(lone["strategy"])


def test_printed_cells_are_complete() -> None:
    table_3 = printed_table("tmlr_table_3")
    assert len(table_3) == 27 and table_3["adjusted_r2"].between(0, 1).all()
    orders = printed_table("tmlr_tables_4_11_12")
    assert (orders["sparsity"] != "Avg").sum() == 300
    assert len(printed_table("arxiv_table_5")) == 60
    assert len(printed_table("arxiv_tables_6_12")) == 135
    with pytest.raises(ConfigurationError, match="unknown printed table"):
        printed_table("tmlr_table_5")
    assert set(known_causes()["measure"]) <= {
        "adjusted_r2",
        "mae",
        "mean",
        "r2",
        "balanced_accuracy",
    }
    assert len(PRINTED) == 4


def test_printed_cells_beside_ours() -> None:
    table_3 = printed_table("tmlr_table_3").assign(
        published_adjusted_r2=lambda t: t["adjusted_r2"], published_mae=lambda t: t["mae"],
        protocol="published", regressor="eight linear", rows="all",
        features=lambda t: np.where(t["encoding"] == "unrolled", "topometrics", "layerwise"),
    )  # fmt: skip
    table_3.loc[0, "adjusted_r2"] += 0.024
    table_3.loc[1, "adjusted_r2"] += 0.03
    ablation = printed_table("arxiv_tables_6_12").assign(
        published_r2=lambda t: t["r2"],
        features=lambda t: t["set"],
        regressor=lambda t: np.where(t["set"] == "ablation", "linear", "xgboost"),
    )
    classes = printed_table("arxiv_table_5").assign(
        published_balanced_accuracy=lambda t: t["balanced_accuracy"], features=lambda t: t["set"]
    )
    ranking = printed_table("tmlr_tables_4_11_12")
    found = comparison_rows(table_3, ablation, classes, ranking)
    assert len(found) == 27 + 27 + 360 + 60 + 135
    off = found[~found["agrees"]]
    assert list(off["cell"]) == ["unrolled, 0.6", "unrolled, 0.8"]
    assert list(off["agrees_rounded"]) == [True, False]
    assert (off["cause"] != "").all() and (found.loc[found["agrees"], "cause"] == "").all()
    summary = comparison_summary(found).set_index(["table", "measure"])
    assert summary.loc[("TMLR 3", "adjusted_r2"), "agree"].item() == 25
    assert summary.loc[("TMLR 4", "mean"), "cells"].item() == 100
    assert summary.loc[("TMLR 4, averages", "mean"), "cells"].item() == 20


def test_the_published_folder_is_found_in_a_mirror(tmp_path: Path) -> None:
    for part in ("graph_metrics/unrolled", "ramanunjan_results"):
        (tmp_path / "mirror" / "pool" / part).mkdir(parents=True)
    (tmp_path / "mirror/pool/graph_metrics/unrolled/a.csv.gz").write_bytes(b"")
    assert find_published("pool", ["http://x", tmp_path / "mirror"]) == tmp_path / "mirror/pool"
    found, complaint = published_files("pool", [str(tmp_path / "mirror")])
    assert [Path(path).name for path in found] == ["a.csv.gz"] and not complaint
    assert folder_of(found) == tmp_path / "mirror/pool"
    none, complaint = published_files("elsewhere", [str(tmp_path / "mirror")])
    assert none == [] and "prediction.published" in complaint and "mge-snn" in complaint


def test_networks_without_a_drop_are_refused(tmp_path: Path) -> None:
    table = pool().drop(columns="layer_density")
    write_table(tmp_path / "a.csv", table.assign(motif=[np.nan] + [1.0] * (len(table) - 1)), {})
    assert len(networks_of(tmp_path / "a.csv")) == len(table) - 1
    write_table(tmp_path / "b.csv", table.assign(drop=np.nan), {})
    with pytest.raises(DataError, match="no accuracy drop"):
        networks_of(tmp_path / "b.csv")
    assert networks_of(tmp_path / "a.csv", design="tmlr").empty
    assert read_table(tmp_path / "a.csv").shape == table.shape
