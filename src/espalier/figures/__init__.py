"""One function per figure: a table, graph or tree in, a matplotlib Figure out.

matplotlib is imported only when one of these names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from espalier.figures.coactivation import coactivation_graph
    from espalier.figures.curves import accuracy_vs_rf, sparsity_vs_rf, training_curve
    from espalier.figures.detectors import detector_comparison
    from espalier.figures.radial import radial_hierarchy
    from espalier.figures.style import save
    from espalier.figures.tanglegram import facing_trees
    from espalier.figures.topology import (
        accuracy_by_sparsity,
        degree_distributions,
        draw_layer_graph,
        topometric_trends,
    )

__all__ = [
    "accuracy_by_sparsity",
    "accuracy_vs_rf",
    "coactivation_graph",
    "degree_distributions",
    "detector_comparison",
    "draw_layer_graph",
    "facing_trees",
    "radial_hierarchy",
    "save",
    "sparsity_vs_rf",
    "topometric_trends",
    "training_curve",
]

_HOME = {
    "accuracy_by_sparsity": "topology",
    "accuracy_vs_rf": "curves",
    "coactivation_graph": "coactivation",
    "degree_distributions": "topology",
    "detector_comparison": "detectors",
    "draw_layer_graph": "topology",
    "facing_trees": "tanglegram",
    "radial_hierarchy": "radial",
    "save": "style",
    "sparsity_vs_rf": "curves",
    "topometric_trends": "topology",
    "training_curve": "curves",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"espalier.figures.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
