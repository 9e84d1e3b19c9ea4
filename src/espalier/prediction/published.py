"""Readers of the tables published with the sparse-topology papers, as one tidy table.

The published folder holds `graph_metrics` (encodings unrolled, rolled and rolled_channel) and
`ramanunjan_results`. The unrolled table has one row per network, the others one per layer, under
two generations of column names. Every reader says in a report what it renamed, dropped or filled.

Source: Cunegatti et al., "Understanding Sparse Neural Networks from their Topology via Multipartite
Graph Representations" (TMLR 2024) and its arXiv version.
"""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from espalier.errors import ConfigurationError, DataError, unknown_name
from espalier.files import FilePath
from espalier.prediction.features import (
    KEYS,
    LAYERWISE,
    LOCAL,
    RAMANUJAN,
    complete_rows,
    group_codes,
    require_columns,
    require_unique,
    rows_and_columns,
)
from espalier.topology.topometrics import TOPOMETRICS

ENCODINGS: Mapping[str, str] = {
    "unrolled": "unrolled",
    "rolled": "rolled",
    "rolled-channel": "rolled_channel",
}
"""Encodings and their published folders."""

RENAMED: Mapping[str, str] = {
    "pruning_algorithm": "pruning",
    "bridges": "cut-edges",
    "a_point": "cut-nodes",
    "motifs_count": "motif",
    "nei_one_hop": "1-hop_nei",
    "strenght_all": "avg_node_strength",
    "coreness_all": "k-core",
    "strong_clusters": "no_connected_components",
    "mean_strong": "mean_connected_components",
    "spectral_gap_weighted_undirected": "spectral_gap",
    "spectral_radius_laplacian_weighted_undirected": "spectral_radius",
}
"""Column names of the older generation, and what they are now."""

TMLR_MODELS = ("CONV-6", "Resnet-20", "Resnet-32", "Wide-Resnet-28-2")
TMLR_PRUNERS = ("er", "erk", "grasp", "prospr", "snip", "synflow", "uniform")
ARXIV_MODELS = ("CONV-6", "MobileNetV2", "Resnet-20", "Wide-Resnet-28-2")
ARXIV_PRUNERS = (*TMLR_PRUNERS, "dsr", "itop", "rigl", "snfs")

DENSE_ACCURACY: Mapping[tuple[str, str], float] = {
    ("CIFAR-10", "CONV-6"): 0.932,
    ("CIFAR-10", "Resnet-20"): 0.917,
    ("CIFAR-10", "Resnet-32"): 0.923,
    ("CIFAR-10", "Wide-Resnet-28-2"): 0.944,
    ("CIFAR-10", "MobileNetV2"): 0.938,
    ("CIFAR-100", "CONV-6"): 0.685,
    ("CIFAR-100", "Resnet-20"): 0.664,
    ("CIFAR-100", "Resnet-32"): 0.680,
    ("CIFAR-100", "Wide-Resnet-28-2"): 0.742,
    ("CIFAR-100", "MobileNetV2"): 0.743,
    ("tinyimagenet", "CONV-6"): 0.461,
    ("tinyimagenet", "Resnet-20"): 0.463,
    ("tinyimagenet", "Resnet-32"): 0.480,
    ("tinyimagenet", "Wide-Resnet-28-2"): 0.486,
    ("tinyimagenet", "MobileNetV2"): 0.541,
}
"""Mean accuracy of the dense networks by (data set, model): TMLR, appendix B, tables 8 to 10."""

PROJECT_NAMES: Mapping[str, Mapping[str, str]] = {
    "dataset": {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100", "tinyimagenet": "tiny_imagenet"},
    "model": {
        "CONV-6": "conv6",
        "Resnet-20": "resnet20",
        "Resnet-32": "resnet32",
        "Wide-Resnet-28-2": "wide_resnet28_2",
        "MobileNetV2": "mobilenet_v2",
    },
    "pruning": {"itop": "set_itop"},
}
"""This project's names for published ones; those not listed are the same."""

COLUMNS = ("accuracy", *KEYS, "nodes", "edges", *TOPOMETRICS, "dense", "drop")
"""The tidy table of networks, as the workflow writes it for the project's own."""

BASELINES = ("layer_density", *RAMANUJAN)

_PER_EDGE = ("motif", "cut-edges", "cut-nodes", "1-hop_nei", "k-core", "avg_node_strength")
_LAYER = ("layer_id", "layer_name", "layer_sparsity", "nodes", "edges")


@dataclass
class ReadingReport:
    """What a reader met and did.

    Attributes:
        files: read, as paths inside the published folder.
        older_names: those of them with the older generation of column names.
        rows: read in all, before the choice of models and pruners.
        blank_rows: rows without any value, dropped.
        duplicate_rows: exact copies of an earlier row, dropped.
        networks: in the table that was returned.
        collapsed: networks without a value for some topometric, as (pruning, sparsity, model,
            dataset, seed); training them ended at chance level, and they are left out unless kept.
        missing: networks of the full design that no row is for.
        negative_fractions: networks with a share of nodes below 0 (kept as they are).
        empty_layers: layers without an edge; their values per edge are set to 0.
        undefined_spectra: layers whose spectral values are missing and are set to 0.
    """

    files: list[str] = field(default_factory=list)
    older_names: list[str] = field(default_factory=list)
    rows: int = 0
    blank_rows: int = 0
    duplicate_rows: int = 0
    networks: int = 0
    collapsed: list[tuple[object, ...]] = field(default_factory=list)
    missing: list[tuple[object, ...]] = field(default_factory=list)
    negative_fractions: int = 0
    empty_layers: int = 0
    undefined_spectra: int = 0

    def lines(self) -> list[str]:
        """Return the report as plain sentences."""
        said = [
            f"{len(self.files)} files ({len(self.older_names)} with older column names), "
            f"{self.rows} rows: {self.networks} networks"
        ]
        counts = {
            "blank rows dropped": self.blank_rows,
            "duplicate rows dropped": self.duplicate_rows,
            "networks without some topometric": len(self.collapsed),
            "networks of the design missing": len(self.missing),
            "networks with a negative share of nodes": self.negative_fractions,
            "layers without edges": self.empty_layers,
            "layers whose spectra are set to 0": self.undefined_spectra,
        }
        return said + [f"{count} {what}" for what, count in counts.items() if count]


class PublishedTable(NamedTuple):
    """A tidy table and how it came about."""

    table: pd.DataFrame
    report: ReadingReport


def read_published(
    folder: FilePath,
    encoding: str = "unrolled",
    *,
    models: Sequence[str] | None = None,
    pruners: Sequence[str] | None = None,
    keep_collapsed: bool = False,
    names: str = "published",
) -> PublishedTable:
    """Read the published networks of one encoding.

    Args:
        folder: the published folder, with `graph_metrics` inside.
        encoding: "unrolled", "rolled" or "rolled-channel".
        models: published names to keep, for example `TMLR_MODELS`; None keeps all.
        pruners: likewise.
        keep_collapsed: whether networks without some topometric stay, with NaN.
        names: "published", or "project" for this project's names of data sets, models and pruners.

    Returns:
        One row per network with the columns `COLUMNS`; the rolled encodings have the ten
        topometrics of `LAYERWISE`, and "layer_density" at the end. Rows are sorted by key.

    Raises:
        ConfigurationError: the encoding, a model or a pruner is unknown.
        DataError: a file is missing or damaged, a column is missing, or two rows differ under
            one key.
    """
    if encoding not in ENCODINGS:
        raise unknown_name("encoding", encoding, ENCODINGS)
    if encoding == "unrolled":
        table, report = _read_unrolled(Path(folder))
        columns = TOPOMETRICS
    else:
        layers, report = read_layers(folder, encoding)
        table = aggregate_layers(layers)
        columns = LAYERWISE
    table = _chosen(table, models, pruners)
    report.missing = _missing_of_design(table)
    complete = complete_rows(table, columns)
    report.collapsed = _names(rows_and_columns(table, ~complete))
    if not keep_collapsed:
        table = rows_and_columns(table, complete)
    fractions = rows_and_columns(table, None, [c for c in LOCAL if c in table]).to_numpy(float)
    report.negative_fractions = int((fractions < 0).any(axis=1).sum())
    report.networks = len(table)
    order = np.argsort(group_codes(table, KEYS), kind="stable")
    table = with_drop(rows_and_columns(table, order).reset_index(drop=True))
    ordered = [c for c in (*COLUMNS, "layer_density") if c in table.columns]
    table = rows_and_columns(table, None, ordered)
    if names == "project":
        table = with_project_names(table)
        report.collapsed = [_project_key(key) for key in report.collapsed]
        report.missing = [_project_key(key) for key in report.missing]
    elif names != "published":
        raise unknown_name("kind of names", names, ("published", "project"))
    return PublishedTable(table, report)


def read_layers(folder: FilePath, encoding: str) -> PublishedTable:
    """Read the published layers of a rolled encoding under the newer column names.

    Returns:
        One row per layer in the files' own order: accuracy, the key of the network, layer_id,
        layer_name, layer_sparsity (which is the layer's density), nodes, edges, and the ten
        topometrics of `LAYERWISE`, not normalised.

    Raises:
        ConfigurationError: the encoding is unknown or has no layers.
        DataError: a file is missing or damaged, a column is missing, or a layer comes twice.
    """
    if encoding not in ENCODINGS or encoding == "unrolled":
        raise unknown_name(
            "encoding by layers", encoding, [e for e in ENCODINGS if e != "unrolled"]
        )
    report = ReadingReport()
    wanted = ("accuracy", *KEYS, *_LAYER, *LAYERWISE)
    root = Path(folder)
    parts = []
    for path in _files(root / "graph_metrics" / ENCODINGS[encoding]):
        part, older = _read_csv(path, wanted)
        name = path.relative_to(root).as_posix()
        report.files.append(name)
        report.rows += len(part)
        if older:
            report.older_names.append(name)
        parts.append(part)
    layers, report.blank_rows, report.duplicate_rows = _cleaned(
        pd.concat(parts, ignore_index=True), (*KEYS, "layer_id"), f"{encoding} layers"
    )
    report.empty_layers = int((layers["edges"].to_numpy() == 0).sum())
    report.undefined_spectra = int((~complete_rows(layers, ["spectral_radius"])).sum())
    report.networks = len(np.unique(group_codes(layers, KEYS)))
    return PublishedTable(layers, report)


def aggregate_layers(layers: pd.DataFrame) -> pd.DataFrame:
    """Return one row per network: the plain mean of its layers' normalised topometrics.

    Counts and means (motif, cut edges and nodes, 1-hop, core, strength) are divided by the layer's
    own edges, the mean component by its nodes; the number of components and the spectra stay.
    What is undefined, in a layer without edges for example, counts as 0. The published numbers of
    the rolled encodings come out this way; the papers do not state the rule.

    Returns:
        accuracy, key, nodes and edges (sums over layers), `LAYERWISE`, layer_density (mean).

    Raises:
        DataError: a column is missing, or a network has layers of different accuracies.
    """
    require_columns(layers, ("accuracy", *KEYS, *_LAYER, *LAYERWISE), "the table of layers")
    normalised = layers.copy()
    edges = normalised["edges"].where(normalised["edges"] > 0)
    for column in _PER_EDGE:
        normalised[column] = normalised[column] / edges
    normalised["mean_connected_components"] /= normalised["nodes"]
    normalised[list(LAYERWISE)] = normalised[list(LAYERWISE)].fillna(0.0)
    groups: Any = normalised.groupby(list(KEYS), sort=True)
    differing = groups["accuracy"].nunique() > 1
    if differing.any():
        raise DataError(f"layers of one network differ in accuracy: {differing.idxmax()}")
    table = pd.concat(
        [
            groups["accuracy"].first(),
            groups[["nodes", "edges"]].sum(),
            groups[list(LAYERWISE)].mean(),
            groups["layer_sparsity"].mean().rename("layer_density"),
        ],
        axis=1,
    )
    return table.reset_index()


def read_ramanujan(folder: FilePath) -> PublishedTable:
    """Read the published Ramanujan measures of the layers, with the pruner of each.

    The published files lack the pruner. Their rows are those of the rolled tables of the same name,
    one for one; this is checked by accuracy, sparsity, seed and layer before the pruner is taken.

    Returns:
        One row per layer: accuracy, key, layer_id, layer_name, layer_sparsity (a density),
        iterative_spectral_gap, iterative_degree_bound, degree_bound (may be -inf).

    Raises:
        DataError: a file is missing or damaged, a column is missing, or rows do not match.
    """
    report = ReadingReport()
    root = Path(folder)
    measures = ("iterative_spectral_gap", "iterative_degree_bound", "degree_bound")
    shared = ("accuracy", "sparsity", "seed", "model", "dataset", "layer_id", "layer_name")
    parts = []
    for path in _files(root / "ramanunjan_results"):
        part, _ = _read_csv(path, (*shared, *measures, "layer_sparsity"))
        twin = root / "graph_metrics" / "rolled" / path.name
        rolled, _ = _read_csv(twin, (*shared, "pruning"))
        same = len(part) == len(rolled) and part[list(shared)].equals(rolled[list(shared)])
        if not same:
            raise DataError(
                f"{path} and {twin} do not hold the same layers in the same order, so that no "
                "pruner can be told; take both from one release"
            )
        part["pruning"] = rolled["pruning"]
        report.files.append(path.relative_to(root).as_posix())
        report.rows += len(part)
        parts.append(part)
    layers, report.blank_rows, report.duplicate_rows = _cleaned(
        pd.concat(parts, ignore_index=True), (*KEYS, "layer_id"), "Ramanujan layers"
    )
    report.networks = len(np.unique(group_codes(layers, KEYS)))
    ordered = ["accuracy", *KEYS, "layer_id", "layer_name", "layer_sparsity", *measures]
    return PublishedTable(rows_and_columns(layers, None, ordered), report)


def ramanujan_baselines(layers: pd.DataFrame) -> pd.DataFrame:
    """Return what the papers' baselines rank networks by, one row per network.

    Args:
        layers: the table of `read_ramanujan`.

    Returns:
        The key; layer_density: mean density of the layers; delta_r_imdb and lambda_imsg: mean
        iterative_degree_bound and iterative_spectral_gap of the layers that have one; delta_r:
        mean degree_bound of those same layers. NaN where no layer has one. The rule of delta_r
        is the best of those tried and gives only part of the published cells.

    Raises:
        DataError: a column is missing.
    """
    measures = ["degree_bound", "iterative_degree_bound", "iterative_spectral_gap"]
    require_columns(layers, (*KEYS, "layer_sparsity", *measures), "the table of layers")
    regular = layers["iterative_degree_bound"].notna()
    scored = layers[[*KEYS, "layer_sparsity", *measures]].copy()
    scored.loc[~regular, "degree_bound"] = np.nan
    groups: Any = scored.groupby(list(KEYS), sort=True)
    means = groups[["layer_sparsity", *measures]].mean()
    return means.set_axis(list(BASELINES), axis=1).reset_index()


def with_drop(
    table: pd.DataFrame, dense: Mapping[tuple[str, str], float] = DENSE_ACCURACY
) -> pd.DataFrame:
    """Return the table with "dense" and "drop" = (dense - accuracy) / dense.

    Args:
        table: with accuracy, dataset and model.
        dense: accuracy of the dense networks by (data set, model).

    Raises:
        DataError: no dense accuracy is known for some (data set, model).
    """
    require_columns(table, ("accuracy", "dataset", "model"))
    pairs = list(zip(table["dataset"], table["model"], strict=True))
    unknown = sorted(set(pairs) - set(dense))
    if unknown:
        raise DataError(f"no accuracy of dense networks is known for {unknown}; pass dense=")
    known = np.array([dense[pair] for pair in pairs], dtype=np.float64)
    return table.assign(dense=known, drop=(known - table["accuracy"].to_numpy(float)) / known)


def with_project_names(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with this project's names of data sets, models and pruners."""
    return table.assign(**{c: table[c].replace(dict(n)) for c, n in PROJECT_NAMES.items()})


def _project_key(key: tuple[object, ...]) -> tuple[object, ...]:
    names = [PROJECT_NAMES.get(column, {}) for column in KEYS]
    return tuple(known.get(str(part), part) for known, part in zip(names, key, strict=True))


def combine_pools(pools: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return tables of networks one below the other, with the column "pool" in front.

    Columns that every pool has are kept, in the order of the first.

    Raises:
        DataError: a pool lacks a key column or has two rows for one network.
        ConfigurationError: there is no pool.
    """
    if not pools:
        raise ConfigurationError("no pool of networks was given")
    for name, pool in pools.items():
        require_unique(pool, what=f"pool {name!r}")
    first = next(iter(pools.values()))
    shared = [c for c in first.columns if all(c in pool.columns for pool in pools.values())]
    parts = [pool[shared].assign(pool=name) for name, pool in pools.items()]
    combined = pd.concat(parts, ignore_index=True)
    return rows_and_columns(combined, None, ["pool", *shared])


# -- files ---------------------------------------------------------------------------------------


def _read_unrolled(root: Path) -> PublishedTable:
    report = ReadingReport()
    wanted = ("accuracy", *KEYS, "nodes", "edges", *TOPOMETRICS)
    parts = []
    for path in _files(root / "graph_metrics" / "unrolled"):
        part, older = _read_csv(path, wanted)
        name = path.relative_to(root).as_posix()
        report.files.append(name)
        if older:
            report.older_names.append(name)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    report.rows = len(table)
    table, report.blank_rows, report.duplicate_rows = _cleaned(table, KEYS, "unrolled networks")
    return PublishedTable(table, report)


def _files(folder: Path) -> list[Path]:
    paths = sorted(p for p in folder.rglob("*") if p.name.endswith((".csv", ".csv.gz")))
    if not paths:
        raise DataError(f"{folder} holds no .csv or .csv.gz file; give the published folder")
    return paths


def _read_csv(path: Path, wanted: Sequence[str]) -> tuple[pd.DataFrame, bool]:
    """Return the wanted columns under their newer names, and whether the file has older ones."""
    older = {old: new for old, new in RENAMED.items() if new in wanted}
    accepted = set(wanted) | set(older)
    try:
        head = pd.read_csv(path, nrows=0)
        part = pd.read_csv(path, usecols=lambda column: column in accepted)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; the published folder is not complete") from None
    except (OSError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise DataError(f"{path} is not a readable CSV ({error})") from error
    found = [old for old, new in older.items() if old in part and new not in part]
    part = part.rename(columns={old: older[old] for old in found})
    if any(column not in part for column in wanted):
        require_columns(head.rename(columns=older), wanted, str(path))
    return rows_and_columns(part, None, wanted), bool(found)


def _cleaned(table: pd.DataFrame, keys: Sequence[str], what: str) -> tuple[pd.DataFrame, int, int]:
    """Return the table without blank and duplicate rows, and how many of each there were."""
    blank = np.asarray(table.isna().to_numpy().all(axis=1))
    table = rows_and_columns(table, ~blank)
    unnamed = np.asarray(rows_and_columns(table, None, keys).isna().to_numpy().any(axis=1))
    if unnamed.any():
        raise DataError(f"{what}: row {table.index[unnamed][0]} lacks a value in {list(keys)}")
    duplicate = table.duplicated().to_numpy()
    table = rows_and_columns(table, ~duplicate).reset_index(drop=True)
    table = table.astype({"seed": np.int64, "sparsity": np.float64})
    require_unique(table, keys, what)
    return table, int(blank.sum()), int(duplicate.sum())


def _chosen(
    table: pd.DataFrame, models: Sequence[str] | None, pruners: Sequence[str] | None
) -> pd.DataFrame:
    for column, asked in (("model", models), ("pruning", pruners)):
        if asked is None:
            continue
        known = set(table[column])
        for name in asked:
            if name not in known:
                raise unknown_name(f"published {column}", name, known)
        table = rows_and_columns(table, np.isin(table[column].to_numpy(), list(asked)))
    return table


def _missing_of_design(table: pd.DataFrame) -> list[tuple[object, ...]]:
    levels = [sorted(table[column].unique().tolist()) for column in KEYS]
    there = set(_names(table))
    return [name for name in itertools.product(*levels) if name not in there]


def _names(table: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(rows_and_columns(table, None, KEYS).itertuples(index=False, name=None))
