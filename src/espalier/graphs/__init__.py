"""Graphs of networks: co-activation graphs and readouts; the layer graph and its encodings.

Importing this package needs numpy and scipy only; `collect` and `layer_graph` import torch when
called. The function `readout` is in `espalier.graphs.readout`; here its name is that of the module.
`layer_graph` is the function here; its module is reached by `from espalier.graphs.layer_graph
import`.
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
from espalier.graphs.encodings import bipartite, edge_count, encode, encoding_bytes
from espalier.graphs.exports import (
    read_encoding,
    read_layer_graph,
    to_graph_tool,
    to_igraph,
    to_networkit,
    to_networkx,
    write_edge_list,
    write_encoding,
    write_layer_graph,
    write_layer_graphml,
)
from espalier.graphs.graphml import read_graphml, write_graphml
from espalier.graphs.layer_graph import AxisRelation, Block, Layer, LayerGraph, Part, layer_graph
from espalier.graphs.readout import read_readout, write_readout

__all__ = [
    "Activations",
    "AxisRelation",
    "Block",
    "CoactivationGraph",
    "Layer",
    "LayerGraph",
    "Pairs",
    "Part",
    "bipartite",
    "coactivation_graph",
    "collect",
    "correlated_pairs",
    "edge_count",
    "encode",
    "encoding_bytes",
    "layer_graph",
    "pearson",
    "read_coactivation",
    "read_encoding",
    "read_graphml",
    "read_layer_graph",
    "read_readout",
    "shuffled",
    "spearman",
    "to_graph_tool",
    "to_igraph",
    "to_networkit",
    "to_networkx",
    "write_coactivation",
    "write_edge_list",
    "write_encoding",
    "write_graphml",
    "write_layer_graph",
    "write_layer_graphml",
    "write_readout",
]
