"""Rank pruners for a network before training: prune, encode, measure, predict the drop, sort.

Only pruners that act before training can be ranked without training. What the order is worth is
measured in docs/ranking.md; on the published pool no ranking by topology is surely better than the
mean rank of each pruner on other data sets.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from espalier.errors import ConfigurationError, DataError, EspalierError
from espalier.prediction.predictor import LEVEL, Predictor, read_predictor
from espalier.pruning.registry import acts, names

if TYPE_CHECKING:
    from torch import Tensor, nn

PUBLISHED_PREDICTOR = Path(__file__).with_name("published_predictor.npz")
"""Fitted on the published networks of four architectures, seven pruners and three data sets."""

COLUMNS = ("rank", "rank_low", "rank_high", "pruning", "drop", "low", "high")
"""The first columns of a ranking."""


def pruners_before_training() -> tuple[str, ...]:
    """Return the names of the pruners that act before training, in alphabetical order."""
    return tuple(name for name in names() if acts(name) == "before")


def published_predictor() -> Predictor:
    """Return the predictor that comes with the package.

    Its topometrics are those of the published code; see `Predictor.encoding`.
    """
    return read_predictor(PUBLISHED_PREDICTOR)


def rank_pruners(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    sparsity: float,
    batches: Iterable[tuple[Tensor, Tensor]],
    predictor: Predictor | None = None,
    *,
    pruners: Sequence[str] | None = None,
    model_name: str = "",
    dataset_name: str = "",
    seed: int = 0,
    exclude: Collection[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    edges: str = "definition",
    level: float = LEVEL,
    max_bytes: int | None = None,
) -> pd.DataFrame:
    """Rank pruners by the accuracy drop that the topology of their networks predicts.

    Args:
        model: untrained, with the weights that training would start from; it is not changed.
        input_shape: (channels, height, width) of one input.
        sparsity: share of weights to remove, in [0, 1).
        batches: iterable of (inputs, labels), for pruners that need data; each starts it anew.
        predictor: None takes `published_predictor()`.
        pruners: names, or import paths or files of your own; None takes all that act before
            training.
        model_name, dataset_name: as the predictor knows them, for those that look at them.
        seed: root of the pruners' random draws.
        exclude: parameters that stay dense.
        options: of pruners, by name.
        edges: convention of the edges, "definition" or "published"; the latter has no graph for
            many networks. Normalisation and counting rules are always the predictor's.
        level: of the interval.
        max_bytes: the most that an explicit graph may take; None for the default of
            `espalier.topology.topometrics`.

    Returns:
        One row per pruner, the best first: rank (1 the lowest predicted drop, ties share the
        lower), rank_low and rank_high (the extremes over the predictor's folds, each fitted
        without some networks; no coverage is promised), pruning, drop, low, high, sparsity,
        achieved_sparsity, layer_density (mean over layers), collapsed_layers, nodes, edges, the
        topometrics that the predictor reads, outside (what no training network was like) and
        problem (why a pruner has no rank; such rows come last with NaN).

    Raises:
        ConfigurationError: a pruner is unknown or does not act before training, fewer than two are
            given, sparsity or level is out of range, or the predictor reads what cannot be
            computed here.
        EspalierError: fewer than two pruners give a network that can be measured; the message has
            the reason of each.
    """
    chosen = _checked_pruners(pruners)
    used = published_predictor() if predictor is None else predictor
    known = {
        "sparsity": float(sparsity),
        "model": model_name,
        "dataset": dataset_name,
        "seed": seed,
    }
    _check_required(used, known)
    used.predict_table(_typical(used), level)
    if not 0 <= sparsity < 1:
        raise ConfigurationError(f"sparsity is {sparsity}; it is the share removed, in [0, 1)")
    again = list(batches) if iter(batches) is batches else batches
    measured, problems = [], []
    for pruner in chosen:
        try:
            row = _measured(
                model,
                input_shape,
                pruner,
                sparsity,
                again.rewound() if hasattr(again, "rewound") else again,  # type: ignore[attr-defined]
                used,
                seed=seed,
                exclude=exclude,
                options=(options or {}).get(pruner, {}),
                edges=edges,
                max_bytes=max_bytes,
            )
            measured.append({"pruning": pruner, **known, **row})
        except EspalierError as error:
            problems.append({"pruning": pruner, **known, "problem": str(error)})
            print(f"{pruner}: {error}", file=sys.stderr)
    if len(measured) < 2:
        reasons = "; ".join(f"{row['pruning']}: {row['problem']}" for row in problems)
        raise EspalierError(f"only {len(measured)} pruner could be measured ({reasons})")
    return _ranked(pd.DataFrame(measured), problems, used, level)


def _checked_pruners(pruners: Sequence[str] | None) -> list[str]:
    chosen = list(pruners_before_training() if pruners is None else pruners)
    repeated = sorted({name for name in chosen if chosen.count(name) > 1})
    if repeated:
        raise ConfigurationError(f"pruners given twice: {', '.join(repeated)}")
    for name in chosen:
        if acts(name) != "before":
            raise ConfigurationError(
                f"pruner {name!r} acts {acts(name)} training, so that it cannot be ranked before; "
                f"take some of {', '.join(pruners_before_training())}"
            )
    if len(chosen) < 2:
        raise ConfigurationError(f"{len(chosen)} pruner given; a ranking needs two or more")
    return chosen


def _check_required(predictor: Predictor, known: Mapping[str, Any]) -> None:
    from espalier.topology.topometrics import NAMES

    available = {*known, "pruning", "layer_density", *NAMES}
    missing = [name for name in predictor.required if name not in available]
    if missing:
        raise ConfigurationError(
            f"the predictor reads {', '.join(missing)}, which are not computed here; fit one with "
            "topometrics alone"
        )


def _typical(predictor: Predictor) -> pd.DataFrame:
    """Return a row of numbers that were seen in training."""
    return pd.DataFrame(
        [{c.name: c.low if c.level is None else c.level for c in predictor.columns}]
    )


def _measured(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    pruner: str,
    sparsity: float,
    batches: Iterable[tuple[Tensor, Tensor]],
    predictor: Predictor,
    *,
    seed: int,
    exclude: Collection[str],
    options: Mapping[str, Any],
    edges: str,
    max_bytes: int | None,
) -> dict[str, Any]:
    """Return what is known of the network of one pruner."""
    from espalier.graphs.encodings import MAX_BYTES
    from espalier.graphs.layer_graph import layer_graph
    from espalier.pruning.contract import prune
    from espalier.pruning.masks import achieved_sparsity
    from espalier.pruning.report import collapsed_layers
    from espalier.topology.topometrics import NAMES, SIZES, topometrics

    masks = prune(pruner, model, batches, sparsity, seed, exclude=exclude, **options)
    wanted = dict.fromkeys([*SIZES, *(name for name in predictor.required if name in NAMES)])
    values = topometrics(
        layer_graph(model, input_shape, masks, convention=edges),
        kind=str(predictor.encoding.get("kind", "unrolled")),
        names=list(wanted),
        convention=str(predictor.encoding.get("convention", "definition")),
        normalise=bool(predictor.encoding.get("normalise", True)),
        max_bytes=MAX_BYTES if max_bytes is None else max_bytes,
    )
    undefined = [name for name, value in values.items() if not np.isfinite(value)]
    if undefined:
        raise DataError(
            f"{', '.join(undefined)} have no value: at sparsity {sparsity:g} no edge or no "
            "spectrum is left"
        )
    shares = achieved_sparsity(masks)
    total = shares.pop("total")
    return {
        "achieved_sparsity": total,
        "layer_density": float(np.mean([1 - share for share in shares.values()])),
        "collapsed_layers": len(collapsed_layers(masks)),
        **values,
    }


def _ranked(
    measured: pd.DataFrame,
    problems: Sequence[Mapping[str, Any]],
    predictor: Predictor,
    level: float,
) -> pd.DataFrame:
    predicted = predictor.predict_table(measured, level)
    by_fold = pd.DataFrame(predictor.predict_folds(measured))
    ranks = by_fold.rank(method="min")
    table = measured.assign(
        rank=predicted["value"].rank(method="min").astype(int),
        rank_low=ranks.min(axis=1).astype(int),
        rank_high=ranks.max(axis=1).astype(int),
        drop=predicted["value"],
        low=predicted["low"],
        high=predicted["high"],
        outside=["; ".join(found) for found in predictor.outside(measured)],
        problem="",
    )
    table = table.sort_values(["rank", "pruning"], kind="stable", ignore_index=True)
    if problems:
        integers = dict.fromkeys(("rank", "rank_low", "rank_high"), "Int64")
        table = pd.concat([table.astype(integers), pd.DataFrame(problems)], ignore_index=True)
    tail = ("outside", "problem")
    rest = [c for c in table.columns if c not in (*COLUMNS, *tail)]
    return table.reindex(columns=[*COLUMNS, *rest, *tail])
