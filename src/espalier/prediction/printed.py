"""The cells that the papers print, as far as the prediction stage recomputes them.

Names of models, data sets and pruners are this project's. Sources: Cunegatti et al.,
"Understanding Sparse Neural Networks from their Topology via Multipartite Graph Representations",
TMLR 2024 (Tables 3, 4, 11, 12) and its arXiv version (Tables 5, 6, 12).
"""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from espalier.errors import unknown_name

PRINTED = (
    "tmlr_table_3",
    "tmlr_tables_4_11_12",
    "arxiv_table_5",
    "arxiv_tables_6_12",
)

_TEXT = ("setting", "sparsity", "set", "cell")


def printed_table(name: str) -> pd.DataFrame:
    """Return the printed cells of a table, one row each.

    Columns of "tmlr_table_3": encoding, setting, adjusted_r2, mae. Of "tmlr_tables_4_11_12":
    table, model, strategy, sparsity ("0.6" ... "Avg"), mean, sd. Of "arxiv_table_5": target, set,
    setting, balanced_accuracy. Of "arxiv_tables_6_12": dataset, set, setting, r2. A set is local,
    regional, stability, combination or ablation.

    Raises:
        ConfigurationError: the name is unknown.
    """
    if name not in PRINTED:
        raise unknown_name("printed table", name, PRINTED)
    return _read(name)


def known_causes() -> pd.DataFrame:
    """Return why some cells differ: table, measure, cell (a shell pattern), cause; first wins."""
    return _read("causes")


def _read(name: str) -> pd.DataFrame:
    with (files("espalier.prediction") / "printed_tables" / f"{name}.csv").open("rb") as handle:
        return pd.read_csv(handle, dtype=dict.fromkeys(_TEXT, "str"))
