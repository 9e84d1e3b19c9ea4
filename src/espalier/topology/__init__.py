"""Topometrics of networks as graphs, exact and without an edge list wherever that is possible.

Importing this package loads neither torch nor numba: each name is looked up where it lives when it
is first used. Only `topometrics` is imported at once, since its module has the same name, which
would hide the function; `from espalier.topology.topometrics import` reaches the module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from espalier.topology.topometrics import (
    Topometric,
    layer_topometrics,
    topometrics,
    topometrics_report,
)

if TYPE_CHECKING:
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
    from espalier.topology.motifs import (
        FourVertexCounts,
        SubgraphCounts,
        motifs_of_csr,
        subgraph_counts,
        two_hop_of_csr,
    )
    from espalier.topology.spectra import (
        SpectralValue,
        spectral_gap,
        spectral_radius,
    )

_HOMES = {
    "FourVertexCounts": "motifs",
    "LocalCounts": "degrees",
    "NodeFields": "degrees",
    "SpectralValue": "spectra",
    "SubgraphCounts": "motifs",
    "degree_counts": "degrees",
    "degree_fields": "degrees",
    "degree_fields_of_csr": "degrees",
    "edge_count": "degrees",
    "local_counts": "degrees",
    "motifs_of_csr": "motifs",
    "spectral_gap": "spectra",
    "spectral_radius": "spectra",
    "strength_fields": "degrees",
    "strength_fields_of_csr": "degrees",
    "subgraph_counts": "motifs",
    "total_strength": "degrees",
    "two_hop_of_csr": "motifs",
}

__all__ = [
    "FourVertexCounts",
    "LocalCounts",
    "NodeFields",
    "SpectralValue",
    "SubgraphCounts",
    "Topometric",
    "degree_counts",
    "degree_fields",
    "degree_fields_of_csr",
    "edge_count",
    "layer_topometrics",
    "local_counts",
    "motifs_of_csr",
    "spectral_gap",
    "spectral_radius",
    "strength_fields",
    "strength_fields_of_csr",
    "subgraph_counts",
    "topometrics",
    "topometrics_report",
    "total_strength",
    "two_hop_of_csr",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
