from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from figure_fixtures import assert_no_overlap, caption

from espalier.errors import ConfigurationError, DataError
from espalier.figures.needs import PREDICTION
from espalier.figures.prediction import (
    _DRAWINGS,
    draw_prediction,
    honest_splits,
    interval_calibration,
    observed_vs_predicted,
    regression_by_setting,
)
from espalier.figures.prediction_features import (
    FAMILIES,
    LAYER_MEASURES,
    density_correlation,
    feature_importance,
    layer_measures,
    pearson_weights,
)
from espalier.figures.prediction_parts import setting_words
from espalier.figures.prediction_ranking import overlap_by_strategy, pruner_look, ranks_by_sparsity
from espalier.figures.style import PAPER, save
from espalier.topology.topometrics import TOPOMETRICS

SETTINGS = ("0.6", "0.9", "conv6", "wide_resnet28_2")
PRUNERS = ("er", "erk", "uniform", "snip")


def regression():
    rows = [
        (encoding, setting, 250 + k, 20, 0.2 + 0.1 * k + j / 9, 0.02, 0.1 - 0.01 * k, 0.5, 0.08)
        for j, encoding in enumerate(("rolled", "unrolled"))
        for k, setting in enumerate(SETTINGS)
    ]
    names = ["encoding", "setting", "n", "runs", "adjusted_r2", "adjusted_r2_sd", "mae"]
    table = pd.DataFrame(rows, columns=[*names, "published_adjusted_r2", "published_mae"])
    table["features"] = np.where(table["encoding"] == "rolled", "layerwise", "topometrics")
    table = table.assign(protocol="published", regressor="eight linear")
    others = [{"protocol": "grouped"}, {"regressor": "extra_trees"}, {"features": "dataset"}]
    return pd.concat([table, *[table.assign(**other) for other in others]], ignore_index=True)


def pearson():
    rng = np.random.default_rng(0)
    rows = [(name, s, rng.uniform(-1, 1)) for name in reversed(TOPOMETRICS) for s in SETTINGS]
    table = pd.DataFrame(rows, columns=["feature", "setting", "importance"])
    return table.assign(kind="pearson", task="drop")


def importance():
    table = pearson().query("feature in ('motif', 'sink_nodes', 'k-core')")
    drop = table.assign(kind="permutation", sd=0.1, score=0.5, folds=5)
    drop = drop.assign(learner="extra_trees", protocol="grouped")
    return pd.concat([drop, drop.assign(task="category", score=0.9)], ignore_index=True)


def layers():
    rng = np.random.default_rng(1)
    rows = [
        (model, "cifar10", sparsity, pruner, seed, layer)
        for model, sparsity in (("conv6", 0.9), ("resnet32", 0.8))
        for pruner in PRUNERS
        for seed in range(2)
        for layer in range(5)
    ]
    table = pd.DataFrame(
        rows, columns=["model", "dataset", "sparsity", "pruning", "seed", "layer_id"]
    )
    table["layer_sparsity"] = rng.random(len(table))
    table["degree_bound"] = 2 * table["layer_sparsity"] - 0.3
    table["iterative_degree_bound"] = -table["layer_sparsity"]
    table["iterative_spectral_gap"] = rng.random(len(table))
    table.loc[table["pruning"] == "er", "iterative_spectral_gap"] = np.nan
    table.loc[0, "degree_bound"] = -np.inf
    return table


def predictions():
    rng = np.random.default_rng(2)
    parts = []
    for protocol in ("grouped", "leave-dataset-out"):
        for predictor in ("topometrics", "no graph"):
            observed = rng.random(40)
            predicted = observed + rng.normal(0, 0.05, 40)
            parts.append(
                pd.DataFrame({"observed": observed, "predicted": predicted}).assign(
                    protocol=protocol, predictor=predictor, model=["conv6", "resnet20"] * 20
                )
            )
    return pd.concat(parts, ignore_index=True)


def honest():
    rows = []
    for protocol, gain in (("grouped", 0.1), ("leave-dataset-out", 0.01)):
        for measure in ("r2", "mae", "mean_r2"):
            for name, family in (
                ("cell mean + topometrics", "topometrics"),
                ("no graph", "no graph"),
            ):
                value = 0.5 + gain * (family == "topometrics")
                rows.append(
                    (protocol, name, family, None, measure, value, value - 0.1, value + 0.1)
                )
            low, high = gain - 0.05, gain + 0.05
            name = "cell mean + topometrics"
            rows.append((protocol, name, "topometrics", "no graph", measure, gain, low, high))
    names = ["protocol", "predictor", "family", "minus", "measure", "value", "low", "high"]
    return pd.DataFrame(rows, columns=names).assign(groups=12, blocks="model x dataset")


def calibration():
    rows = [
        (name, nominal, 100, min(1.0, nominal + shift), nominal / 2)
        for name, shift in (("conv6, cifar10", 0.08), ("resnet20, cifar100", -0.2))
        for nominal in (0.5, 0.8, 0.9)
    ]
    return pd.DataFrame(
        rows, columns=["left_out", "nominal", "networks", "covered", "length"]
    ).assign(networks=[100] * 3 + [300] * 3)


def ranks():
    rows = []
    for strategy in ("mean rank", "topometric mixture"):
        for model in ("conv6", "resnet20"):
            for dataset in ("cifar10", "cifar100"):
                for sparsity in (0.6, 0.9):
                    for k, pruner in enumerate(PRUNERS):
                        own = k + 1 if strategy == "mean rank" else 4 - k
                        place = (strategy, model, dataset, sparsity, pruner)
                        rows.append((*place, (k + (dataset == "cifar10")) % 4 + 1, own))
    names = ["strategy", "model", "dataset", "sparsity", "pruning", "observed_rank"]
    return pd.DataFrame(rows, columns=[*names, "predicted_rank"])


def ranking():
    rows = [
        ("random", None, 0.323, 0.323, 0.323, False),
        ("mean rank", None, 0.6, 0.5, 0.7, False),
        ("topometric mixture", None, 0.5, 0.4, 0.6, True),
        ("delta_r", None, 0.4, 0.3, 0.5, False),
        ("topometric mixture", "mean rank", -0.1, -0.2, 0.02, True),
        ("random", "mean rank", -0.277, -0.3, -0.2, False),
    ]
    names = ["strategy", "minus", "mean", "low", "high", "graph"]
    return pd.DataFrame(rows, columns=names).assign(blocks=12)


CASES = [
    (regression_by_setting, regression, "adjusted_r2"),
    (pearson_weights, pearson, "importance"),
    (feature_importance, importance, "sd"),
    (layer_measures, layers, "degree_bound"),
    (density_correlation, layers, "layer_sparsity"),
    (observed_vs_predicted, predictions, "predicted"),
    (honest_splits, honest, "groups"),
    (interval_calibration, calibration, "covered"),
    (ranks_by_sparsity, ranks, "predicted_rank"),
    (overlap_by_strategy, ranking, "blocks"),
]
REPEATING = [case for case in CASES if case[1] not in (layers, predictions)]


def test_the_workflow_draws_every_figure_by_its_name():
    assert sorted(_DRAWINGS) == sorted(PREDICTION)
    assert {len(tables) for tables in PREDICTION.values()} == {1}
    figure = draw_prediction("importance_of_category", importance())
    assert figure.axes[0].get_title(loc="left").endswith("(0.90)")


def test_a_table_of_problems_gives_a_figure_of_words():
    table = calibration().iloc[:1].assign(problem="2 pairs allow a level of 0.5")
    figure = draw_prediction("interval_calibration", table)
    assert not figure.axes
    assert "no numbers: 2 pairs allow a level of 0.5" in caption(figure)
    with pytest.raises(DataError, match="lacks the column 'covered'"):
        draw_prediction("interval_calibration", calibration().drop(columns="covered"))
    with pytest.raises(ConfigurationError, match="unknown figure of a prediction 'calibration'"):
        draw_prediction("calibration", calibration())


def marked(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


@pytest.mark.parametrize(("draw", "table", "_"), CASES)
def test_nothing_is_cut_off_and_tick_labels_do_not_overlap(draw, table, _):
    figure = draw(table())
    for axes in figure.axes:
        assert_no_overlap(figure, [t for t in axes.get_xticklabels() if t.get_visible()])
        assert_no_overlap(figure, [t for t in axes.get_yticklabels() if t.get_visible()])
    width, height = figure.get_size_inches() * figure.dpi
    box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


@pytest.mark.parametrize("draw, table", [(observed_vs_predicted, predictions)])
def test_bytes_are_equal_on_repeat(tmp_path, draw, table):
    for name in "ab":
        save(draw(table()), tmp_path / f"{name}.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(("draw", "table", "column"), CASES)
def test_a_bad_table_is_named(draw, table, column):
    with pytest.raises(DataError, match=f"lacks the column '{column}'"):
        draw(table().drop(columns=column))
    with pytest.raises(DataError, match="table has no rows"):
        draw(table().iloc[:0])


@pytest.mark.parametrize(("draw", "table", "_"), REPEATING)
def test_rows_that_repeat_are_refused(draw, table, _):
    with pytest.raises(DataError, match="rows that it has already"):
        draw(pd.concat([table(), table().iloc[:2]]))


@pytest.mark.parametrize(
    ("draw", "table"), [(case[0], case[1]) for case in CASES if case[1] is not layers]
)
def test_rows_with_a_problem_are_left_out_and_said_when_nothing_is_left(draw, table):
    failed = table().iloc[:1].assign(problem="12 rows for 16 features")
    failed[failed.select_dtypes("number").columns] = np.nan
    known = table().assign(problem="")
    assert draw(pd.concat([known, failed.astype(object)])).axes
    with pytest.raises(DataError, match="has no numbers: 12 rows for 16"):
        draw(failed)


def test_regression_marks_published_values_where_there_are_any():
    figure = regression_by_setting(regression())
    assert "published" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert marked(figure.axes[0], "published")[0].get_ydata() == pytest.approx([0.5, 0.5])
    bare = regression_by_setting(regression().drop(columns=["published_mae"]))
    assert not any(marked(axes, "published") for axes in bare.axes[2:])
    assert "n = 250 to 253 networks per setting" in caption(figure)
    assert "n = 20 runs" in caption(figure)


def test_sparsities_stand_left_of_architectures():
    figure = regression_by_setting(regression().iloc[::-1])
    titles = [axes.get_title(loc="left") for axes in figure.axes[:2]]
    assert titles == ["one sparsity", "one architecture"]
    assert [setting_words(name) for name in SETTINGS] == ["60 %", "90 %", "Conv-6", "WRN-28-2"]


def test_every_topometric_is_in_one_family():
    assert sorted(name for names in FAMILIES.values() for name in names) == sorted(TOPOMETRICS)


def test_cells_hold_their_number_in_the_order_of_the_families():
    table = pearson()
    figure = pearson_weights(table)
    texts = [text.get_text() for text in figure.axes[0].texts]
    first = table[(table.feature == "sink_nodes") & (table.setting == "0.6")].importance.iloc[0]
    assert texts[0] == f"{first:.2f}" and len(texts) == 2 * len(TOPOMETRICS)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0] == "sink nodes" and labels[5] == "1-hop neighbours *"
    assert "hold no topology" in caption(figure)
    with pytest.raises(DataError, match="outside"):
        pearson_weights(table.assign(importance=2.0))


def test_a_cell_without_a_value_has_a_dash():
    table = pearson()
    table.loc[(table.feature == "motif"), "importance"] = np.nan
    texts = [text.get_text() for text in pearson_weights(table).axes[0].texts]
    assert texts.count("–") == 2


def test_importance_has_a_panel_per_setting_with_its_score():
    figure = feature_importance(importance())
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert titles == [f"{setting_words(name)}  (0.50)" for name in SETTINGS]
    assert "n = 5 folds" in caption(figure) and "split: grouped" in caption(figure)
    with pytest.raises(DataError, match="no row with task 'pruner'"):
        feature_importance(importance(), task="pruner")


def test_shares_of_layers_sum_to_one_and_skip_what_is_not_finite():
    figure = layer_measures(layers(), pruners=PRUNERS)
    table = layers()
    own = table[(table.model == "conv6") & (table.pruning == "snip")]
    means = own.groupby("layer_id")["layer_sparsity"].mean()
    line = figure.axes[3].lines[0]
    assert line.get_ydata() == pytest.approx((means / means.sum()).to_numpy())
    # er has no spectral gap, and one infinite bound in one of its two seeds.
    assert len(figure.axes[0].lines) == len(LAYER_MEASURES)  # three measures and the zero line
    assert np.isfinite(figure.axes[0].lines[1].get_ydata()).all()
    with pytest.raises(DataError, match=r"no row with sparsity 0\.5"):
        layer_measures(layers(), [("conv6", "cifar10", 0.5)])


def test_correlations_with_density_are_those_of_the_networks():
    figure = density_correlation(layers(), pruners=PRUNERS)
    bound, iterative, gap = figure.axes
    cells = [
        text.get_text() for text in bound.texts if text.get_text() not in ("Conv-6", "ResNet-32")
    ]
    assert set(cells) == {"1.00", "–"}
    assert "-1.00" in [text.get_text() for text in iterative.texts]
    assert [text.get_text() for text in gap.texts][:4] == ["–"] * 4


def test_observed_and_predicted_say_n_r2_and_error():
    table = predictions()
    figure = observed_vs_predicted(table)
    words = [t.get_text() for axes in figure.axes for t in axes.texts if t.get_gid() == "fit"]
    own = table[(table.protocol == "grouped") & (table.predictor == "topometrics")]
    error = (own.observed - own.predicted).abs().mean()
    r2 = (
        1
        - ((own.observed - own.predicted) ** 2).sum()
        / ((own.observed - own.observed.mean()) ** 2).sum()
    )
    assert words[0] == f"n = 40\nR² = {r2:.2f}\nMAE = {error:.3f}"
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:2] == ["grouped", "leave out data set"]
    with pytest.raises(DataError, match="missing or infinite"):
        observed_vs_predicted(table.assign(predicted=np.nan))


def test_a_difference_that_may_be_zero_has_an_open_mark():
    figure = honest_splits(honest())
    marks = [line for line in figure.axes[2].lines if line.get_marker() == "o"]
    assert [mark.get_xdata()[0] for mark in marks] == pytest.approx([0.1, 0.01])
    assert [mark.get_markerfacecolor() == PAPER for mark in marks] == [False, True]
    labels = figure.axes[0].get_yticklabels()
    rows = sorted((label.get_position()[1], label.get_text()) for label in labels)
    names = ["cell mean + topometrics", "no graph"]
    assert [text for _, text in rows] == ["grouped", *names, "leave out data set", *names]
    assert "n = 12 pairs of architecture and data set (grouped, leave out data set)." in caption(
        figure
    )
    with pytest.raises(DataError, match="differences from the reference 'no graph'"):
        honest_splits(honest().query("minus.isna()"))


def test_what_lies_beyond_the_edge_is_cut_off_at_an_arrow_head():
    table = honest()
    first = (table["measure"] == "r2") & (table["minus"].isna())
    table.loc[first & (table["family"] == "no graph"), ["value", "low"]] = [-2.34, -5.0]
    axes = honest_splits(table).axes[0]
    assert [text.get_text() for text in axes.texts] == ["-2.3", "-2.3"]
    assert sum(line.get_marker() == "<" for line in axes.lines) == 2
    assert axes.get_xlim()[0] > -1.3


def test_calibration_weighs_levels_by_their_networks():
    figure = interval_calibration(calibration())
    line = marked(figure.axes[0], "pooled")[0]
    expected = [100 * (0.25 * min(1, x + 0.08) + 0.75 * (x - 0.2)) for x in (0.5, 0.8, 0.9)]
    assert line.get_ydata() == pytest.approx(expected)
    assert "400 networks" in caption(figure)
    with pytest.raises(DataError, match="outside 0 to 1"):
        interval_calibration(calibration().assign(covered=96.0))


def test_ranks_are_means_over_data_sets_with_the_observed_first():
    figure = ranks_by_sparsity(ranks())
    first, last = figure.axes[0], figure.axes[-1]
    assert first.lines[0].get_ydata() == pytest.approx([1.5, 1.5])
    assert last.lines[0].get_ydata() == pytest.approx([4, 4])
    assert first.get_ylim() == (4.5, 0.5)
    assert "n = 2 data sets" in caption(figure)


def test_strategies_can_be_chosen():
    figure = ranks_by_sparsity(ranks(), ["topometric mixture"])
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == [
        "observed\nrank (1 is best)",
        "topometric mixture\nrank (1 is best)",
    ]
    with pytest.raises(DataError, match="no row with strategy 'mean'"):
        ranks_by_sparsity(ranks(), ["mean"])


def test_pruners_look_unlike_each_other():
    looks = [tuple(pruner_look(index).items()) for index in range(49)]
    assert len(set(looks)) == 49


def test_strategies_are_ordered_and_chance_is_a_line():
    figure = overlap_by_strategy(ranking(), reference="mean rank")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["mean rank", "topometric mixture", "Δr"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[:3] == [
        "looks at the whole graph",
        "looks at single layers",
        "looks at no graph",
    ]
    assert marked(figure.axes[0], "random")[0].get_xdata()[0] == pytest.approx(0.323)
    (interval,) = marked(figure.axes[1], "interval")
    assert interval.get_xdata() == pytest.approx([-0.2, 0.02])
    with pytest.raises(DataError, match="no strategy but"):
        overlap_by_strategy(ranking().iloc[:1])
