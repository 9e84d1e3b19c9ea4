"""How well accuracy drops are predicted, beside controls without a graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from espalier.errors import DataError, unknown_name
from espalier.figures.prediction_features import (
    density_correlation,
    feature_importance,
    layer_measures,
    pearson_weights,
)
from espalier.figures.prediction_parts import (
    DASHED,
    FAMILY_LOOKS,
    OTHER_LOOK,
    draw_interval,
    point_handle,
    problems_of,
    refuse_repeated,
    setting_words,
    settings_by_kind,
    spaced,
    with_numbers,
    without_reference,
)
from espalier.figures.prediction_ranking import overlap_by_strategy, ranks_by_sparsity
from espalier.figures.style import (
    FAINT,
    GREY,
    GRID,
    INK,
    OKABE_ITO,
    SERIES_COLOURS,
    SERIES_MARKERS,
    SMALL_SIZE,
    display_name,
    frame,
    halo,
    new_figure,
    series_style,
    styled,
)
from espalier.figures.tables import count_in_words, in_order, keep, numbers, require, where

#: What a bootstrap draws, in words.
_BLOCKS = {
    "configuration": "configurations",
    "model x dataset": "pairs of architecture and data set",
}

#: Feature sets of the unrolled and of the rolled encodings.
TOPOMETRICS_ALONE = ("topometrics", "layerwise")


@styled
def regression_by_setting(
    regression: pd.DataFrame, *, protocol: str = "published", regressor: str | None = None
) -> Figure:
    """Draw adjusted R2 and mean absolute error of every encoding, setting by setting.

    Args:
        regression: one row per encoding, protocol, setting, features and regressor with these
            columns and n, runs, adjusted_r2, adjusted_r2_sd (over runs; NaN for none), mae and,
            where the paper has the cell, published_adjusted_r2 and published_mae. The rows of
            topometrics alone are drawn. As in all tables of a prediction, rows whose column
            problem says why they have no number are left out.
        protocol: whose rows.
        regressor: whose rows; None is the first of the table, a mean over regressors.

    Raises:
        DataError: the table is empty, lacks columns or rows, or has a cell twice.

    Source: Cunegatti et al. (2024), Table 3.
    """
    keys = ["encoding", "protocol", "setting", "features", "regressor"]
    require(regression, "regression", [*keys, "n", "runs", "adjusted_r2", "adjusted_r2_sd", "mae"])
    table = keep(with_numbers(regression, "regression"), "regression", "protocol", protocol)
    regressor = regressor or in_order(table, "regressor")[0]
    table = keep(table, "regression", "regressor", regressor)
    table = table.loc[np.isin(np.asarray(table["features"], dtype=str), TOPOMETRICS_ALONE)]
    if table.empty:
        raise DataError(
            f"the regression table has no row with the features {' or '.join(TOPOMETRICS_ALONE)}"
        )
    refuse_repeated(table, "regression", ["encoding", "setting"])
    encodings = in_order(table, "encoding")
    parts = settings_by_kind(in_order(table, "setting"))
    widths = [len(settings) for settings in parts.values()]
    figure = new_figure(1.0 + 0.72 * sum(widths), 4.2)
    panels = figure.subplots(
        2, len(parts), squeeze=False, sharey="row", gridspec_kw={"width_ratios": widths}
    )
    rows = (
        ("adjusted_r2", "adjusted_r2_sd", "published_adjusted_r2", "adjusted R²"),
        ("mae", None, "published_mae", "mean absolute error\n(share of dense accuracy)"),
    )
    printed = False
    for column, (title, settings) in enumerate(parts.items()):
        for row, (measure, deviation, published, label) in enumerate(rows):
            axes = panels[row, column]
            for index, encoding in enumerate(encodings):
                own = where(table, encoding=encoding).set_index("setting").reindex(settings)
                shift = (index - (len(encodings) - 1) / 2) * 0.22
                place = np.arange(len(settings)) + shift
                look = series_style(index)
                half = np.nan_to_num(numbers(own, deviation)) if deviation else None
                axes.errorbar(
                    place, numbers(own, measure), yerr=half, fmt=look["marker"],
                    color=look["color"], markersize=4.5, elinewidth=0.9, capsize=2, zorder=3,
                )  # fmt: skip
                if published in own.columns and np.isfinite(numbers(own, published)).any():
                    printed = True
                    axes.plot(
                        place, numbers(own, published), linestyle="none", marker="_",
                        color=INK, markersize=11, markeredgewidth=1.1, zorder=4, gid="published",
                    )  # fmt: skip
            axes.set_xlim(-0.5, len(settings) - 0.5)
            axes.set_xticks(np.arange(len(settings)), [setting_words(name) for name in settings])
            axes.grid(False, axis="x")
            for line in np.arange(len(settings) - 1) + 0.5:
                axes.axvline(line, color=GRID, linewidth=0.6, zorder=0)
            if row == 0:
                axes.set_title(title, loc="left")
                axes.tick_params(labelbottom=False)
                axes.axhline(0, color=GREY, linewidth=0.7, zorder=1)
            if column == 0:
                axes.set_ylabel(label)
    panels[1, 0].set_ylim(bottom=0)
    networks = table.rename(columns={"n": "networks"})
    split = (
        "Split of the papers: a fifth of the networks at random, so that other seeds of a test "
        "network are in training"
        if protocol == "published"
        else f"Split: {spaced(protocol)}"
    )
    caption = (
        f"{split}. Regressors: {spaced(regressor)}. Means over folds, regressors and "
        f"n = {count_in_words(table, 'runs')}; bars: ± 1 standard deviation over runs (often "
        f"smaller than the mark). n = {count_in_words(networks, 'networks')} per setting."
    )
    handles: list[Artist] = [
        point_handle(series_style(k)["color"], series_style(k)["marker"], display_name(encoding))
        for k, encoding in enumerate(encodings)
    ]
    if printed:
        handles.append(point_handle(INK, "_", "published", size=11))
    frame(figure, "Accuracy drop from topometrics alone", caption, handles, 1.4)
    return figure


@styled
def observed_vs_predicted(
    predictions: pd.DataFrame, predictors: Sequence[str] = ("topometrics", "no graph")
) -> Figure:
    """Draw the predicted against the observed accuracy drop of every network, out of fold.

    A column of panels per protocol and a row per predictor, points in the colour of their
    architecture, the line of equal values, and in every panel n, R2 and mean absolute error.

    Args:
        predictions: one row per network, protocol and predictor with protocol, predictor, model,
            observed and predicted.
        predictors: which rows of panels.

    Raises:
        DataError: the table is empty, lacks columns or a predictor, or has a value that is not
            finite.
    """
    require(predictions, "predictions", ["protocol", "predictor", "model", "observed", "predicted"])
    known = with_numbers(predictions, "predictions")
    predictions = pd.concat([keep(known, "predictions", "predictor", k) for k in predictors])
    values = predictions[["observed", "predicted"]].to_numpy(float)
    if not np.isfinite(values).all():
        raise DataError("the predictions table has a drop that is missing or infinite: drop it")
    protocols, kinds = in_order(predictions, "protocol"), list(predictors)
    models = in_order(predictions, "model")
    figure = new_figure(0.6 + 1.9 * len(protocols), 0.35 + 1.9 * len(kinds))
    panels = figure.subplots(len(kinds), len(protocols), squeeze=False, sharex=True, sharey=True)
    low, high = float(values.min()), float(values.max())
    room = 0.04 * (high - low)
    for (row, column), axes in np.ndenumerate(panels):
        own = where(predictions, protocol=protocols[column], predictor=kinds[row])
        if row == 0:
            axes.set_title(spaced(protocols[column]), loc="left")
        if row == len(kinds) - 1:
            axes.set_xlabel("observed drop")
        if column == 0:
            axes.set_ylabel(f"{spaced(kinds[row])}\npredicted drop")
        if own.empty:
            axes.set_visible(False)
            continue
        axes.plot([low, high], [low, high], color=INK, linewidth=0.8, linestyle=DASHED, zorder=2)
        for index, model in enumerate(models):
            points = where(own, model=model)
            axes.plot(
                numbers(points, "observed"), numbers(points, "predicted"), linestyle="none",
                marker=SERIES_MARKERS[index % len(SERIES_MARKERS)], markersize=2.6,
                markeredgewidth=0, alpha=0.55, zorder=3, rasterized=len(own) > 300,
                color=SERIES_COLOURS[index % len(SERIES_COLOURS)],
            )  # fmt: skip
        axes.set_aspect("equal")
        axes.set_xlim(low - room, high + room)
        axes.set_ylim(low - room, high + room)
        axes.text(
            0.97, 0.04, _fit_in_words(own), transform=axes.transAxes, va="bottom", ha="right",
            fontsize=SMALL_SIZE, linespacing=1.25, zorder=5, gid="fit", path_effects=[halo()],
        )  # fmt: skip
    caption = (
        "Accuracy drop: share of the dense network's accuracy that is lost; one point per network, "
        "predicted out of fold. Dashed: predicted = observed. R² over all points of a panel; MAE: "
        "mean absolute error."
    )
    handles = [
        point_handle(SERIES_COLOURS[k % 6], SERIES_MARKERS[k % 6], display_name(model))
        for k, model in enumerate(models)
    ]
    frame(figure, "Observed and predicted accuracy drop, out of fold", caption, handles, 1.2)
    return figure


@styled
def honest_splits(honest: pd.DataFrame, *, reference: str = "no graph") -> Figure:
    """Draw, per protocol, scores of topometrics and of controls without a graph, with intervals.

    A row per predictor under the name of its protocol. Left: R2 and mean absolute error; right: the
    differences from a control on the same bootstrap draws, with an open mark where the interval
    holds 0.

    Args:
        honest: one row per protocol, predictor, minus and measure with these columns (minus: empty
            for a score, else the control that it is compared with; measure: "r2" or "mae", others
            are not drawn), family (of `FAMILY_LOOKS`), value, low, high, groups and blocks (what
            the bootstrap draws).
        reference: the control of the differences.

    Raises:
        DataError: the table is empty, lacks columns, or has no score or no difference from the
            reference.
    """
    keys = ["protocol", "predictor", "minus", "measure"]
    require(honest, "honest", [*keys, "family", "value", "low", "high", "groups", "blocks"])
    drawn = with_numbers(honest, "honest")
    refuse_repeated(drawn, "honest", keys)
    drawn = drawn.loc[np.isin(np.asarray(drawn["measure"], dtype=str), ("r2", "mae"))]
    alone = without_reference(drawn)
    levels, gains = drawn.loc[alone], where(drawn, minus=reference)
    if levels.empty or gains.empty:
        raise DataError(
            "the honest table needs scores (minus empty) and differences from the reference "
            f"{reference!r} (minus named)"
        )
    places: dict[tuple[str, str], float] = {}
    headers: dict[str, float] = {}
    row = 0.0
    for protocol in in_order(levels, "protocol"):
        headers[protocol] = row
        for predictor in in_order(where(levels, protocol=protocol), "predictor"):
            row += 1
            places[protocol, predictor] = row
        row += 1.3
    figure = new_figure(9.6, 0.7 + 0.19 * row)
    panels = figure.subplots(1, 4, sharey=True)
    columns = (
        ("r2", levels, "R² (1 is perfect)"),
        ("mae", levels, "mean absolute error"),
        ("r2", gains, "difference of R²\n(right of 0: better)"),
        ("mae", gains, "difference of error\n(left of 0: better)"),
    )
    for axes, (measure, table, label) in zip(panels, columns, strict=True):
        for point in where(table, measure=measure).to_dict("records"):
            place = places.get((point["protocol"], point["predictor"]))
            if place is not None:
                look = FAMILY_LOOKS.get(point["family"], OTHER_LOOK)
                draw_interval(axes, point, place, look, edge=1.0 if measure == "r2" else np.inf)
        axes.axvline(0, color=INK, linewidth=0.8, zorder=1.5)
        for start in list(headers.values())[1:]:
            axes.axhline(start - 0.65, color=FAINT, linewidth=0.6)
        axes.set_xlabel(label)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    panels[0].set_ylim(row - 0.8, -0.7)
    panels[0].set_yticks(
        [*headers.values(), *places.values()],
        [*map(spaced, headers), *[spaced(predictor) for _, predictor in places]],
    )
    for label in panels[0].get_yticklabels()[: len(headers)]:
        label.set_fontweight("bold")
    drawn_from: dict[str, list[str]] = {}
    for protocol in headers:
        words = _groups(where(levels, protocol=protocol))
        drawn_from.setdefault(words, []).append(spaced(protocol))
    counts = "; ".join(f"{words} ({', '.join(names)})" for words, names in drawn_from.items())
    families = [name for name in FAMILY_LOOKS if name in set(levels["predictor"])]
    chosen = f"{', '.join(families)}: what inner validation chose. " if families else ""
    caption = (
        "Pooled out-of-fold predictions of all networks. Bars: 95 % bootstrap intervals over "
        f"groups of networks, n = {counts}. {chosen}Differences: from {reference}, on the same "
        "draws; open mark: the interval holds 0. Arrow heads: the interval, or the value written "
        "there, lies beyond the edge."
    )
    handles = [
        point_handle(colour, marker, family)
        for family, (colour, marker) in FAMILY_LOOKS.items()
        if family in set(levels["family"])
    ]
    frame(figure, "What topology adds under honest splits", caption, handles, 1.4)
    return figure


@styled
def interval_calibration(calibration: pd.DataFrame) -> Figure:
    """Draw how often intervals of left-out networks hold the observed drop, against their level.

    Left: nominal against observed coverage, a thin line per left-out level and a thick one for all
    networks. Right: the coverage of each at the highest level that is drawn, and the mean length.

    Args:
        calibration: one row per left-out level and nominal level with left_out (its name), nominal
            (0 to 1), networks, covered (share) and length (mean, in shares of dense accuracy).

    Raises:
        DataError: the table is empty, lacks columns, has a pair twice, or a share outside [0, 1].
    """
    require(calibration, "calibration", ["left_out", "nominal", "networks", "covered", "length"])
    calibration = with_numbers(calibration, "calibration")
    refuse_repeated(calibration, "calibration", ["left_out", "nominal"])
    shares = calibration[["nominal", "covered"]].to_numpy(float)
    if not ((shares >= 0) & (shares <= 1)).all():
        raise DataError("the calibration table has a share outside 0 to 1")
    levels = np.unique(numbers(calibration, "nominal"))
    names = in_order(calibration, "left_out")
    figure = new_figure(8.4, max(3.2, 0.9 + 0.2 * len(names)))
    left, middle, right = figure.subplots(1, 3, gridspec_kw={"width_ratios": [1.25, 1, 1]})
    for name in names:
        line = where(calibration, left_out=name).sort_values("nominal")
        left.plot(
            100 * numbers(line, "nominal"), 100 * numbers(line, "covered"), color=FAINT,
            linewidth=0.9, marker="o", markersize=2.2, zorder=2,
        )  # fmt: skip
    pooled = [_pooled(where(calibration, nominal=level)) for level in levels]
    left.plot(
        100 * levels, [100 * value for value in pooled], color=OKABE_ITO["blue"], marker="o",
        linewidth=1.6, zorder=3, gid="pooled",
    )  # fmt: skip
    ends = [100 * levels[0], 100 * levels[-1]] if len(levels) > 1 else [0, 100]
    left.plot(ends, ends, color=INK, linewidth=0.9, linestyle=DASHED, zorder=2.5)
    left.set_xlabel("nominal level of the interval (%)")
    left.set_ylabel("networks whose drop it holds (%)")
    left.set_ylim(top=101)
    highest = where(calibration, nominal=levels[-1])
    order = highest.iloc[np.argsort(numbers(highest, "covered"), kind="stable")]
    place = np.arange(len(order))
    middle.plot(
        100 * numbers(order, "covered"),
        place,
        linestyle="none",
        marker="o",
        color=OKABE_ITO["blue"],
    )
    middle.axvline(100 * levels[-1], color=INK, linewidth=0.9, linestyle=DASHED, zorder=1.5)
    middle.set_xlabel(f"networks whose drop it holds\nat the level {100 * levels[-1]:.3g} % (%)")
    middle.set_yticks(
        place,
        [
            f"{', '.join(map(display_name, name.split(', ')))} (n = {int(n)})"
            for name, n in zip(order["left_out"], order["networks"], strict=True)
        ],
    )
    right.plot(
        numbers(order, "length"), place, linestyle="none", marker="D", color=SERIES_COLOURS[2]
    )
    right.set_xlim(0, 1.08 * float(numbers(order, "length").max()))
    right.set_xlabel("mean length of the interval\n(share of dense accuracy)")
    right.set_yticks(place, [])
    for axes in (middle, right):
        axes.set_ylim(len(order) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
    total = int(numbers(highest, "networks").sum())
    caption = (
        "Intervals of predictors that were fitted without the named level; each level's networks "
        f"are then predicted ({total} networks in all). Dashed: as often as promised; above it "
        "intervals are too wide, below too narrow. No bars: a level is one sample."
    )
    handles = [
        Line2D([], [], color=OKABE_ITO["blue"], marker="o", label="all networks"),
        Line2D([], [], color=FAINT, marker="o", markersize=2.5, label="one level left out"),
    ]
    frame(figure, "Calibration of the intervals of left-out networks", caption, handles)
    return figure


#: By the names of `espalier.figures.needs.PREDICTION`: what draws the figure from its one table.
_DRAWINGS: Mapping[str, Callable[[pd.DataFrame], Figure]] = {
    "regression_by_setting": regression_by_setting,
    "pearson_weights": pearson_weights,
    "importance_of_drop": functools.partial(feature_importance, task="drop"),
    "importance_of_category": functools.partial(feature_importance, task="category"),
    "importance_of_pruner": functools.partial(feature_importance, task="pruner"),
    "layer_measures": layer_measures,
    "density_correlation": density_correlation,
    "observed_vs_predicted": observed_vs_predicted,
    "honest_splits": honest_splits,
    "interval_calibration": interval_calibration,
    "ranks_by_sparsity": ranks_by_sparsity,
    "overlap_by_strategy": overlap_by_strategy,
}


def draw_prediction(figure: str, table: pd.DataFrame) -> Figure:
    """Draw a figure of the prediction stage from its table.

    Where a table cannot give the figure because rows of it have a problem in place of numbers (too
    few networks for the features, a single data set), the figure says so in words: a small pool of
    networks is no fault.

    Args:
        figure: a key of `espalier.figures.needs.PREDICTION`.
        table: the one table that it names.

    Raises:
        ConfigurationError: no figure has this name.
        DataError: the table is empty or lacks columns, or rows without any problem.
    """
    if figure not in _DRAWINGS:
        raise unknown_name("figure of a prediction", figure, _DRAWINGS)
    try:
        return _DRAWINGS[figure](table)
    except DataError as error:
        reasons = problems_of(table)
        if not reasons:
            raise
        return _in_words(display_name(figure), str(error), reasons)


@styled
def _in_words(title: str, error: str, problems: Sequence[str]) -> Figure:
    drawn = new_figure(7.0, 0.4)
    words = f"Not drawn: {error}. Problems in the table: {'; '.join(problems)}."
    frame(drawn, title.capitalize(), words)
    return drawn


def _pooled(rows: pd.DataFrame) -> float:
    return float(np.average(numbers(rows, "covered"), weights=numbers(rows, "networks")))


def _groups(levels: pd.DataFrame) -> str:
    found = dict.fromkeys(zip(levels["groups"], levels["blocks"], strict=True))
    return " or ".join(f"{int(n)} {_BLOCKS.get(blocks, spaced(blocks))}" for n, blocks in found)


def _fit_in_words(own: pd.DataFrame) -> str:
    observed, predicted = numbers(own, "observed"), numbers(own, "predicted")
    total = float(((observed - observed.mean()) ** 2).sum())
    r2 = 1 - float(((observed - predicted) ** 2).sum()) / total if total > 0 else float("nan")
    return f"n = {len(own)}\nR² = {r2:.2f}\nMAE = {np.abs(observed - predicted).mean():.3f}"
