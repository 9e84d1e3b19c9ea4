"""Pruners behind one contract: a model and data in, a mapping from parameter name to mask out."""

from __future__ import annotations

from espalier.lazy import lazily
from espalier.pruning.registry import acts, names

_HOMES = {
    "GroupHoyerSquare": "group_hoyer",
    "Horizon": "during",
    "achieved_sparsity": "masks",
    "apply_masks": "masks",
    "collapsed_layers": "report",
    "compact": "dead_units",
    "dynamics": "contract",
    "group_hoyer_square": "group_hoyer",
    "prunable_parameters": "contract",
    "prune": "contract",
    "read_masks": "masks",
    "remove_dead_units": "dead_units",
    "scores": "contract",
    "select": "selection",
    "sparsity_report": "report",
    "unit_masks": "masks",
    "write_masks": "masks",
}

__all__ = [*_HOMES, "acts", "names"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
