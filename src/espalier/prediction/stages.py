"""The workflow's stages from tables of networks to the tables of prediction and ranking."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from espalier.errors import DataError
from espalier.files import FilePath, read_json, read_npz, read_table, write_json, write_table
from espalier.networks import network_of_path
from espalier.prediction.classification import CATEGORIES
from espalier.prediction.comparison import (
    comparison_rows,
    comparison_summary,
    with_printed_ablation,
    with_printed_classification,
    with_printed_regression,
)
from espalier.prediction.features import KEYS, rows_and_columns
from espalier.prediction.folder import folder_of
from espalier.prediction.honest import (
    calibration_rows,
    honest_rows,
    leave_one_out_rows,
    protocol_predictions,
)
from espalier.prediction.printed import printed_table
from espalier.prediction.published import (
    ARXIV_MODELS,
    ARXIV_PRUNERS,
    PROJECT_NAMES,
    TMLR_MODELS,
    TMLR_PRUNERS,
    read_published,
    read_ramanujan,
    with_project_names,
)
from espalier.prediction.ranking import overlaps, ranking_tables
from espalier.prediction.regression import settings_of
from espalier.prediction.strategies import (
    rank_rows,
    ranking_rows,
    strategy_is_of_topology,
    strategy_scores,
)
from espalier.prediction.tables import (
    ABLATION,
    ABLATION_SETS,
    ablation_rows,
    class_importance_rows,
    classification_rows,
    drop_importance_rows,
    has_layer_density,
    in_front,
    regression_means,
    regression_rows,
    trimmed_settings,
    with_layer_density,
    with_text,
)
from espalier.provenance import provenance

Options = Mapping[str, Any]

DESIGNS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "tmlr": (TMLR_MODELS, TMLR_PRUNERS),
    "arxiv": (ARXIV_MODELS, ARXIV_PRUNERS),
}
"""Models and pruners of the two papers, under their published names."""

AVERAGED = "averaged"
"""Name of the job for the regressors whose scores are averaged."""

_TMLR_DESIGN = "design of the TMLR paper, unrolled"


# -- pools ---------------------------------------------------------------------------------------


def read_published_tables(
    files: Sequence[FilePath],
    problem: str,
    networks: Mapping[str, FilePath],
    layers: FilePath,
    report: FilePath,
    code: str,
) -> None:
    """Write the published tables in the project's form and under its names.

    Args:
        files: CSV files of the published tables; none where they were not found.
        problem: then what to do.
        networks: CSV to write, by encoding: one row per network, all models and pruners.
        layers: CSV to write: one row per layer, with the Ramanujan measures.
        report: JSON to write: what was read, renamed, dropped and is missing, by table.
        code: digest of the code, for the record.

    Raises:
        DataError: there are no published tables, or they are damaged.
    """
    if not files:
        raise DataError(problem)
    source = folder_of(files)
    record = provenance(code, {"published": sorted(networks)}, None)
    reports: dict[str, Any] = {}
    ramanujan, reading = read_ramanujan(source)
    reports["ramanujan"] = asdict(reading)
    ramanujan = with_project_names(ramanujan)
    write_table(layers, ramanujan, record)
    for encoding, output in networks.items():
        table, reading = read_published(source, encoding, names="project")
        if encoding == "unrolled":
            table = with_layer_density(table, ramanujan)
        reports[encoding] = asdict(reading)
        write_table(output, table, record)
        print("\n".join([encoding, *reading.lines()]), file=sys.stderr)
    design = read_published(source, models=TMLR_MODELS, pruners=TMLR_PRUNERS, names="project")
    reports[_TMLR_DESIGN] = asdict(design.report)
    write_json(report, {**reports, "provenance": record})


def tabulate_layers(
    topometrics: FilePath, masks: Sequence[FilePath], output: FilePath, code: str
) -> None:
    """Write the density of every layer of the project's own networks, as the published tables do.

    Columns: accuracy, `KEYS`, layer_id, layer_name, layer_sparsity (which is a density).

    Args:
        topometrics: the table of networks, for their accuracies.
        masks: of all networks.
        output: CSV to write.
        code: digest of the code, for the record.
    """
    networks = read_table(topometrics)
    rows = []
    for path in masks:
        name = network_of_path(path)
        shares = dict(read_npz(path)[1]["achieved_sparsity"])
        shares.pop("total")
        for layer, (parameter, share) in enumerate(shares.items()):
            rows.append(
                {
                    "pruning": name.pruner,
                    "sparsity": name.sparsity,
                    "model": name.model,
                    "dataset": name.dataset,
                    "seed": name.seed,
                    "layer_id": layer,
                    "layer_name": parameter,
                    "layer_sparsity": 1 - share,
                }
            )
    table = rows_and_columns(networks, None, [*KEYS, "accuracy"]).merge(
        pd.DataFrame(rows), on=list(KEYS), how="inner", validate="one_to_many"
    )
    seeds = sorted({int(seed) for seed in table["seed"]})
    write_table(output, in_front(table, ["accuracy"]), provenance(code, {}, seeds))


def networks_of(
    topometrics: FilePath, layers: FilePath | None = None, design: str | None = None
) -> pd.DataFrame:
    """Return the networks of a pool that a paper's design has, all of them where it is None.

    Networks without an accuracy drop, because the dense networks' accuracy is 0 or not known, are
    refused; networks whose topometrics are not finite are left out and named.

    Raises:
        DataError: a drop is not finite.
    """
    table = read_table(topometrics)
    if design is not None:
        models, pruners = DESIGNS[design]
        keep = np.ones(len(table), dtype=bool)
        for column, names in (("model", models), ("pruning", pruners)):
            ours = [PROJECT_NAMES[column].get(name, name) for name in names]
            keep &= np.isin(table[column].to_numpy(dtype=str), ours)
        table = rows_and_columns(table, keep)
    if layers is not None:
        table = with_layer_density(table, read_table(layers))
    bad = np.asarray(~np.isfinite(table["drop"].to_numpy(np.float64)))
    if bad.any():
        raise DataError(
            f"{topometrics}: {int(bad.sum())} networks have no accuracy drop; were the dense "
            "networks trained?"
        )
    measured = table.select_dtypes("number").drop(columns="layer_density", errors="ignore")
    finite = np.asarray(np.isfinite(measured.to_numpy(np.float64)).all(axis=1))
    for name in rows_and_columns(table, ~finite, KEYS).itertuples(index=False, name=None):
        print(f"left out, because a topometric is not finite: {name}", file=sys.stderr)
    return rows_and_columns(table, finite).reset_index(drop=True)


# -- jobs ----------------------------------------------------------------------------------------


def regress_drop(
    topometrics: FilePath,
    layers: FilePath,
    output: FilePath,
    encoding: str,
    protocol: str,
    learner: str,
    design: str | None,
    options: Options,
    code: str,
) -> None:
    """Write the scores of repeated cross-validation of one encoding, protocol and learner.

    The papers' own cells have `runs` runs, controls and other splits `control_runs`, the other
    learners `learner_runs`. For a paper's design its cells are there twice: of all networks, and
    without those of `tables.trimmed_settings`, with a fifth of the runs.

    Args:
        topometrics, layers: tables of the pool.
        output: CSV to write, the table of `tables.regression_rows`.
        encoding: of the table.
        protocol: of the folds.
        learner: "averaged" for the averaged regressors, else the name of one regressor.
        design: "tmlr", or None for all networks.
        options: the section "prediction" of the configuration.
        code: digest of the code, for the record.
    """
    table = networks_of(topometrics, layers, design)
    plain = "topometrics" if encoding == "unrolled" else "layerwise"
    linear = learner == AVERAGED
    wanted = options["features"] if linear else options["learner_features"]
    if encoding != "unrolled":
        wanted = ["topometrics", "layer-density"]
    elif not has_layer_density(table):
        wanted = [features for features in wanted if "layer-density" not in features]
    usual = options["control_runs" if linear else "learner_runs"]
    runs = {features.replace("topometrics", plain): usual for features in wanted}
    if linear and protocol == "published":
        runs[plain] = options["runs"]
    regressors = options["regressors"] if linear else [learner]
    shared: dict[str, Any] = {"protocol": protocol, "encoding": encoding}
    shared |= {"folds": options["folds"], "seed": options["seed"]}
    rows = regression_rows(table, runs, regressors, **shared)
    if linear and protocol == "published" and design:
        # Where nothing is left out the splits and scores would be the same.
        whole = settings_of(table)
        fewer = trimmed_settings(table, whole)
        fewer = {name: kept for name, kept in fewer.items() if len(kept) < len(whole[name])}
        # Another run changes these by some 0.01; a fifth of the runs tells what the rule does.
        part = {plain: max(1, runs[plain] // 5)}
        again = regression_rows(
            table, part, regressors, settings=fewer, rows_of="trimmed", **shared
        )
        other = (rows["features"] == plain) & ~rows["setting"].isin(list(fewer))
        same = rows_and_columns(rows, np.asarray(other)).assign(rows="trimmed")
        rows = pd.concat([rows, again, same], ignore_index=True)
    write_table(output, rows, provenance(code, options, options["seed"]))


def tabulate_regression(
    parts: Sequence[FilePath],
    output: FilePath,
    trimmed: FilePath,
    cells: FilePath,
    means: FilePath,
    published: bool,
    code: str,
) -> None:
    """Gather the parts of a regression.

    Args:
        parts: tables of `regress_drop`.
        output: CSV to write: means over the linear regressors, and the other learners, by setting;
            for the published pool with the printed cells beside.
        trimmed: CSV to write: the same without the networks of `tables.trimmed_settings`.
        cells: CSV to write: every single regressor.
        means: CSV to write: means over settings.
        published: whether the pool is the published one.
        code: digest of the code, for the record.
    """
    tables = [read_table(part) for part in parts]
    rows = pd.concat(tables, ignore_index=True)
    # A job of several regressors has rows of their mean; they stand for it in the first table.
    many = np.concatenate([np.full(len(t), t["regressors"].max() > 1) for t in tables])
    one = rows["regressors"].to_numpy() == 1
    shown = rows_and_columns(rows, ~(many & one))
    record = provenance(code, {}, tables[0].attrs["provenance"]["seed"])
    beside = with_printed_regression(shown) if published else shown
    everything = beside["rows"].to_numpy() == "all"
    write_table(output, rows_and_columns(beside, everything), record)
    write_table(trimmed, rows_and_columns(beside, ~everything), record)
    write_table(cells, rows_and_columns(rows, one), record)
    write_table(means, regression_means(shown), record)


def regress_ablation(
    topometrics: FilePath,
    output: FilePath,
    design: str | None,
    options: Options,
    code: str,
) -> None:
    """Write R2 by data set and setting, as the arXiv paper's Tables 6 and 12.

    Args:
        topometrics: table of the pool.
        output: CSV to write: the table of `tables.ablation_rows`, by XGBoost, and for the
            sparsity or architecture alone by linear regression too, with `runs` runs; for a
            paper's design with the printed cells beside.
        design: "arxiv", or None for all networks.
        options: the section "prediction" of the configuration.
        code: digest of the code, for the record.
    """
    table = networks_of(topometrics, None, design)
    graph = {features: int(options["control_runs"]) for features in ABLATION_SETS}
    alone = {features: int(options["runs"]) for features in ABLATION}
    shared = {"folds": options["folds"], "seed": options["seed"]}
    # Both learners give the mean of a level; the linear one is cheap enough for many runs.
    parts = [
        ablation_rows(table, alone, ["linear"], **shared),
        ablation_rows(table, graph, ["xgboost"], **shared),
    ]
    rows = pd.concat(parts, ignore_index=True)
    rows = with_printed_ablation(rows) if design else rows
    write_table(output, rows, provenance(code, options, options["seed"]))


def predict_out_of_fold(
    topometrics: FilePath,
    layers: FilePath,
    output: FilePath,
    protocol: str,
    design: str | None,
    options: Options,
    code: str,
) -> None:
    """Write every network's drop predicted out of fold, candidates chosen by inner validation.

    Args:
        topometrics, layers: tables of the pool.
        output: CSV to write: the table of `honest.protocol_predictions`.
        protocol: of the folds.
        design: "tmlr", or None for all networks.
        options: the section "prediction" of the configuration.
        code: digest of the code, for the record.
    """
    table = networks_of(topometrics, layers, design)
    rows = protocol_predictions(table, protocol, folds=options["folds"], seed=options["seed"])
    write_table(output, rows, provenance(code, options, options["seed"]))


def tabulate_predictions(
    topometrics: FilePath,
    parts: Sequence[FilePath],
    predictions: FilePath,
    honest: FilePath,
    leave_one_out: FilePath,
    design: str | None,
    options: Options,
    code: str,
) -> None:
    """Gather out-of-fold predictions and score them, with intervals.

    Args:
        topometrics: table of the pool.
        parts: tables of `predict_out_of_fold`.
        predictions, honest, leave_one_out: CSV to write: the predictions, the tables of
            `honest.honest_rows` and `honest.leave_one_out_rows`.
        design: as in `predict_out_of_fold`.
        options: the section "prediction" of the configuration.
        code: digest of the code, for the record.
    """
    record = provenance(code, options, options["seed"])
    rows = _read_predictions(parts)
    write_table(predictions, rows, record)
    scores = honest_rows(rows, draws=options["draws"], seed=options["seed"])
    write_table(honest, scores, record)
    write_table(
        leave_one_out, leave_one_out_rows(rows, networks_of(topometrics, None, design)), record
    )


def calibrate_intervals(
    topometrics: FilePath, output: FilePath, design: str | None, options: Options, code: str
) -> None:
    """Write how often the predictor's intervals hold what they should.

    Args:
        topometrics: table of the pool.
        output: CSV to write: the table of `honest.calibration_rows`.
        design: as in `predict_out_of_fold`.
        options: the section "prediction" of the configuration.
        code: digest of the code, for the record.
    """
    table = networks_of(topometrics, None, design)
    rows = calibration_rows(table, options["levels"], options["seed"])
    write_table(output, rows, provenance(code, options, options["seed"]))


def classify_pruners(
    topometrics: FilePath,
    layers: FilePath,
    output: FilePath,
    target: str,
    design: str | None,
    acts: Mapping[str, str],
    options: Options,
    code: str,
) -> None:
    """Write how well pruners, or their categories, are told apart.

    Args:
        topometrics, layers: tables of the pool.
        output: CSV to write: the table of `tables.classification_rows`; for a paper's design with
            the printed cells beside.
        target: "category" or "pruner".
        design: "arxiv", or None for all networks.
        acts: when each pruner acts, where `classification.CATEGORIES` does not have it.
        options: the section "prediction" of the configuration.
        code: digest of the code, for the record.
    """
    table = networks_of(topometrics, layers, design)
    parts = []
    for features in options["class_features"]:
        # Layer densities are published for fewer architectures.
        known = None
        if "layer-density" in features:
            known = table["layer_density"].notna().to_numpy(bool)
        rows = classification_rows(
            rows_and_columns(table, known).reset_index(drop=True),
            target,
            [features],
            classifier=options["classifier"],
            categories={**acts, **CATEGORIES},
            runs=options["classification_runs"],
            folds=options["folds"],
            seed=options["seed"],
        )
        parts.append(rows)
    rows = pd.concat(parts, ignore_index=True)
    # Seeds are averaged before, so that no split of rows leaks them.
    rows["leak"] = ""
    rows = with_printed_classification(rows) if design else rows
    write_table(output, rows, provenance(code, options, options["seed"]))


def gather_tables(parts: Sequence[FilePath], output: FilePath, code: str) -> None:
    """Write tables of equal columns one below the other."""
    tables = [read_table(part) for part in parts]
    record = provenance(code, {}, tables[0].attrs["provenance"]["seed"])
    write_table(output, pd.concat(tables, ignore_index=True), record)


def measure_importance(
    topometrics: FilePath,
    output: FilePath,
    task: str,
    design: str | None,
    acts: Mapping[str, str],
    options: Options,
    code: str,
) -> None:
    """Write what predictors of the drop, or classifiers of pruners, lean on.

    Args:
        topometrics: table of the pool.
        output: CSV to write: the table of `tables.drop_importance_rows`.
        task: "drop", or "pruners" for all targets of the classification.
        design: "tmlr", "arxiv", or None for all networks.
        acts: when each pruner acts, where `classification.CATEGORIES` does not have it.
        options: the section "prediction" of the configuration.
        code: digest of the code, for the record.
    """
    table = networks_of(topometrics, None, design)
    shared = {"folds": options["folds"], "shuffles": options["shuffles"], "seed": options["seed"]}
    if task == "drop":
        rows = drop_importance_rows(table, **shared)
    else:
        rows = class_importance_rows(
            table,
            options["targets"],
            classifier=options["classifier"],
            categories={**acts, **CATEGORIES},
            **shared,
        )
    write_table(output, rows, provenance(code, options, options["seed"]))


def rank_strategies(
    topometrics: FilePath,
    layers: FilePath,
    predictions: FilePath,
    ranking: FilePath,
    overlap: FilePath,
    ranks: FilePath,
    design: str | None,
    options: Options,
    code: str,
) -> None:
    """Write how well strategies order pruners, with intervals.

    Args:
        topometrics, layers: tables of the pool.
        predictions: out-of-fold predictions of the pool.
        ranking, overlap, ranks: CSV to write: the tables of `strategies.ranking_rows`,
            `ranking.overlaps` and `strategies.rank_rows`.
        design: "tmlr", or None for all networks.
        options: the section "prediction" of the configuration.
        code: digest of the code, for the record.
    """
    record = provenance(code, options, options["seed"])
    table = networks_of(topometrics, layers, design)
    scores, problems = strategy_scores(table, read_table(layers), _read_predictions([predictions]))
    found = overlaps(table, scores)
    graph = [strategy_is_of_topology(str(name)) for name in found["strategy"]]
    rows = ranking_rows(found, problems, draws=options["draws"], seed=options["seed"])
    write_table(ranking, rows, record)
    write_table(overlap, in_front(found.assign(graph=graph), ["strategy", "graph"]), record)
    write_table(ranks, rank_rows(table, scores), record)


def recompute_ranking(
    topometrics: FilePath, layers: FilePath, report: FilePath, output: FilePath, code: str
) -> None:
    """Write TMLR Tables 4, 11 and 12, recomputed, with the printed cells beside.

    Args:
        topometrics, layers: tables of the published pool.
        report: of `read_published_tables`, for the networks that collapsed.
        output: CSV to write: the table of `ranking.ranking_tables`, with published and
            published_sd.
        code: digest of the code, for the record.
    """
    collapsed = [tuple(key) for key in read_json(report)[_TMLR_DESIGN]["collapsed"]]
    table = networks_of(topometrics, None, "tmlr")
    found = ranking_tables(table, read_table(layers), collapsed=collapsed)
    printed = printed_table("tmlr_tables_4_11_12").rename(
        columns={"mean": "published", "sd": "published_sd"}
    )
    keys = ["table", "model", "strategy", "sparsity"]
    rows = found.merge(printed, on=keys, how="left", validate="one_to_one")
    write_table(output, rows, provenance(code, {}, None))


def compare_with_papers(
    regression: FilePath,
    trimmed: FilePath,
    ablation: FilePath,
    classification: FilePath,
    ranking: FilePath,
    output: FilePath,
    summary: FilePath,
    code: str,
) -> None:
    """Write every printed cell beside ours, and how many agree.

    Args:
        regression, trimmed, ablation, classification, ranking: tables of the published pool.
        output: CSV to write: the table of `comparison.comparison_rows`.
        summary: CSV to write: the table of `comparison.comparison_summary`.
        code: digest of the code, for the record.
    """
    text = {"setting": "str", "sparsity": "str"}
    paths = (regression, trimmed, ablation, classification, ranking)
    tables = [read_table(path) for path in paths]
    tables = [t.astype({c: d for c, d in text.items() if c in t}) for t in tables]
    rows = comparison_rows(pd.concat(tables[:2], ignore_index=True), *tables[2:])
    record = provenance(code, {}, None)
    write_table(output, rows, record)
    write_table(summary, comparison_summary(rows), record)


def _read_predictions(parts: Sequence[FilePath]) -> pd.DataFrame:
    """Return predictions, whose empty texts a CSV does not tell from numbers that are missing."""
    rows = pd.concat([read_table(part) for part in parts], ignore_index=True)
    return with_text(rows, ("candidate", "problem", "leak"))
