from __future__ import annotations

import numpy as np
import pytest
from figure_fixtures import assert_no_overlap, caption, legend
from hub_tables import (
    PLACES,
    RUNS,
    ablation_table,
    accuracy_table,
    fashion_network,
    hubs_table,
    training_table,
)
from matplotlib.text import Text
from scipy import sparse

from espalier.errors import ConfigurationError, DataError
from espalier.figures import save
from espalier.figures.drawing import draw_hub_network, draw_table
from espalier.figures.hub_networks import hub_network
from espalier.figures.hubs import (
    centrality_distribution,
    centrality_spread,
    hub_ablation,
    hub_methods,
    printed_method,
    threshold_search,
)
from espalier.files import write_npz, write_table
from espalier.hubs import laplacian_centrality

ONE = PLACES[:1]


def lines(axes, points):
    return [line for line in axes.get_lines() if len(line.get_xdata()) == points]


def test_distributions_are_the_quantiles_of_all_units_averaged_over_seeds():
    table = hubs_table(places=ONE)
    figure = centrality_distribution(table)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "SET", "CenSET, k = 2.6", "static sparse", "dense",
    ]  # fmt: skip
    rows = table[(table.layer == -1) & (table.method == "static")]
    for name, line in zip(("min", "max", "q50"), lines(figure.axes[2], 8), strict=True):
        expected = rows.groupby("epoch")[name].mean()
        np.testing.assert_array_equal(line.get_xdata(), expected.index)
        np.testing.assert_allclose(line.get_ydata(), expected)
    assert figure.axes[0].get_yscale() == "symlog"
    assert "n = 3" in caption(figure)
    with pytest.raises(DataError, match="no row with layer -1"):
        centrality_distribution(table[table.layer == 0])
    with pytest.raises(DataError, match="lacks the column 'q05'"):
        centrality_distribution(table.drop(columns="q05"))
    with pytest.raises(DataError, match="24 rows without a finite q50"):
        centrality_distribution(table.assign(q50=np.where(table.method == "set", np.nan, 1.0)))


def test_spread_and_accuracy_are_means_with_bands():
    table = training_table(epochs=20)
    figure = centrality_spread(table)
    assert len(figure.axes) == 6
    assert legend(figure) == ["SET", "CenSET, k = 2.6", "static sparse", "dense"]
    for row, (name, factor) in enumerate(
        (("centrality_mean", 1), ("centrality_sd", 1), ("test_accuracy", 100))
    ):
        for column, (dataset, _, _) in enumerate(PLACES):
            rows = table[(table.dataset == dataset) & (table.method == "dense")]
            drawn = lines(figure.axes[2 * row + column], 21)[3]
            expected = factor * rows.groupby("epoch")[name].mean()
            np.testing.assert_allclose(drawn.get_ydata(), expected)
    assert "n = 3 seeds" in caption(figure)


def test_methods_show_what_is_removed_and_more_than_six_differ_in_their_marks():
    many = [*RUNS, ("katz", 2.0), ("accset", np.nan), ("no_readding", 1.5), ("random", np.nan)]
    figure = hub_methods(training_table(epochs=12, places=ONE, runs=many))
    top, bottom = figure.axes
    looks = {
        (line.get_color(), line.get_marker(), line.get_markerfacecolor()) for line in lines(top, 13)
    }
    assert len(looks) == 8
    assert "CenSET, not re-adding, k = 1.5" in legend(figure)
    assert max(lines(bottom, 13)[1].get_ydata()) > 0
    for band in bottom.collections:
        assert band.get_paths()[0].vertices[:, 1].min() >= 0
    too_many = [("censet", k) for k in range(13)]
    with pytest.raises(DataError, match="13 methods and thresholds do not fit"):
        hub_methods(training_table(epochs=2, places=ONE, runs=too_many))
    with pytest.raises(DataError, match="no finite test_accuracy"):
        hub_methods(training_table(epochs=2, places=ONE).assign(test_accuracy=np.nan))


def test_threshold_search():
    table = accuracy_table(places=ONE)
    figure = threshold_search(table)
    assert legend(figure) == [
        "CenSET", "strength", "SET", "static sparse", "test accuracy", "validation accuracy",
    ]  # fmt: skip
    top, bottom = figure.axes
    rows = table[(table.dataset == "fashion_mnist") & (table.method == "censet")]
    test, validation = lines(top, 17)
    np.testing.assert_allclose(test.get_ydata(), 100 * rows.groupby("k")["accuracy"].mean())
    np.testing.assert_allclose(
        validation.get_ydata(), 100 * rows.groupby("k")["validation_accuracy"].mean()
    )
    np.testing.assert_allclose(
        lines(bottom, 17)[0].get_ydata(), rows.groupby("k")["removed_neurons"].mean()
    )
    assert sum(line.get_gid() == "reference" for line in top.get_lines()) == 2
    published = threshold_search(table.drop(columns="validation_accuracy"))
    assert legend(published) == ["CenSET", "strength", "SET", "static sparse"]
    with pytest.raises(DataError, match="no run with a threshold"):
        threshold_search(table[table.k.isna()])


def test_ablation():
    table = ablation_table(places=ONE)
    figure = hub_ablation(table)
    assert legend(figure) == ["most central first", "random", "least central first"]
    rows = table[(table.method == "set") & (table.order == "top")].groupby("removed")
    top = lines(figure.axes[0], 11)[0]
    np.testing.assert_allclose(top.get_ydata(), 100 * rows["accuracy"].mean())
    np.testing.assert_allclose(top.get_xdata(), 100 * np.arange(0, 241, 24) / 484)
    assert "n = 3 to 9 runs" in caption(figure)
    with pytest.raises(DataError, match="order 'best'"):
        hub_ablation(table.assign(order="best"))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_the_network_shows_its_hubs(form):
    weights = fashion_network()
    centralities = laplacian_centrality(weights)
    figure = hub_network([form(w) for w in weights], centralities, top=0.02)
    (axes,) = figure.axes
    hubs = [c for c in axes.collections if c.get_gid() == "hubs"]
    pooled = np.concatenate(centralities)
    limit = np.sort(pooled)[-26]
    assert [len(c.get_offsets()) for c in hubs] == [int((v >= limit).sum()) for v in centralities]
    edges = [c for c in axes.collections if c.get_gid() == "edges"]
    shown = [
        len(a.get_segments()) + len(b.get_segments())
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]
    assert shown == [400] * 4
    assert "1,600 of 33,9" in caption(figure)
    assert_no_overlap(figure, axes.texts)


def test_edges_between_hubs_are_all_drawn_and_small_networks_in_full():
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((40, 30)), rng.standard_normal((30, 20))]
    centralities = laplacian_centrality(weights)
    figure = hub_network(weights, centralities, top=0.2, edges_per_layer=100)
    limit = np.sort(np.concatenate(centralities))[-18]
    hubs = [v >= limit for v in centralities]
    edges = [c for c in figure.axes[0].collections if c.get_gid() == "edges"]
    for layer in range(2):
        among = hubs[layer].sum() * hubs[layer + 1].sum()
        assert len(edges[2 * layer + 1].get_segments()) == min(among, 100)
    whole = hub_network(weights, centralities[:-1], edges_per_layer=2000)
    assert "All 1,800 edges are drawn" in caption(whole)
    assert any("not ranked" in text.get_text() for text in whole.axes[0].texts)
    with pytest.raises(DataError, match=r"\[40, 30\] units do not fit layers of \[40, 30, 20, 5\]"):
        hub_network([*weights, np.ones((20, 5))], centralities[:2])
    with pytest.raises(ConfigurationError, match="top is 2"):
        hub_network(weights, centralities, top=2)
    with pytest.raises(ConfigurationError, match="edges_per_layer"):
        hub_network(weights, centralities, edges_per_layer=0)


def test_figures_are_drawn_from_files(tmp_path):
    tables = {
        "hubs": hubs_table(epochs=(0, 3), runs=RUNS[:2]),
        "hub_training": training_table(epochs=3, runs=RUNS[:2]),
        "hub_ablation": ablation_table(runs=RUNS[:2]),
        "censet_accuracy": accuracy_table(seeds=1),
    }
    paths = {}
    for name, table in tables.items():
        paths[name] = tmp_path / f"{name}.csv"
        write_table(paths[name], table, {"seed": 0})
    for figure in (
        "centrality_distribution", "centrality_spread", "hub_ablation", "hub_methods",
        "threshold_search",
    ):  # fmt: skip
        out = tmp_path / f"{figure}.svg"
        draw_table(figure, paths, [out], dataset="cifar10")
        assert out.stat().st_size > 5000


def test_a_stored_network_is_drawn_with_its_hubs(tmp_path, monkeypatch):
    weights = fashion_network()
    arrays = {"sizes": np.array([784, *(matrix.shape[1] for matrix in weights)])}
    for number, matrix in enumerate(weights, 1):
        arrays[f"positions{number}"] = np.flatnonzero(matrix.T)
        arrays[f"values{number}"] = matrix.T[matrix.T != 0]
    write_npz(tmp_path / "weights.npz", arrays, {})
    layers = laplacian_centrality(weights)
    snapshots = {
        "epochs": np.array([3]),
        "centrality": np.concatenate(layers)[None],
        "layer": np.repeat(np.arange(5), [len(layer) for layer in layers]),
    }
    facts = {"dataset": "fashion_mnist", "model": "mlp", "method": "censet", "seed": 4}
    facts |= {"options": {"k": 2.6, "fraction": None}}
    write_npz(tmp_path / "centrality.npz", snapshots, facts)
    drawn = []
    monkeypatch.setattr("espalier.figures.drawing.save", lambda figure, path: drawn.append(figure))
    draw_hub_network(tmp_path / "weights.npz", tmp_path / "centrality.npz", ["network.svg"])
    title = "Hubs of mlp on Fashion-MNIST, CenSET, k = 2.6, seed 4"
    assert title in {text.get_text() for text in drawn[0].findobj(Text)}
    own = hub_network(weights, layers, title=title)
    assert caption(drawn[0]) == caption(own)
    for ours, theirs in zip(drawn[0].axes[0].collections, own.axes[0].collections, strict=True):
        np.testing.assert_array_equal(ours.get_offsets(), theirs.get_offsets())
    assert printed_method("strength") == "strength"
    assert printed_method("censet_fraction", float("nan"), 0.02) == "CenSET, lowest share 2 %"


def test_pictures_are_the_same_bytes_every_time(tmp_path):
    weights = fashion_network()
    for name in ("a", "b"):
        save(hub_network(weights, laplacian_centrality(weights)), tmp_path / f"{name}.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
