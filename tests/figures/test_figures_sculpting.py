from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from figure_fixtures import caption, legend

from espalier.errors import ConfigurationError, DataError
from espalier.figures.needs import TABLES
from espalier.figures.sculpting import function_graph, pruned_network
from espalier.figures.sculpting_trials import density_distribution, success_rates
from espalier.figures.style import save
from espalier.sculpting.function_families import function_overlap, function_use, published_function
from espalier.sculpting.modules import detect_modules
from espalier.sculpting.published_recipes import published_densities, published_success
from espalier.sculpting.success import SUCCESS_COLUMNS, layered_masks, wilson_interval

PAPER = ["validation", "use", "overlap", "levels", "digits"]


def success(trials=12):
    """A table in which every published rate is met, rounded to whole trials."""
    rows = []
    for row in published_success().itertuples():
        depths = [1, 2, 3] if pd.isna(row.hidden_layers) else [row.hidden_layers]
        for depth in depths:
            rows.append(
                (row.function, row.family, function_use(row.function),
                 function_overlap(row.function), depth, row.criterion,
                 round(row.rate * trials), trials)
            )  # fmt: skip
    table = pd.DataFrame(rows, columns=list(SUCCESS_COLUMNS))
    return table.astype({"use": "Int64", "overlap": "Int64"})


def trials():
    table = published_densities()
    table = table[table["function"].isin(["4-2-4", "4-1-4"])]
    return table.assign(density=table["density_percent"] / 100).drop(columns="density_percent")


def texts(axes, gid):
    return [text.get_text() for text in axes.texts if text.get_gid() == gid]


def test_bytes_are_equal_on_repeat(tmp_path):
    modules = detect_modules(layered_masks(published_function("6-3-3-3"))[0])
    for name in "ab":
        save(function_graph(published_function("4-2-4")), tmp_path / f"graph{name}.svg")
        save(pruned_network(modules), tmp_path / f"network{name}.svg")
        save(success_rates(success(), "levels"), tmp_path / f"success{name}.svg")
        save(density_distribution(trials()), tmp_path / f"density{name}.svg")
    for kind in ("graph", "network", "success", "density"):
        first, again = ((tmp_path / f"{kind}{name}.svg").read_bytes() for name in "ab")
        assert first == again


def test_the_function_graph_shows_every_node_and_negation():
    graph = published_function("4-2-4")
    axes = function_graph(graph).axes[0]
    nodes = [line for line in axes.lines if line.get_gid() == "node"]
    rings = [line for line in axes.lines if line.get_gid() == "negated"]
    assert len(nodes) == len(graph.nodes)
    negated = sum(edge.negated for gate in (*graph.gates, *graph.outputs) for edge in gate.edges)
    assert len(rings) == negated == 8
    shown = [text.get_text() for text in axes.texts]
    assert {*graph.inputs, "y1", "y2", "y3", "y4", "∧", "∨"} == set(shown)
    assert legend(function_graph(graph)) == ["first", "second", "negated edge"]
    # Levels from left to right, in equal steps; nodes of a level do not touch.
    places = np.array([(*line.get_xdata(), *line.get_ydata()) for line in nodes])
    for x in np.unique(places[:, 0]):
        heights = np.sort(places[places[:, 0] == x, 1])
        assert (np.diff(heights) > 0.29).all()
    assert len(np.unique(places[:, 0])) == graph.depth


def test_subfunctions_stay_together_and_outputs_in_order():
    graph = published_function("4-1-2-16")
    axes = function_graph(graph).axes[0]
    heights = {t.get_text(): t.get_position()[1] for t in axes.texts if t.get_text()[0] == "y"}
    from_above = sorted(heights, key=lambda name: -heights[name])
    odd, even = ([f"y{k}" for k in range(start, 17, 2)] for start in (1, 2))
    assert from_above in (odd + even, even + odd)


def test_the_network_shows_live_units_modules_and_edge_counts():
    graph = published_function("4-1-2-4")
    masks = layered_masks(graph)[0]
    # A dead unit, with an input and no output.
    masks[0] = np.vstack([masks[0], [True, False, False, False]])
    masks[1] = np.hstack([masks[1], np.zeros((2, 1), dtype=bool)])
    modules = detect_modules(masks)
    figure = pruned_network(modules)
    left, right = figure.axes
    units = next(c for c in left.collections if c.get_gid() == "units")
    assert len(units.get_offsets()) == 4 + 3 + 2 + 4
    assert texts(left, "unit") == ["x1", "x2", "x3", "x4", "y1", "y2", "y3", "y4"]
    assert sorted(texts(right, "module")) == [
        "1 unit\ny1 y3",
        "1 unit\ny2 y4",
        "x1 x2 x3 x4\n3 units",
    ]
    assert sorted(map(int, texts(right, "count"))) == [2, 2]
    colours = {tuple(colour) for colour in units.get_facecolors()}
    assert len(colours) == modules.num_modules == 3
    edges = sum(int(mask.sum()) for mask in masks) - 1
    assert f"{edges} of 32 edges are live" in caption(figure)
    named = pruned_network(modules, input_names=["a", "b", "c", "d"]).axes[0]
    assert texts(named, "unit")[:4] == ["a", "b", "c", "d"]
    with pytest.raises(DataError, match="3 output names were given for 4 output units"):
        pruned_network(modules, output_names=["a", "b", "c"])


def test_wide_and_dead_networks_are_drawn(tmp_path):
    generator = np.random.default_rng(0)
    sizes = (300, 40, 6)
    wide = [generator.random((b, a)) < 0.05 for a, b in pairwise(sizes)]
    figure = pruned_network(detect_modules(wide, 0.3, 0.6))
    assert not any(name.startswith("x") for name in texts(figure.axes[0], "unit"))
    save(figure, tmp_path / "wide.png")
    dead = pruned_network(detect_modules([np.zeros((3, 4), bool), np.zeros((2, 3), bool)]))
    assert "0 of 18 edges are live (0 %)" in caption(dead)
    save(dead, tmp_path / "dead.png")


@pytest.mark.parametrize("family", PAPER)
def test_success_rates_and_published_marks_agree_here(family, tmp_path):
    figure = success_rates(success(1200), family)
    assert "published" in legend(figure)
    compared = 0
    for axes in figure.axes:
        published = [line for line in axes.lines if line.get_gid() == "published"]
        rates = [container.lines[0] for container in axes.containers]
        assert len(rates) == len(published) > 0
        for own, theirs in zip(rates, published, strict=True):
            known = np.isfinite(theirs.get_ydata())
            compared += int(known.sum())
            assert own.get_ydata()[known] == pytest.approx(theirs.get_ydata()[known], abs=1e-9)
    expected = published_success().query("family == @family")
    drawn = {"levels": 21, "digits": 12}.get(family, len(expected))
    assert compared == drawn
    save(figure, tmp_path / "success.png")


def test_bars_are_wilson_intervals():
    axes = success_rates(success(), "validation").axes[1]
    (container,) = axes.containers
    segments = container.lines[2][0].get_segments()
    low, high = wilson_interval(np.array([0, 12, 11]), np.array([12, 12, 12]))
    assert [segment[0, 1] for segment in segments] == pytest.approx(list(low))
    assert [segment[1, 1] for segment in segments] == pytest.approx(list(high))


def test_overlap_pools_depths_and_two_digits_name_their_rate():
    figure = success_rates(success(), "overlap")
    assert "n = 36 trials per mark. Trials of all depths are pooled." in caption(figure)
    assert [axes.get_title() for axes in figure.axes] == [
        "modules of inputs", "modules of outputs", "hidden units in output modules",
    ]  # fmt: skip
    assert legend(figure)[:2] == ["used 1 time", "used 2 times"]
    words = caption(success_rates(success(), "digits"))
    assert "Published over all depths, two digits (MNIST): 0.92." in words


def test_an_own_function_has_no_published_marks():
    table = success()
    own = table[table["family"] == "validation"].assign(family="own", function="mine")
    figure = success_rates(own, "own")
    assert not figure.legends
    assert figure.axes[0].get_title() == "mine"


def test_densities_beside_the_published_ones():
    figure = density_distribution(trials())
    axes = figure.axes[0]
    own, theirs = (
        [line for line in axes.lines if line.get_gid() == gid] for gid in ("trials", "published")
    )
    assert len(own) == len(theirs) == 6
    for ours, published in zip(own, theirs, strict=True):
        assert sorted(ours.get_xdata()) == pytest.approx(sorted(published.get_xdata()))
    assert "72 trials" in caption(figure)
    assert "72 published trials" in caption(figure)
    narrow = trials().query("width == 24")
    assert "24 published trials" in caption(density_distribution(narrow))
    assert "Open" not in caption(density_distribution(narrow.assign(function="mine")))


def test_bad_input_is_named():
    with pytest.raises(ConfigurationError, match="Did you mean 'overlap'"):
        success_rates(success(), "overlaps")
    with pytest.raises(DataError, match="no family 'own'"):
        success_rates(success(), "own")
    with pytest.raises(DataError, match="lacks the column 'trials'"):
        success_rates(success().drop(columns="trials"), "use")
    with pytest.raises(DataError, match="outside"):
        density_distribution(trials().assign(density=5.0))
    with pytest.raises(DataError, match="no rows"):
        density_distribution(trials().iloc[:0])


def test_the_tables_are_registered():
    assert TABLES["pruned_densities"] == ("modules",)
    assert {TABLES[f"success_{family}"] for family in PAPER} == {("modules_success",)}
