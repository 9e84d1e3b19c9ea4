from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from figure_fixtures import BASELINES, assert_no_overlap, caption, rf_table
from matplotlib.text import Annotation

from espalier.errors import ConfigurationError, DataError
from espalier.figures.curves import accuracy_vs_rf, sparsity_vs_rf, training_curve
from espalier.figures.style import save

FIGURES = [training_curve, sparsity_vs_rf, accuracy_vs_rf]


@pytest.fixture(scope="module")
def rf():
    return rf_table()


def curve(axes, index):
    """Return the points of the line of the model number `index`."""
    lines = [
        line for line in axes.lines if line.get_marker() in "os^" and len(line.get_xdata()) > 2
    ]
    return np.asarray(lines[index].get_xydata())


@pytest.mark.parametrize("figure_of", FIGURES)
def test_bytes_are_equal_on_repeat(tmp_path, rf, figure_of):
    table = rf[rf.dataset == "cifar20"]
    for name in "ab":
        figure = figure_of(table, BASELINES)
        save(figure, tmp_path / f"{name}.svg")
        save(figure, tmp_path / f"{name}.png")
    for suffix in (".svg", ".png"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("figure_of", FIGURES)
def test_every_figure_says_what_it_shows(rf, figure_of):
    figure = figure_of(rf, BASELINES)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["SmallCNN", "MediumCNN", "Conv6"]
    words = caption(figure)
    assert "n = 60 trees per point (3 seeds)" in words
    assert "mean ± 1 standard deviation over trees" in words
    assert "nested SBM" in words and "star tree" in words
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert "Fashion-MNIST" in titles and "CIFAR-20" in titles
    labels = " ".join(axes.get_ylabel() for axes in figure.axes).replace("\n", " ")
    assert "Robinson-Foulds distance (unrooted) lower is better" in labels


@pytest.mark.parametrize("figure_of", FIGURES)
def test_star_permuted_truth_and_random_tree_are_drawn_where_the_table_says(rf, figure_of):
    figure = figure_of(rf, BASELINES)
    found = [
        (line.get_gid(), line.get_ydata()[0])
        for axes in figure.axes
        for line in axes.lines
        if line.get_gid()
    ]
    assert found == [
        ("star tree", 5),
        ("permuted truth", 9.7675),
        ("random tree", 11.7),
        ("star tree", 9),
        ("permuted truth", 17.9016),
        ("random tree", 25.84),
    ]
    texts = [t.get_text() for axes in figure.axes for t in axes.texts]
    assert "star tree\n5" in texts and "permuted\ntruth 17.9" in texts


@pytest.mark.parametrize("figure_of", FIGURES)
def test_without_baselines_no_reference_is_drawn_or_mentioned(rf, figure_of):
    figure = figure_of(rf)
    assert not any(line.get_gid() for axes in figure.axes for line in axes.lines)
    assert "star" not in caption(figure)


def test_training_curve_draws_the_means(rf):
    figure = training_curve(rf, BASELINES)
    top, _, bottom, _ = figure.axes
    dense = rf[
        (rf.dataset == "fashion_mnist")
        & (rf.model == "medium_cnn")
        & (rf.sparsity == 0)
        & (rf.detector == "nested_sbm")
    ]
    expected = dense.groupby("epoch")["rf_unrooted"].mean()
    assert curve(bottom, 1) == pytest.approx(np.column_stack([expected.index, expected]))
    accuracy = dense.drop_duplicates(["seed", "epoch"]).groupby("epoch")["test_accuracy"].mean()
    assert curve(top, 1)[:, 1] == pytest.approx(100 * accuracy.to_numpy())
    assert bottom.get_xlabel() == "epoch"
    assert top.get_ylabel() == "test accuracy (%)"


def test_sparsity_figure_draws_the_means_beside_each_other(rf):
    figure = sparsity_vs_rf(rf, BASELINES)
    pruned = rf[(rf.dataset == "cifar20") & (rf.checkpoint == 10) & (rf.detector == "nested_sbm")]
    shifts = []
    for index, model in enumerate(("small_cnn", "medium_cnn", "conv6_thesis")):
        expected = pruned[pruned.model == model].groupby("sparsity")["rf_unrooted"].mean()
        points = curve(figure.axes[1], index)
        assert points[:, 1] == pytest.approx(expected.to_numpy())
        shifts.append(points[:, 0] - 100 * expected.index.to_numpy())
    assert np.allclose(shifts, np.array([[-0.9], [0], [0.9]]))
    assert "sparsity (% of hidden units removed)" in [axes.get_xlabel() for axes in figure.axes]


def test_accuracy_figure_names_every_sparsity_without_overlap(rf):
    figure = accuracy_vs_rf(rf, BASELINES)
    figure.draw_without_rendering()
    for axes in figure.axes:
        labels = [
            text
            for text in axes.texts
            if isinstance(text, Annotation) and "t" not in text.get_text()
        ]
        wanted = sorted(["0", "50", "67.5", "75", "82.5", "90"] * 3)
        assert sorted(text.get_text() for text in labels) == wanted
        assert_no_overlap(figure, labels)


def test_several_pruners_have_panels_of_their_own(rf):
    other = rf[rf.sparsity > 0].assign(pruner="random_units")
    figure = sparsity_vs_rf(pd.concat([rf, other]))
    titles = [axes.get_title(loc="left") for axes in figure.axes][:4]
    assert titles == [
        "Fashion-MNIST, magnitude",
        "Fashion-MNIST, random units",
        "CIFAR-20, magnitude",
        "CIFAR-20, random units",
    ]
    # Every pruner's line begins at the dense network.
    assert all(curve(axes, 0)[0, 0] == pytest.approx(-0.9) for axes in figure.axes[:4])


def test_one_seed_and_one_model(rf):
    one = rf[(rf.seed == 0) & (rf.model == "small_cnn") & (rf.dataset == "cifar20")]
    for figure_of in FIGURES:
        words = caption(figure_of(one, BASELINES))
        assert "n = 20 trees per point (1 seed)" in words
        assert "one seed, no bar" in words
        assert "95 % t interval" in caption(figure_of(one, spread="ci"))


def test_one_tree_per_network(rf):
    one = rf[(rf.seed == 0) & (rf["sample"] == "sample0")]
    for figure_of in FIGURES:
        assert "n = 1 tree per point (1 seed)" in caption(figure_of(one))


def test_a_measure_that_can_be_negative_keeps_its_range(rf):
    name = "adjusted_hierarchical_mutual_information"
    table = rf.assign(**{name: rf[name] - 0.6})
    figure = training_curve(table, BASELINES, measure=name)
    lows = [axes.get_ylim()[0] for axes in figure.axes[2:]]
    smallest = table[table.sparsity == 0].groupby(["dataset", "model", "epoch"])[name].mean().min()
    assert min(lows) <= smallest < 0
    assert "higher is better" in figure.axes[2].get_ylabel()


@pytest.mark.parametrize("figure_of", FIGURES)
def test_bad_tables_are_named(rf, figure_of):
    with pytest.raises(
        DataError, match="rf table lacks the columns 'test_accuracy', 'rf_unrooted'"
    ):
        figure_of(rf.drop(columns=["rf_unrooted", "test_accuracy"]))
    with pytest.raises(DataError, match="rf table has no rows"):
        figure_of(rf.iloc[:0])
    with pytest.raises(DataError, match="no row with detector 'louvain'"):
        figure_of(rf, detector="louvain")
    with pytest.raises(DataError, match="no finite value in the column 'rf_unrooted'"):
        figure_of(rf.assign(rf_unrooted=np.nan))
    with pytest.raises(DataError, match="baselines table has no rows"):
        figure_of(rf, BASELINES.iloc[:0])
    with pytest.raises(ConfigurationError, match="unknown measure 'accuracy'"):
        figure_of(rf, measure="accuracy")


def test_training_needs_dense_networks(rf):
    with pytest.raises(DataError, match="no row with sparsity 0"):
        training_curve(rf[rf.sparsity > 0])


def test_the_last_checkpoint_is_the_networks_own_not_the_detectors(rf):
    """A detector that saw early checkpoints only has no converged trees to show."""
    early = rf[(rf.detector == "nested_sbm") & (rf.sparsity == 0) & (rf.checkpoint < 5)]
    both = pd.concat([rf, early.assign(detector="early_only")])
    with pytest.raises(DataError, match="no row with detector 'early_only'"):
        sparsity_vs_rf(both, detector="early_only")


@pytest.mark.parametrize("figure_of", FIGURES)
def test_a_model_that_one_dataset_lacks(rf, figure_of):
    partial = rf[(rf.dataset == "cifar20") | (rf.model == "small_cnn")]
    figure = figure_of(partial, BASELINES)
    assert len(figure.legends[0].get_texts()) == 3
