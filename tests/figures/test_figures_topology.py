from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from figure_fixtures import assert_no_overlap, caption, legend

from espalier.errors import ConfigurationError, DataError
from espalier.figures.drawing import draw_table
from espalier.figures.needs import TABLES
from espalier.figures.style import FAINT, display_name, save
from espalier.figures.topology import (
    TOPOMETRIC_TITLES,
    accuracy_by_sparsity,
    topometric_trends,
)
from espalier.files import write_table

BEFORE = ["snip", "iterative_snip", "force", "grasp", "synflow", "uniform", "er", "erk"]
DURING = ["set", "rigl", "snfs", "dsr", "gradual_magnitude"]
AFTER = ["magnitude", "layerwise_magnitude"]
SPARSITIES = (0.6, 0.8, 0.95)


def networks_table(pruners, places=(("digits", "conv6"),), seeds=3):
    rng = np.random.default_rng(0)
    rows = []
    for dataset, model in places:
        for seed in range(seeds):
            rows.append((dataset, model, "dense", 0.0, 0, seed, 0.96 + 0.01 * rng.random()))
            for pruner in pruners:
                for sparsity in SPARSITIES:
                    accuracy = 0.95 - 0.3 * sparsity**4 * rng.random()
                    rows.append((dataset, model, pruner, sparsity, 0, seed, accuracy))
    columns = ["dataset", "model", "pruner", "sparsity", "collapsed_layers", "seed"]
    return pd.DataFrame(rows, columns=[*columns, "test_accuracy"])


def topometrics_table(pruners, places=(("digits", "conv6"),), dense=False):
    rng = np.random.default_rng(1)
    table = networks_table(pruners, places).rename(columns={"pruner": "pruning"})
    if not dense:
        table = table[table.pruning != "dense"]
    for name in TOPOMETRIC_TITLES:
        table[name] = rng.random(len(table))
    table["motif"] = 10.0 ** (5 * table["motif"])
    table["sink_nodes"] = (1 + table["sink_nodes"]) / 10
    return table


@pytest.fixture(scope="module")
def few():
    return networks_table(["erk", "rigl", "magnitude"], (("digits", "conv6"), ("digits", "mlp")))


@pytest.fixture(scope="module")
def many():
    return networks_table(AFTER + DURING + BEFORE)


def keys(figure):
    return [text for text in figure.texts if text.get_gid() == "pruner"]


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]


def bars(container):
    """Return the points (x, y) of an errorbar and the lower and upper ends of its bars."""
    line, _, (collection,) = container
    ends = np.array([segment[:, 1] for segment in collection.get_segments()])
    return np.asarray(line.get_xydata()), ends


def test_bytes_are_equal_on_repeat(tmp_path, few):
    trends = topometrics_table(["erk"])
    for name in "ab":
        for kind, figure in (
            ("accuracy", accuracy_by_sparsity(few[few.model == "mlp"])),
            ("trends", topometric_trends(trends, ["motif"])),
        ):
            save(figure, tmp_path / f"{kind}_{name}.svg")
    for first in tmp_path.glob("*_a.*"):
        second = tmp_path / first.name.replace("_a.", "_b.")
        assert first.read_bytes() == second.read_bytes(), first.name
    assert len(list(tmp_path.iterdir())) == 4


# -- tables ------------------------------------------------------------------------------------


def test_accuracy_lines_are_means_and_bars_standard_deviations(few):
    figure = accuracy_by_sparsity(few)
    assert titles(figure) == ["Digits, Conv-6", "Digits, mlp"]
    for axes, model in zip(figure.axes, ("conv6", "mlp"), strict=True):
        own = few[few.model == model]
        for container, pruner in zip(axes.containers, ("erk", "rigl", "magnitude"), strict=True):
            groups = 100 * own[own.pruner == pruner].set_index("sparsity")["test_accuracy"]
            mean, sd = groups.groupby(level=0).mean(), groups.groupby(level=0).std()
            points, ends = bars(container)
            assert points[:, 1] == pytest.approx(mean.to_numpy())
            assert ends == pytest.approx(np.stack([mean - sd, mean + sd], axis=1))
            # The axis counts decades of weights removed; pruners are moved by a little only.
            assert np.abs(points[:, 0] + np.log10(1 - mean.index.to_numpy())).max() < 0.04
        dense = [line for line in axes.lines if line.get_gid() == "dense"]
        mean = 100 * own[own.pruner == "dense"]["test_accuracy"].mean()
        assert [line.get_ydata()[0] for line in dense] == [pytest.approx(mean)]
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["95", "80", "60"]
        assert axes.get_xlabel() == "sparsity (%)" and axes.get_ylabel() == "test accuracy (%)"
    words = caption(figure)
    assert "± 1 standard deviation over seeds" in words and "n = 3 seeds per point" in words
    assert legend(figure) == [
        "pruner acts before training",
        "pruner acts during training",
        "pruner acts after training",
        "dense networks (mean ± 1 sd)",
    ]


def test_every_line_ends_at_its_name_inside_the_figure(few, many):
    for figure, panels, count in (
        (accuracy_by_sparsity(few), [["erk", "rigl", "magnitude"]] * 2, 6),
        (accuracy_by_sparsity(many), [BEFORE, DURING, AFTER], 15),
    ):
        found = keys(figure)
        assert len(found) == count
        assert_no_overlap(figure, found)
        renderer = figure.canvas.get_renderer()
        for axes, pruners in zip(figure.axes, panels, strict=True):
            box = axes.get_window_extent(renderer)
            own = [
                text
                for text in found
                if 0 < text.get_window_extent(renderer).x0 - box.x1 < 0.3 * figure.dpi
            ]
            assert {text.get_text() for text in own} == {display_name(p) for p in pruners}
            heights = [text.get_window_extent(renderer).y0 for text in own]
            assert len(set(heights)) == len(heights)
        right = max(text.get_window_extent(renderer).x1 for text in found)
        assert right <= figure.bbox.x1


def test_names_stand_in_the_order_of_the_last_values():
    table = networks_table(["snip", "erk", "grasp"], seeds=1)
    last = {"snip": 0.2, "erk": 0.9, "grasp": 0.5}
    for pruner, accuracy in last.items():
        chosen = (table.pruner == pruner) & (table.sparsity == 0.95)
        table.loc[chosen, "test_accuracy"] = accuracy
    figure = accuracy_by_sparsity(table)
    found = sorted(keys(figure), key=lambda text: -text.get_position()[1])
    assert [text.get_text() for text in found] == ["ERK", "GraSP", "SNIP"]


def test_many_pruners_get_a_column_per_time_and_the_others_in_grey(many):
    figure = accuracy_by_sparsity(many)
    assert titles(figure) == [
        "Digits, Conv-6: before training",
        "Digits, Conv-6: during training",
        "Digits, Conv-6: after training",
    ]
    for axes, own in zip(figure.axes, (BEFORE, DURING, AFTER), strict=True):
        grey = [line for line in axes.lines if line.get_gid() == "other pruner"]
        assert len(axes.containers) == len(own)
        assert len(grey) == 15 - len(own)
        assert {line.get_color() for line in grey} == {FAINT}
        looks = [
            (line.get_color(), line.get_marker(), line.get_markerfacecolor())
            for line, *_ in axes.containers
        ]
        assert len(set(looks)) == len(own)
        assert len({line.get_linestyle() for line, *_ in axes.containers}) == 1
    # matplotlib calls every pattern of dashes "--".
    assert [axes.containers[0][0].get_linestyle() for axes in figure.axes] == ["-", "--", "--"]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert "pruners of the other columns" in legend(figure)


def test_collapsed_layers_are_marked(few):
    assert "no weight left" not in caption(accuracy_by_sparsity(few))
    table = few.copy()
    hit = (table.pruner == "erk") & (table.sparsity == 0.95) & (table.seed == 1)
    table.loc[hit & (table.model == "conv6"), "collapsed_layers"] = 2
    figure = accuracy_by_sparsity(table)
    first, second = (
        [line for line in axes.lines if line.get_gid() == "collapsed"] for axes in figure.axes
    )
    assert len(first) == 1 and not second
    end = figure.axes[0].containers[0][0].get_xydata()[-1]
    assert first[0].get_xydata()[0] == pytest.approx(end)
    assert "×: in at least one of these networks a layer has no weight left" in caption(figure)


def test_one_seed_has_no_bar_and_an_unknown_pruner_is_said_to_be_one():
    figure = accuracy_by_sparsity(networks_table(["erk", "mine"], seeds=1))
    for container in figure.axes[0].containers:
        _, ends = bars(container)
        assert ends[:, 0] == pytest.approx(ends[:, 1])
    assert "n = 1 seed per point" in caption(figure)
    assert "pruner acts at an unknown time" in legend(figure)


def test_bad_networks_tables_are_named(few):
    with pytest.raises(DataError, match="networks table lacks the column 'test_accuracy'"):
        accuracy_by_sparsity(few.drop(columns="test_accuracy"))
    with pytest.raises(DataError, match="networks table has no rows"):
        accuracy_by_sparsity(few.iloc[:0])
    with pytest.raises(DataError, match="no finite value in the column 'test_accuracy'"):
        accuracy_by_sparsity(few.assign(test_accuracy=np.nan))
    with pytest.raises(DataError, match=r"networks table has the sparsity 60: .* below 1"):
        accuracy_by_sparsity(few.assign(sparsity=60.0))
    with pytest.raises(DataError, match="dense networks only"):
        accuracy_by_sparsity(few[few.pruner == "dense"])
    with pytest.raises(DataError, match=r"1 rows? .* first with dataset digits, model conv6"):
        accuracy_by_sparsity(pd.concat([few, few.iloc[:1]]))


def test_the_sixteen_topometrics_are_those_of_the_published_tables():
    from espalier.topology.topometrics import TOPOMETRICS

    assert set(TOPOMETRIC_TITLES) == set(TOPOMETRICS)


def test_trends_are_means_with_ranges():
    table = topometrics_table(["erk", "rigl"])
    figure = topometric_trends(table, ["motif", "sink_nodes"])
    assert titles(figure) == ["motifs of 4 nodes", "sink nodes"]
    for axes, name in zip(figure.axes, ("motif", "sink_nodes"), strict=True):
        for container, pruner in zip(axes.containers, ("erk", "rigl"), strict=True):
            groups = table[table.pruning == pruner].groupby("sparsity")[name]
            points, ends = bars(container)
            assert points[:, 1] == pytest.approx(groups.mean().to_numpy())
            assert ends == pytest.approx(np.stack([groups.min(), groups.max()], axis=1))
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["motifs / edges", "share of nodes"]
    raw = topometric_trends(table, ["motif", "sink_nodes"], normalised=False)
    assert [axes.get_ylabel() for axes in raw.axes] == ["motifs", "nodes"]
    assert "from the smallest to the largest value, n = 3 seeds" in caption(figure)
    assert figure.texts[0].get_text() == "Topometrics against sparsity, Conv-6 on Digits"


def test_all_sixteen_are_drawn_unless_columns_are_named():
    table = topometrics_table(["erk"])
    assert titles(topometric_trends(table)) == [words[0] for words in TOPOMETRIC_TITLES.values()]
    figure = topometric_trends(table, ["test_accuracy"])
    assert titles(figure) == ["test accuracy"]


def test_dense_networks_are_a_band_of_the_trends():
    table = topometrics_table(["erk"], dense=True)
    figure = topometric_trends(table, ["k-core"])
    dense = [line for line in figure.axes[0].lines if line.get_gid() == "dense"]
    mean = table[table.pruning == "dense"]["k-core"].mean()
    assert [line.get_ydata()[0] for line in dense] == [pytest.approx(mean)]
    assert len(figure.axes[0].containers) == 1
    assert "dense networks (mean and range)" in legend(figure)


def test_trends_of_several_networks_need_a_choice():
    table = topometrics_table(["erk"], (("digits", "conv6"), ("cifar10", "conv6")))
    with pytest.raises(DataError, match=r"2 pairs .* \(digits/conv6, cifar10/conv6\)"):
        topometric_trends(table, ["motif"])
    figure = topometric_trends(table, ["motif"], dataset="cifar10")
    assert "Conv-6 on CIFAR-10" in figure.texts[0].get_text()
    with pytest.raises(DataError, match="no row with model 'conv7'"):
        topometric_trends(table, ["motif"], model="conv7")
    with pytest.raises(DataError, match="topometrics table lacks the column 'motifs'"):
        topometric_trends(table, ["motifs"], dataset="digits")
    with pytest.raises(DataError, match="no finite value in the column 'motif'"):
        topometric_trends(table.assign(motif=np.nan), ["motif"], dataset="digits")
    with pytest.raises(ConfigurationError, match="columns is empty"):
        topometric_trends(table, [])


# -- files -------------------------------------------------------------------------------------


def test_figures_are_drawn_from_files(tmp_path, few):
    paths = {"networks": tmp_path / "networks.csv", "topometrics": tmp_path / "topometrics.csv"}
    write_table(paths["networks"], few, {"seed": [0]})
    trends = topometrics_table(["erk"], (("digits", "conv6"), ("cifar10", "conv6")))
    write_table(paths["topometrics"], trends, {"seed": [0]})
    accuracy = tmp_path / "accuracy.svg"
    draw_table("accuracy_by_sparsity", paths, [accuracy], model="mlp")
    assert accuracy.stat().st_size > 0
    outputs = [tmp_path / "trends.svg"]
    draw_table("topometric_trends", paths, outputs, dataset="digits", model="conv6")
    assert outputs[0].stat().st_size > 0
    with pytest.raises(DataError, match="no row with dataset 'mnist'"):
        draw_table("topometric_trends", paths, outputs, dataset="mnist")
    with pytest.raises(
        ConfigurationError, match=r"training_curve is drawn from rf, baselines\.csv"
    ):
        draw_table("training_curve", paths, outputs)
    with pytest.raises(ConfigurationError, match="unknown figure of tables 'accuracy'"):
        draw_table("accuracy", paths, outputs)
    assert TABLES["sparsity_vs_rf"] == ("rf", "baselines")
