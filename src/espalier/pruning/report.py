"""What masks really remove: requested and achieved sparsity per parameter, and collapsed layers.

Layer collapse is reported, not repaired.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from torch import Tensor


class SparsityRow(TypedDict):
    """One parameter, or all of them under the name "total".

    Attributes:
        parameter: name as in the state dict.
        requested_sparsity: share asked for, of the network or of this parameter.
        achieved_sparsity: share that is removed.
        kept, total: weights that stay, and all.
        collapsed: whether nothing stays.
    """

    parameter: str
    requested_sparsity: float
    achieved_sparsity: float
    kept: int
    total: int
    collapsed: bool


def sparsity_report(
    masks: Mapping[str, Tensor],
    sparsity: float,
    layer_sparsities: Mapping[str, float] | None = None,
) -> list[SparsityRow]:
    """Return one row per parameter, in the order of the masks, and a last one for their total.

    The rows are plain values, ready for JSON and for `pandas.DataFrame`.

    Args:
        masks: per parameter a boolean tensor (True = kept).
        sparsity: share removed that was asked for.
        layer_sparsities: what was asked for of single parameters; the others, and the total, were
            asked for `sparsity`.
    """
    requested = dict.fromkeys(masks, sparsity) | dict(layer_sparsities or {})
    counts = {name: (int(mask.count_nonzero()), mask.numel()) for name, mask in masks.items()}
    rows = [_row(name, requested[name], *counts[name]) for name in masks]
    kept, total = (sum(column) for column in zip((0, 0), *counts.values(), strict=True))
    return [*rows, _row("total", sparsity, kept, total)]


def collapsed_layers(masks: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the parameters that keep nothing, in the order of the masks."""
    return [name for name, mask in masks.items() if not bool(mask.any())]


def _row(name: str, requested: float, kept: int, total: int) -> SparsityRow:
    return {
        "parameter": name,
        "requested_sparsity": requested,
        "achieved_sparsity": 1 - kept / total if total else 0.0,
        "kept": kept,
        "total": total,
        "collapsed": kept == 0,
    }
