"""Graphs of networks: correlation of units, the co-activation graph, its files, and the readout.

Importing this package needs numpy and scipy only; `collect` imports torch when called.
The function `readout` is in `espalier.graphs.readout`; here its name is that of the module.
"""

from __future__ import annotations

from espalier.graphs.activations import Activations, collect, shuffled
from espalier.graphs.coactivation import (
    CoactivationGraph,
    coactivation_graph,
    read_coactivation,
    write_coactivation,
)
from espalier.graphs.correlation import Pairs, correlated_pairs, pearson, spearman
from espalier.graphs.graphml import read_graphml, write_graphml
from espalier.graphs.readout import read_readout, write_readout

__all__ = [
    "Activations",
    "CoactivationGraph",
    "Pairs",
    "coactivation_graph",
    "collect",
    "correlated_pairs",
    "pearson",
    "read_coactivation",
    "read_graphml",
    "read_readout",
    "shuffled",
    "spearman",
    "write_coactivation",
    "write_graphml",
    "write_readout",
]
