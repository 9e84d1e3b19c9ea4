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
    from espalier.hubs.inputs import Standardisation, feature_images
    from espalier.hubs.methods import (
        Changes,
        Evolution,
        LayerRemovedWarning,
        NothingRemovedWarning,
        changes_of,
    )
    from espalier.hubs.options import METHODS, HubRecipe, MethodOptions, method_options
    from espalier.hubs.other_centralities import betweenness, eigenvector, katz, strength
    from espalier.hubs.protocols import Run, planned_runs, search_table, threshold_grid
    from espalier.hubs.selection import Removal, below_sigma, lowest_fraction
    from espalier.hubs.sparse_layers import (
        DenseLayerWarning,
        SparseLayer,
        SparsePerceptron,
        build_perceptron,
    )
    from espalier.hubs.tables import published_layout
    from espalier.hubs.training import HubHistory, accuracy, first_network, train_hubs

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
    # Training.
    "Changes": "methods",
    "DenseLayerWarning": "sparse_layers",
    "Evolution": "methods",
    "HubHistory": "training",
    "HubRecipe": "options",
    "LayerRemovedWarning": "methods",
    "METHODS": "options",
    "MethodOptions": "options",
    "NothingRemovedWarning": "methods",
    "Run": "protocols",
    "SparseLayer": "sparse_layers",
    "SparsePerceptron": "sparse_layers",
    "Standardisation": "inputs",
    "accuracy": "training",
    "build_perceptron": "sparse_layers",
    "changes_of": "methods",
    "feature_images": "inputs",
    "first_network": "training",
    "method_options": "options",
    "planned_runs": "protocols",
    "published_layout": "tables",
    "search_table": "protocols",
    "threshold_grid": "protocols",
    "train_hubs": "training",
}

__all__ = [
    "METHODS",
    "PRESETS",
    "TAIL_STATISTICS",
    "CentralityOptions",
    "Changes",
    "DenseLayerWarning",
    "Evolution",
    "HubHistory",
    "HubOverlap",
    "HubRecipe",
    "LayerRemovedWarning",
    "MethodOptions",
    "NothingRemovedWarning",
    "Removal",
    "Run",
    "SparseLayer",
    "SparsePerceptron",
    "Standardisation",
    "TailComparison",
    "ablation_curve",
    "ablation_curves",
    "accuracy",
    "below_sigma",
    "betweenness",
    "build_perceptron",
    "centrality_summary",
    "changes_of",
    "compare_tails",
    "eigenvector",
    "feature_images",
    "first_network",
    "gini",
    "hub_order",
    "hub_overlap",
    "hub_persistence",
    "katz",
    "laplacian_centrality",
    "lowest_fraction",
    "method_options",
    "network_centrality",
    "null_comparison",
    "planned_runs",
    "published_layout",
    "rewired_weights",
    "search_table",
    "strength",
    "tail_statistics",
    "threshold_grid",
    "train_hubs",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
