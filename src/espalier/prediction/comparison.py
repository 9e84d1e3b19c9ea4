"""Printed cells of the papers beside ours, with the cause of a difference as far as known."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from espalier.prediction.features import rows_and_columns
from espalier.prediction.printed import known_causes, printed_table
from espalier.prediction.ranking import AVERAGE
from espalier.prediction.regression import compare_with_published
from espalier.prediction.tables import ABLATION_SETS


def with_printed_regression(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of a regression with published_adjusted_r2 and published_mae of TMLR Table 3."""
    printed = printed_table("tmlr_table_3").rename(
        columns={"adjusted_r2": "published_adjusted_r2", "mae": "published_mae"}
    )
    found = rows.merge(printed, on=["encoding", "setting"], how="left", validate="many_to_one")
    same = _is_table_3(found)
    found.loc[~same, ["published_adjusted_r2", "published_mae"]] = np.nan
    return found


def with_printed_ablation(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of `ablation_rows` with published_r2, of the set that each stands for."""
    printed = printed_table("arxiv_tables_6_12").rename(columns={"r2": "published_r2"})
    return rows.merge(printed, on=["dataset", "set", "setting"], how="left")


def with_printed_classification(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of a classification with published_features and published_balanced_accuracy."""
    printed = printed_table("arxiv_table_5").rename(
        columns={"balanced_accuracy": "published_balanced_accuracy", "set": "published_features"}
    )
    stands_for = [ABLATION_SETS.get(features, "") for features in rows["features"]]
    found = rows.assign(published_features=stands_for).merge(
        printed, on=["target", "published_features", "setting"], how="left"
    )
    other = (found["protocol"] != "stratified") | found["published_balanced_accuracy"].isna()
    found.loc[other, "published_balanced_accuracy"] = np.nan
    found.loc[other, "published_features"] = ""
    return found


def _is_table_3(rows: pd.DataFrame) -> np.ndarray:
    features = np.where(rows["encoding"] == "unrolled", "topometrics", "layerwise")
    same = (rows["protocol"] == "published") & (rows["regressor"] == "eight linear")
    return np.asarray(same & (rows["features"] == features))


def comparison_rows(
    regression: pd.DataFrame,
    ablation: pd.DataFrame,
    classification: pd.DataFrame,
    ranking: pd.DataFrame,
) -> pd.DataFrame:
    """Return every printed cell that is recomputed, beside ours.

    Args:
        regression, ablation, classification: with the printed cells beside.
        ranking: of `ranking.ranking_tables`, under this project's names.

    Returns:
        Columns table, measure, cell, printed, ours, difference, tolerance, agrees, agrees_rounded
        (ours rounded as the printed one is), cause (known so far).
    """
    names = {"combination": "arXiv 6", "ablation": "arXiv 6"}
    table_3 = rows_and_columns(regression, _is_table_3(regression))
    learner = np.where(ablation["set"] == "ablation", "linear", "xgboost")
    compared = (ablation["regressor"] == learner) & ablation["published_r2"].notna()
    tables_6_12 = rows_and_columns(ablation, np.asarray(compared))
    table_5 = rows_and_columns(
        classification, np.asarray(classification["published_balanced_accuracy"].notna())
    )
    printed = printed_table("tmlr_tables_4_11_12").rename(columns={"mean": "printed", "sd": "_"})
    orders = ranking.merge(printed, on=["table", "model", "strategy", "sparsity"])
    orders["name"] = [
        f"TMLR {number}{', averages' if sparsity == AVERAGE else ''}"
        for number, sparsity in zip(orders["table"], orders["sparsity"], strict=True)
    ]
    cell_5 = _joined(table_5, "target", "features", "setting")
    cell_6 = _joined(tables_6_12, "dataset", "features", "setting")
    parts = [
        *(
            _cells(
                "TMLR 3" if rows == "all" else f"TMLR 3, {rows}",
                measure,
                _joined(own, "encoding", "setting"),
                own,
                f"published_{measure}",
                tolerance,
                digits=digits,
            )
            for rows, own in table_3.groupby("rows", sort=False)
            for measure, tolerance, digits in (("adjusted_r2", 0.02, 2), ("mae", 0.002, 3))
        ),
        *(
            _cells(
                str(name),
                "mean",
                _joined(own, "model", "strategy", "sparsity"),
                own,
                "printed",
                0.01,
            )
            for name, own in orders.groupby("name", sort=False)
        ),
        _cells(
            "arXiv 5", "balanced_accuracy", cell_5, table_5, "published_balanced_accuracy", 0.02
        ),
        _cells("", "r2", cell_6, tables_6_12, "published_r2", 0.02).assign(
            table=[names.get(name, "arXiv 12") for name in tables_6_12["set"]]
        ),
    ]
    joined = pd.concat(parts, ignore_index=True)
    causes = known_causes().itertuples(index=False, name=None)
    known = [tuple(map(str, cause)) for cause in causes]
    joined["cause"] = [
        "" if agrees else _cause(table, measure, cell, known)
        for table, measure, cell, agrees in zip(
            joined["table"], joined["measure"], joined["cell"], joined["agrees"], strict=True
        )
    ]
    return joined


def _joined(rows: pd.DataFrame, *columns: str) -> list[str]:
    return [", ".join(map(str, row)) for row in rows[list(columns)].to_numpy()]


def _cells(
    table: str,
    measure: str,
    cells: Sequence[str],
    rows: pd.DataFrame,
    theirs: str,
    tolerance: float,
    *,
    digits: int = 2,
) -> pd.DataFrame:
    ours = pd.DataFrame({"cell": cells, "ours": rows[measure].to_numpy()})
    printed = pd.DataFrame({"cell": cells, "printed": rows[theirs].to_numpy()})
    found = compare_with_published(
        ours, printed, "ours", "printed", on=("cell",), tolerance=tolerance, digits=digits
    ).rename(columns={"published": "printed"})
    found = found.assign(table=table, measure=measure, tolerance=tolerance)
    columns = ("table", "measure", "cell", "printed", "ours", "difference", "tolerance")
    return rows_and_columns(found, None, [*columns, "agrees", "agrees_rounded"])


def _cause(table: str, measure: str, cell: str, known: Sequence[tuple[str, ...]]) -> str:
    for of_table, of_measure, pattern, cause in known:
        if of_table == table and of_measure == measure and fnmatchcase(cell, pattern):
            return cause
    return "unknown"


def comparison_summary(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return per table and measure how many printed cells agree, and the mean differences.

    The arXiv tables are split by feature set.
    """
    kinds = [
        cell.split(", ")[1] if table.startswith("arXiv") else ""
        for table, cell in zip(comparison["table"], comparison["cell"], strict=True)
    ]
    kinds = ["ablation" if k in ("architecture", "sparsity-level") else k for k in kinds]
    groups: Any = comparison.assign(features=kinds, size=comparison["difference"].abs()).groupby(
        ["table", "measure", "features"], sort=False
    )
    summary = groups[["tolerance"]].first()
    summary["cells"] = groups.size()
    summary["agree"] = groups["agrees"].sum()
    summary["agree_rounded"] = groups["agrees_rounded"].sum()
    summary["mean_difference"] = groups["difference"].mean()
    summary["mean_absolute_difference"] = groups["size"].mean()
    return summary.reset_index()
