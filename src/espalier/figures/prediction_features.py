"""What a prediction leans on: importance of topometrics, and the measures of single layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from espalier.errors import DataError
from espalier.figures.prediction_parts import (
    refuse_repeated,
    setting_words,
    settings_by_kind,
    with_numbers,
)
from espalier.figures.style import (
    FAINT,
    GREY,
    INK,
    LABEL_SIZE,
    OKABE_ITO,
    PAPER,
    SMALL_SIZE,
    display_name,
    frame,
    new_figure,
    series_handle,
    series_style,
    styled,
    text_extent,
)
from espalier.figures.tables import count_in_words, in_order, keep, numbers, require, where
from espalier.figures.topology import TOPOMETRIC_TITLES
from espalier.topology.topometrics import REDUNDANT

#: The families of TMLR, Table 2.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "local": ("sink_nodes", "source_nodes", "disc_nodes", "r-out", "r-in"),
    "neighbour": ("1-hop_nei", "2-hop_nei", "motif"),
    "strength": ("k-core", "avg_node_strength"),
    "global": ("no_connected_components", "mean_connected_components", "cut-edges", "cut-nodes"),
    "expansion": ("spectral_gap", "spectral_radius"),
}

#: Printed name of the score of a task, and of the task.
_SCORES: Mapping[str, tuple[str, str]] = {
    "drop": ("R²", "the accuracy drop"),
    "category": ("balanced accuracy", "the pruner's category"),
    "pruner": ("balanced accuracy", "the pruner's name"),
}

#: Column of the table of layers, and its printed name.
LAYER_MEASURES: Mapping[str, str] = {
    "layer_sparsity": "density of the layer",
    "degree_bound": "Δr",
    "iterative_degree_bound": "Δr_imdb",
    "iterative_spectral_gap": "λ_imsg",
}

#: The panels of TMLR Figure 2: model, data set, sparsity.
PUBLISHED_PLACES = (("conv6", "cifar10", 0.9), ("resnet32", "cifar10", 0.8))

#: The pruners of the paper, in the rows and columns of its figures.
BEFORE_TRAINING = ("er", "erk", "uniform", "snip", "grasp", "synflow", "prospr")

_DIVERGING = LinearSegmentedColormap.from_list(
    "blue to vermillion", [OKABE_ITO["blue"], PAPER, OKABE_ITO["vermillion"]]
)
_CELL_WIDTH, _CELL_HEIGHT = 0.47, 0.225


def feature_words(feature: str) -> str:
    """Return how a feature is printed; topometrics have names, others lose underscores."""
    return TOPOMETRIC_TITLES[feature][0] if feature in TOPOMETRIC_TITLES else display_name(feature)


@styled
def pearson_weights(importance: pd.DataFrame) -> Figure:
    """Draw Pearson's r of each topometric with the regressors' output, as cells with numbers.

    The settings with one sparsity stand left, those with one architecture right; topometrics are
    in the families of the paper. Those that hold no topology are marked.

    Args:
        importance: columns kind, task, feature, setting and importance; the rows of the kind
            "pearson" and the task "drop" are drawn, one per feature and setting. NaN for a feature
            that is constant in a setting.

    Raises:
        DataError: the table is empty, lacks columns, has a pair twice or an r outside [-1, 1].

    Source: Cunegatti et al. (2024), Figures 3 and 4.
    """
    require(importance, "importance", ["kind", "task", "feature", "setting", "importance"])
    table = keep(with_numbers(importance, "importance"), "importance", "kind", "pearson")
    table = keep(table, "importance", "task", "drop")
    refuse_repeated(table, "importance", ["feature", "setting"])
    values = numbers(table, "importance")
    if np.nanmax(np.abs(values), initial=0) > 1 + 1e-9:
        raise DataError("the importance table has an r outside [-1, 1]: is it of another method?")
    parts = settings_by_kind(in_order(table, "setting"))
    features, rules = _in_families(in_order(table, "feature"))
    figure = new_figure(1.0, 1.0)
    labels = [setting_words(name) for settings in parts.values() for name in settings]
    cell = max(_CELL_WIDTH, max(text_extent(figure, word, SMALL_SIZE)[0] for word in labels) + 0.1)
    figure.set_size_inches(2.0 + cell * len(labels), 0.6 + _CELL_HEIGHT * len(features))
    panels = figure.subplots(
        1,
        len(parts),
        sharey=True,
        squeeze=False,
        gridspec_kw={"width_ratios": [len(settings) for settings in parts.values()]},
    )[0]
    cells = table.set_index(["feature", "setting"])["importance"]
    for axes, (title, settings) in zip(panels, parts.items(), strict=True):
        pairs = pd.MultiIndex.from_product([features, settings])
        grid = cells.reindex(pairs).to_numpy(float).reshape(len(features), len(settings))
        _heat_map(axes, grid)
        axes.set_title(title, loc="left")
        axes.set_xticks(np.arange(len(settings)) + 0.5, [setting_words(name) for name in settings])
        for line in rules:
            axes.axhline(line + 0.5, color=GREY, linewidth=0.8)
    marked = [f"{feature_words(name)}{' *' * (name in REDUNDANT)}" for name in features]
    panels[0].set_yticks(np.arange(len(features)) + 0.5, marked)
    caption = (
        "Numbers: Pearson's r of a topometric with the predicted accuracy drop of regressors that "
        "were fitted on the same networks (in sample), averaged over regressors. Orange: the drop "
        "rises with the topometric; blue: it falls. No interval: a single fit per cell."
    )
    if any(name in REDUNDANT for name in features):
        caption += (
            " *: follows from the numbers of nodes, edges and components; 1-hop neighbours hold no "
            "topology at all."
        )
    handles = [
        Patch(facecolor=OKABE_ITO["vermillion"], label="r = 1"),
        Patch(facecolor=PAPER, edgecolor=FAINT, label="r = 0"),
        Patch(facecolor=OKABE_ITO["blue"], label="r = -1"),
    ]
    frame(figure, "Topometrics and the predicted accuracy drop", caption, handles, 1.2)
    return figure


@styled
def feature_importance(importance: pd.DataFrame, *, task: str = "drop") -> Figure:
    """Draw the permutation importance of features for one task, one panel per setting.

    Args:
        importance: columns kind, task, learner, protocol, setting, feature, importance, sd (of the
            folds' means; NaN for none), score and folds; the rows of the kind "permutation" and
            of the task are drawn.
        task: "drop", or the "category" or "pruner" to be named.

    Raises:
        DataError: the table is empty, lacks columns or rows, or has several learners or protocols.

    Source: Cunegatti et al. (2022, arXiv), Figures 2, 5 and 6 (drop), 3 and 4 (classification).
    """
    keys = ["kind", "task", "learner", "protocol", "setting", "feature"]
    require(importance, "importance", [*keys, "importance", "sd", "score", "folds"])
    table = keep(with_numbers(importance, "importance"), "importance", "kind", "permutation")
    table = keep(table, "importance", "task", task)
    refuse_repeated(table, "importance", ["feature", "setting"])
    score, words = _SCORES.get(task, ("score", task))
    settings = [s for part in settings_by_kind(in_order(table, "setting")).values() for s in part]
    features, rules = _in_families(in_order(table, "feature"))
    columns = min(5, len(settings))
    rows = -(-len(settings) // columns)
    figure = new_figure(1.75 + 1.45 * columns, rows * (0.7 + 0.155 * len(features)))
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=True)
    families = _families_of(features)
    for axes, setting in zip(panels.flat, settings, strict=False):
        own = where(table, setting=setting).set_index("feature").reindex(features)
        for index, family in enumerate(families):
            shown = np.array([_family(name) == family for name in features])
            axes.errorbar(
                numbers(own, "importance")[shown],
                np.flatnonzero(shown),
                xerr=np.nan_to_num(numbers(own, "sd")[shown]),
                fmt=series_style(index)["marker"],
                color=series_style(index)["color"],
                markersize=3.5,
                elinewidth=0.8,
                capsize=1.5,
                zorder=3,
            )
        reached = numbers(own, "score")
        reached = reached[np.isfinite(reached)][0]
        axes.set_title(f"{setting_words(setting)}  ({reached:.2f})", loc="left")
        axes.axvline(0, color=INK, linewidth=0.8, zorder=1.5)
        for line in rules:
            axes.axhline(line, color=FAINT, linewidth=0.6)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
    for axes in panels.flat[len(settings) :]:
        axes.set_visible(False)
    panels[0, 0].set_ylim(len(features) - 0.4, -0.6)
    for row in panels:
        row[0].set_yticks(np.arange(len(features)), [feature_words(name) for name in features])
    for column in range(columns):
        lowest = panels[max(k for k in range(rows) if k * columns + column < len(settings)), column]
        lowest.set_xlabel(f"fall of {score}")
        lowest.tick_params(labelbottom=True)
    learner, protocol = (display_name(table[key].iloc[0]) for key in ("learner", "protocol"))
    caption = (
        f"Marks: fall of {score} on test rows when one feature is shuffled, mean over folds; bars: "
        f"± 1 standard deviation of the folds' means, n = {count_in_words(table, 'folds')}. "
        f"In brackets: the {score} with nothing shuffled. Learner: {learner}; split: {protocol}. "
        "Topometrics are strongly correlated: "
        "what is marked is what the predictor used, not what matters."
    )
    handles = [
        Line2D(
            [], [], linestyle="none", label=name, color=series_style(index)["color"],
            marker=series_style(index)["marker"],
        )
        for index, name in enumerate(families)
    ]  # fmt: skip
    frame(figure, f"Permutation importance for {words}", caption, handles, 1.2)
    return figure


@styled
def layer_measures(
    layers: pd.DataFrame,
    places: Sequence[tuple[str, str, float]] = PUBLISHED_PLACES,
    *,
    pruners: Sequence[str] = BEFORE_TRAINING,
) -> Figure:
    """Draw the Ramanujan measures and the density of each layer, a panel per place and pruner.

    Values are means over seeds, each divided by the sum of its absolute values over layers: where
    all are positive this is the paper's share of the sum, and where some are negative a sum near 0
    does no harm.

    Args:
        layers: one row per layer with model, dataset, sparsity, pruning, seed, layer_id and
            `LAYER_MEASURES`. Values that are missing or infinite are left out.
        places: (model, data set, sparsity), one row of panels each.
        pruners: columns of panels.

    Raises:
        DataError: the table is empty, lacks columns, or has no row of a place.

    Source: Cunegatti et al. (2024), Figure 2.
    """
    keys = ["model", "dataset", "sparsity", "pruning", "seed", "layer_id"]
    require(layers, "layers", [*keys, *LAYER_MEASURES])
    figure = new_figure(1.42 * len(pruners) + 0.6, 1.75 * len(places))
    panels = figure.subplots(len(places), len(pruners), squeeze=False, sharey="row", sharex="row")
    counts = []
    for row, (model, dataset, sparsity) in enumerate(places):
        here = layers
        for key, value in (("model", model), ("dataset", dataset), ("sparsity", sparsity)):
            here = keep(here, "layers", key, value)
        order = np.unique(numbers(here, "layer_id"))
        for column, pruner in enumerate(pruners):
            axes = panels[row, column]
            own = where(here, pruning=pruner)
            if len(own):
                counts.append(len(set(own["seed"])))
            for index, name in enumerate(LAYER_MEASURES):
                _share_of_layers(axes, own, order, name, index)
            axes.axhline(0, color=GREY, linewidth=0.6, zorder=1.5)
            axes.set_title(display_name(pruner) if row == 0 else "", loc="left")
            axes.set_xlabel("layer")
            axes.set_xticks([1, len(order)] if len(order) > 12 else np.arange(1, len(order) + 1, 2))
        words = f"{display_name(model)}, {display_name(dataset)}\nsparsity {100 * sparsity:g} %"
        panels[row, 0].set_ylabel(f"{words}\nshare over layers")
    caption = (
        "Each line: a measure of single layers, mean over seeds "
        f"(n = {_range(counts)}), divided by the sum of its absolute values over the layers. "
        "Layers without a value (too few connections) are left out. No bars."
    )
    handles = [series_handle(index, words) for index, words in enumerate(LAYER_MEASURES.values())]
    frame(figure, "Ramanujan measures and density, layer by layer", caption, handles)
    return figure


@styled
def density_correlation(
    layers: pd.DataFrame, *, dataset: str = "cifar10", pruners: Sequence[str] = BEFORE_TRAINING
) -> Figure:
    """Draw Pearson's r of the Ramanujan measures with the density of the layer, by pruner.

    r is over the layers of one network and averaged over seeds; networks with fewer than three
    layers that have a value are left out.

    Args:
        layers: as for `layer_measures`.
        dataset: the data set.
        pruners: rows of cells.

    Raises:
        DataError: the table is empty, lacks columns, or has no row of the data set.

    Source: Cunegatti et al. (2024), Figure 5.
    """
    keys = ["model", "sparsity", "pruning", "seed"]
    require(layers, "layers", ["dataset", *keys, *LAYER_MEASURES])
    rows = keep(layers, "layers", "dataset", dataset)
    models = in_order(rows, "model")
    sparsities = sorted(set(numbers(rows, "sparsity")))
    places = [(model, sparsity) for model in models for sparsity in sparsities]
    names = [name for name in LAYER_MEASURES if name != "layer_sparsity"]
    figure = new_figure(
        1.1 + 0.36 * len(places), (0.35 + _CELL_HEIGHT * len(pruners)) * len(names) + 0.5
    )
    panels = figure.subplots(len(names), 1, squeeze=False, sharex=True)[:, 0]
    counts: list[int] = []
    for axes, name in zip(panels, names, strict=True):
        found: dict[tuple[object, ...], list[float]] = {}
        groups: Any = rows.groupby(keys, sort=True)
        for key, own in groups:
            both = own[["layer_sparsity", name]].to_numpy(float)
            both = both[np.isfinite(both).all(axis=1)]
            if len(both) > 2 and (np.ptp(both, axis=0) > 0).all():
                found.setdefault(key[:3], []).append(float(np.corrcoef(both.T)[0, 1]))
                counts.append(len(both))
        grid = np.full((len(pruners), len(places)), np.nan)
        for i, pruner in enumerate(pruners):
            for j, place in enumerate(places):
                if (*place, pruner) in found:
                    grid[i, j] = np.mean(found[*place, pruner])
        _heat_map(axes, grid)
        for line in range(len(sparsities), len(places), len(sparsities)):
            axes.axvline(line, color=GREY, linewidth=0.8)
        axes.set_yticks(np.arange(len(pruners)) + 0.5, [display_name(name) for name in pruners])
        axes.set_ylabel(LAYER_MEASURES[name], fontweight="bold")
        axes.tick_params(labelbottom=False)
    panels[-1].set_xticks(
        np.arange(len(places)) + 0.5, [f"{100 * sparsity:g}" for _, sparsity in places]
    )
    panels[-1].tick_params(labelbottom=True)
    panels[-1].set_xlabel("sparsity (%)")
    for index, model in enumerate(models):
        panels[0].annotate(
            display_name(model),
            xy=(index * len(sparsities), 0),
            xytext=(2, 4),
            textcoords="offset points",
            fontsize=LABEL_SIZE,
            fontweight="bold",
        )
    caption = (
        f"{display_name(dataset)}. Numbers: Pearson's r of a measure with the density over the "
        f"layers of one network (n = {_range(counts)} layers), mean over seeds; no interval. –: no "
        "network has a value in three layers. Uniform pruning gives all layers one density, up to "
        "rounding: its r says nothing."
    )
    frame(figure, "Ramanujan measures against the density of layers", caption)
    return figure


def _share_of_layers(
    axes: Axes, own: pd.DataFrame, order: np.ndarray, name: str, index: int
) -> None:
    values = numbers(own, name)
    finite = own.loc[np.isfinite(values)].groupby("layer_id")[name].mean()
    line = finite.reindex(order).to_numpy(float)
    total = np.nansum(np.abs(line))
    if not np.isfinite(line).any() or total == 0:
        return
    look: dict[str, Any] = {**series_style(index), "markersize": 2.6, "linewidth": 1.0}
    axes.plot(np.arange(1, len(order) + 1), line / total, **look)


def _heat_map(axes: Axes, grid: np.ndarray) -> None:
    """Draw cells coloured from -1 to 1 with their numbers; the first row is on top."""
    axes.grid(False)
    axes.pcolormesh(
        np.ma.masked_invalid(grid),
        cmap=_DIVERGING,
        norm=Normalize(-1, 1),
        edgecolors=PAPER,
        linewidth=1.0,
    )
    for (i, j), value in np.ndenumerate(grid):
        known = bool(np.isfinite(value))
        words = f"{value:.2f}".replace("-0.00", "0.00") if known else "–"
        colour = PAPER if known and abs(value) > 0.88 else INK
        axes.text(
            j + 0.5, i + 0.5, words, ha="center", va="center_baseline", fontsize=SMALL_SIZE,
            color=colour,
        )  # fmt: skip
    axes.set_ylim(len(grid), 0)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _family(feature: str) -> str:
    return next((family for family, names in FAMILIES.items() if feature in names), "other")


def _families_of(features: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(_family(name) for name in features))


def _in_families(features: Sequence[str]) -> tuple[list[str], list[float]]:
    """Return the features in the order of the families, and where rules between them go."""
    known = [name for names in FAMILIES.values() for name in names if name in features]
    ordered = [*known, *[name for name in features if name not in known]]
    families = [_family(name) for name in ordered]
    return ordered, [k - 0.5 for k in range(1, len(ordered)) if families[k] != families[k - 1]]


def _range(counts: Sequence[int]) -> str:
    if not counts:
        return "0"
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"
