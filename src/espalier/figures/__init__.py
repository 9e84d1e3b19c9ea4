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

__all__ = [
    "accuracy_vs_rf",
    "coactivation_graph",
    "detector_comparison",
    "facing_trees",
    "radial_hierarchy",
    "save",
    "sparsity_vs_rf",
    "training_curve",
]

_HOME = {
    "accuracy_vs_rf": "curves",
    "coactivation_graph": "coactivation",
    "detector_comparison": "detectors",
    "facing_trees": "tanglegram",
    "radial_hierarchy": "radial",
    "save": "style",
    "sparsity_vs_rf": "curves",
    "training_curve": "curves",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"espalier.figures.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
