"""Topometrics of networks as graphs, exact and without an edge list wherever that is possible.

Importing this package loads neither torch nor numba: each name is looked up where it lives when it
is first used. Only `topometrics` is imported at once, since its module has the same name, which
would hide the function; `from espalier.topology.topometrics import` reaches the module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from espalier.lazy import lazily
from espalier.topology.topometrics import (
    Topometric,
    layer_topometrics,
    topometrics,
    topometrics_report,
)

if TYPE_CHECKING:
    from espalier.topology.clusterability import (
        n_cut,
        spectral_clusters,
    )
    from espalier.topology.cores import (
        Cores,
        cores_of_csr,
    )
    from espalier.topology.degrees import (
        LocalCounts,
        NodeFields,
        degree_counts,
        degree_fields,
        degree_fields_of_csr,
        edge_count,
        local_counts,
        strength_fields,
        strength_fields_of_csr,
        total_strength,
    )
    from espalier.topology.distributions import (
        clustering,
        degree_assortativity,
        degree_distributions,
        path_lengths,
    )
    from espalier.topology.effective import (
        effective_connectivity,
        effective_masks,
        effective_sparsity,
        path_count,
    )
    from espalier.topology.motifs import (
        FourVertexCounts,
        SubgraphCounts,
        motifs_of_csr,
        subgraph_counts,
        two_hop_of_csr,
    )
    from espalier.topology.persistence import (
        neural_persistence,
        neural_persistence_of_graph,
    )
    from espalier.topology.ramanujan import (
        layer_density,
        network_ramanujan_metrics,
        ramanujan_metrics,
        ramanujan_metrics_by_layer,
    )
    from espalier.topology.spectra import (
        SpectralValue,
        spectral_gap,
        spectral_radius,
    )
    from espalier.topology.stability import (
        stability_settings,
    )
    from espalier.topology.traversal import (
        Connectivity,
        connectivity,
        connectivity_of_csr,
    )

_HOMES = {
    "Connectivity": "traversal",
    "Cores": "cores",
    "FourVertexCounts": "motifs",
    "LocalCounts": "degrees",
    "NodeFields": "degrees",
    "SpectralValue": "spectra",
    "SubgraphCounts": "motifs",
    "clustering": "distributions",
    "connectivity": "traversal",
    "connectivity_of_csr": "traversal",
    "cores_of_csr": "cores",
    "degree_assortativity": "distributions",
    "degree_counts": "degrees",
    "degree_distributions": "distributions",
    "degree_fields": "degrees",
    "degree_fields_of_csr": "degrees",
    "edge_count": "degrees",
    "effective_connectivity": "effective",
    "effective_masks": "effective",
    "effective_sparsity": "effective",
    "layer_density": "ramanujan",
    "local_counts": "degrees",
    "motifs_of_csr": "motifs",
    "n_cut": "clusterability",
    "network_ramanujan_metrics": "ramanujan",
    "neural_persistence": "persistence",
    "neural_persistence_of_graph": "persistence",
    "path_count": "effective",
    "path_lengths": "distributions",
    "ramanujan_metrics": "ramanujan",
    "ramanujan_metrics_by_layer": "ramanujan",
    "spectral_clusters": "clusterability",
    "spectral_gap": "spectra",
    "spectral_radius": "spectra",
    "stability_settings": "stability",
    "strength_fields": "degrees",
    "strength_fields_of_csr": "degrees",
    "subgraph_counts": "motifs",
    "total_strength": "degrees",
    "two_hop_of_csr": "motifs",
}

__all__ = [
    "Connectivity",
    "Cores",
    "FourVertexCounts",
    "LocalCounts",
    "NodeFields",
    "SpectralValue",
    "SubgraphCounts",
    "Topometric",
    "clustering",
    "connectivity",
    "connectivity_of_csr",
    "cores_of_csr",
    "degree_assortativity",
    "degree_counts",
    "degree_distributions",
    "degree_fields",
    "degree_fields_of_csr",
    "edge_count",
    "effective_connectivity",
    "effective_masks",
    "effective_sparsity",
    "layer_density",
    "layer_topometrics",
    "local_counts",
    "motifs_of_csr",
    "n_cut",
    "network_ramanujan_metrics",
    "neural_persistence",
    "neural_persistence_of_graph",
    "path_count",
    "path_lengths",
    "ramanujan_metrics",
    "ramanujan_metrics_by_layer",
    "spectral_clusters",
    "spectral_gap",
    "spectral_radius",
    "stability_settings",
    "strength_fields",
    "strength_fields_of_csr",
    "subgraph_counts",
    "topometrics",
    "topometrics_report",
    "total_strength",
    "two_hop_of_csr",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
