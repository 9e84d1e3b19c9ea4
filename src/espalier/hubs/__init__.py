"""Hub neurons: centralities of networks, sparse training by them, and whether hubs form at all.

Importing this package imports no submodule: each name is looked up where it lives when it is first
used, so that neither torch nor numba is loaded before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from espalier.lazy import lazily

if TYPE_CHECKING:
    from espalier.hubs.centrality import (
        PRESETS,
        CentralityOptions,
        laplacian_centrality,
        network_centrality,
    )
    from espalier.hubs.formation import (
        TAIL_STATISTICS,
        HubOverlap,
        TailComparison,
        ablation_curve,
        ablation_curves,
        centrality_summary,
        compare_tails,
        gini,
        hub_order,
        hub_overlap,
        hub_persistence,
        null_comparison,
        rewired_weights,
        tail_statistics,
    )
    from espalier.hubs.other_centralities import betweenness, eigenvector, katz, strength
    from espalier.hubs.selection import Removal, below_sigma, lowest_fraction

    # Training: sparse_layers, methods, training, protocols, stages.

_HOMES = {
    # Centralities and statistics.
    "CentralityOptions": "centrality",
    "HubOverlap": "formation",
    "PRESETS": "centrality",
    "Removal": "selection",
    "TAIL_STATISTICS": "formation",
    "TailComparison": "formation",
    "ablation_curve": "formation",
    "ablation_curves": "formation",
    "below_sigma": "selection",
    "betweenness": "other_centralities",
    "centrality_summary": "formation",
    "compare_tails": "formation",
    "eigenvector": "other_centralities",
    "gini": "formation",
    "hub_order": "formation",
    "hub_overlap": "formation",
    "hub_persistence": "formation",
    "katz": "other_centralities",
    "laplacian_centrality": "centrality",
    "lowest_fraction": "selection",
    "network_centrality": "centrality",
    "null_comparison": "formation",
    "rewired_weights": "formation",
    "strength": "other_centralities",
    "tail_statistics": "formation",
    # Training: sparse_layers, methods, training, protocols, stages.
}

__all__ = [
    "PRESETS",
    "TAIL_STATISTICS",
    "CentralityOptions",
    "HubOverlap",
    "Removal",
    "TailComparison",
    "ablation_curve",
    "ablation_curves",
    "below_sigma",
    "betweenness",
    "centrality_summary",
    "compare_tails",
    "eigenvector",
    "gini",
    "hub_order",
    "hub_overlap",
    "hub_persistence",
    "katz",
    "laplacian_centrality",
    "lowest_fraction",
    "network_centrality",
    "null_comparison",
    "rewired_weights",
    "strength",
    "tail_statistics",
    # Training: sparse_layers, methods, training, protocols, stages.
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
