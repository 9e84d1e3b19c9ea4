"""Layer graphs as files, and as graphs of other packages.

A layer graph is stored in its implicit form (masks, kept weights, axis relations), from which every
edge can be computed, or as its edges: one CSR matrix per pair of parts, GraphML, or an edge list.
Text is written block by block, so that it is never held whole; a name that ends in .gz is
compressed without a time stamp. Equal graphs give equal bytes.
"""

from __future__ import annotations

import gzip
import importlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from types import ModuleType
from typing import Any, TextIO
from xml.sax.saxutils import escape

import numpy as np
from scipy.sparse import csr_array

from espalier.errors import ConfigurationError, DataError, MissingDependencyError
from espalier.files import atomic_path, read_npz, write_npz
from espalier.graphs.encodings import MAX_BYTES, bipartite, encode
from espalier.graphs.layer_graph import AxisRelation, Block, Layer, LayerGraph, Part

_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
_EDGES_PER_WRITE = 50_000
_IMPLICIT = "layer graph"
_EXPLICIT = "encoding"

# attribute name, what it is for, type
_KEYS = (
    ("part", "node", "long"),
    ("channel", "node", "long"),
    ("row", "node", "long"),
    ("column", "node", "long"),
    ("weight", "edge", "double"),
    ("part_names", "graph", "string"),
    ("convention", "graph", "string"),
)


# -- NPZ ---------------------------------------------------------------------------------------


def write_layer_graph(
    path: str | os.PathLike[str], graph: LayerGraph, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write the implicit form as NPZ: packed masks, the weights they keep, and axis relations.

    Weights where the mask is False are not stored; they are read back as 0. `provenance` is the
    record of how the graph came about.

    Raises:
        ConfigurationError: the graph is of the published convention, which has no implicit form.
    """
    _require_definition(graph, "has no implicit form; write its edges with write_encoding")
    arrays: dict[str, np.ndarray] = {}
    for kind, items in (("block", graph.blocks), ("layer", graph.layers)):
        for number, item in enumerate(items):
            arrays[f"{kind}{number}_mask"] = np.packbits(item.mask)
            arrays[f"{kind}{number}_weight"] = item.weight[item.mask]
    for number, block in enumerate(graph.blocks):
        arrays[f"block{number}_rows"] = block.rows.triples
        arrays[f"block{number}_columns"] = block.columns.triples
    metadata = {
        "content": _IMPLICIT,
        "provenance": dict(provenance or {}),
        "convention": graph.convention,
        "parts": [asdict(part) for part in graph.parts],
        "blocks": [
            {
                "name": block.name,
                "source": block.source,
                "target": block.target,
                "shape": block.mask.shape,
                "groups": block.groups,
                "source_offset": block.source_offset,
                "target_offset": block.target_offset,
                "kind": block.kind,
            }
            for block in graph.blocks
        ],
        "layers": [
            {
                "name": layer.name,
                "shape": layer.mask.shape,
                "groups": layer.groups,
                "kind": layer.kind,
            }
            for layer in graph.layers
        ],
    }
    write_npz(path, arrays, metadata)


def read_layer_graph(path: str | os.PathLike[str]) -> LayerGraph:
    """Read a layer graph written by `write_layer_graph`.

    Raises:
        DataError: the file is missing, damaged or holds something else.
    """
    arrays, metadata = read_npz(path)
    _require_content(path, metadata, _IMPLICIT)
    try:
        parts = tuple(Part(**part) for part in metadata["parts"])
        blocks = []
        for number, entry in enumerate(metadata["blocks"]):
            weight, mask = _stored_weights(arrays, f"block{number}", entry.pop("shape"))
            source, target = parts[entry["source"]], parts[entry["target"]]
            rows, columns = (
                AxisRelation(*sizes, taps, arrays[f"block{number}_{axis}"])
                for axis, sizes, taps in (
                    ("rows", (source.height, target.height), mask.shape[2]),
                    ("columns", (source.width, target.width), mask.shape[3]),
                )
            )
            blocks.append(Block(weight=weight, mask=mask, rows=rows, columns=columns, **entry))
        layers = []
        for number, entry in enumerate(metadata["layers"]):
            weight, mask = _stored_weights(arrays, f"layer{number}", entry.pop("shape"))
            layers.append(Layer(weight=weight, mask=mask, **entry))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise DataError(
            f"{path} is not a complete layer graph ({error}); write it again"
        ) from error
    return LayerGraph(parts, tuple(blocks), metadata["convention"], tuple(layers))


def write_encoding(
    path: str | os.PathLike[str],
    graph: LayerGraph,
    *,
    weighted: bool = True,
    max_bytes: int | None = MAX_BYTES,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write the unrolled encoding as NPZ: one CSR matrix per pair of joined parts.

    Under the published convention it is one matrix over all nodes. `provenance` is the record of
    how the graph came about.

    Raises:
        ConfigurationError: a matrix would exceed `max_bytes`.
    """
    arrays: dict[str, np.ndarray] = {}
    pairs = []
    for source, target, matrix in _matrices(graph, weighted, max_bytes):
        name = f"pair{len(pairs)}"
        pairs.append({"source": source, "target": target, "shape": matrix.shape})
        arrays[f"{name}_indptr"], arrays[f"{name}_indices"] = matrix.indptr, matrix.indices
        if weighted:
            arrays[f"{name}_data"] = matrix.data
    metadata = {
        "content": _EXPLICIT,
        "provenance": dict(provenance or {}),
        "convention": graph.convention,
        "weighted": weighted,
        "parts": [asdict(part) for part in graph.parts],
        "pairs": pairs,
    }
    write_npz(path, arrays, metadata)


def read_encoding(path: str | os.PathLike[str]) -> dict[tuple[int, int], csr_array]:
    """Read the matrices written by `write_encoding`, by (source part, target part).

    The one matrix of a published encoding has the key (-1, -1).

    Raises:
        DataError: the file is missing, damaged or holds something else.
    """
    arrays, metadata = read_npz(path)
    _require_content(path, metadata, _EXPLICIT)
    matrices = {}
    try:
        for number, pair in enumerate(metadata["pairs"]):
            name = f"pair{number}"
            indices = arrays[f"{name}_indices"]
            data = arrays[f"{name}_data"] if metadata["weighted"] else np.ones(len(indices), "f4")
            matrices[pair["source"], pair["target"]] = csr_array(
                (data, indices, arrays[f"{name}_indptr"]), shape=tuple(pair["shape"])
            )
    except (KeyError, ValueError) as error:
        raise DataError(f"{path} is not a complete encoding ({error}); write it again") from error
    return matrices


# -- text --------------------------------------------------------------------------------------


def write_layer_graphml(
    path: str | os.PathLike[str], graph: LayerGraph, *, max_bytes: int | None = MAX_BYTES
) -> None:
    """Write the unrolled encoding as GraphML, one pair of parts after the other.

    Node attributes: part (index), channel, row, column; edge attribute: weight, the digits of the
    float32; graph attributes: part_names (a JSON list) and convention.

    Args:
        path: compressed by gzip where the name ends in .gz.
        graph: from `layer_graph`.
        max_bytes: the largest matrix to build for one pair of parts.

    Raises:
        ConfigurationError: a matrix would exceed `max_bytes`.
    """
    names = escape(json.dumps([part.name for part in graph.parts], ensure_ascii=False))
    with _text_writer(path) as handle:
        handle.write('<?xml version="1.0" encoding="UTF-8"?>\n')
        handle.write(f'<graphml xmlns="{_NAMESPACE}">\n')
        handle.writelines(
            f'<key id="{target}_{name}" for="{target}" attr.name="{name}" attr.type="{kind}"/>\n'
            for name, target, kind in _KEYS
        )
        handle.write('<graph id="layer_graph" edgedefault="directed">\n')
        handle.write(f'<data key="graph_part_names">{names}</data>\n')
        handle.write(f'<data key="graph_convention">{graph.convention}</data>\n')
        for index, part in enumerate(graph.parts):
            places = np.ndindex(part.channels, part.height, part.width)
            handle.writelines(
                f'<node id="n{node}"><data key="node_part">{index}</data>'
                f'<data key="node_channel">{channel}</data><data key="node_row">{row}</data>'
                f'<data key="node_column">{column}</data></node>\n'
                for node, (channel, row, column) in enumerate(places, int(graph.offsets[index]))
            )
        for source, target, weight in _edges(graph, max_bytes):
            handle.writelines(
                f'<edge source="n{u}" target="n{v}"><data key="edge_weight">{w}</data></edge>\n'
                for u, v, w in zip(source.tolist(), target.tolist(), _digits(weight), strict=True)
            )
        handle.write("</graph>\n</graphml>\n")


def write_edge_list(
    path: str | os.PathLike[str], graph: LayerGraph, *, max_bytes: int | None = MAX_BYTES
) -> None:
    """Write one line "source target weight" per edge, one pair of parts after the other.

    Args:
        path: compressed by gzip where the name ends in .gz.
        graph: from `layer_graph`.
        max_bytes: the largest matrix to build for one pair of parts.

    Raises:
        ConfigurationError: a matrix would exceed `max_bytes`.
    """
    with _text_writer(path) as handle:
        for source, target, weight in _edges(graph, max_bytes):
            handle.writelines(
                f"{u} {v} {w}\n"
                for u, v, w in zip(source.tolist(), target.tolist(), _digits(weight), strict=True)
            )


# -- other packages ------------------------------------------------------------------------------


def to_networkx(graph: LayerGraph, *, max_bytes: int | None = MAX_BYTES) -> Any:
    """Return a networkx.DiGraph; nodes carry "part", edges "weight".

    Where the public code lists an edge twice the result is a networkx.MultiDiGraph.

    Raises:
        ConfigurationError: the edges would exceed `max_bytes`.
        MissingDependencyError: networkx is not installed.
    """
    networkx = _package("networkx", "pip install networkx")
    matrix = encode(graph, max_bytes=max_bytes)
    source, target, weight = _coordinates(matrix)
    repeated = bool(np.any((np.diff(source) == 0) & (np.diff(target) == 0)))
    result = networkx.MultiDiGraph() if repeated else networkx.DiGraph()
    parts = _part_of_nodes(graph).tolist()
    result.add_nodes_from((node, {"part": part}) for node, part in enumerate(parts))
    result.add_weighted_edges_from(
        zip(source.tolist(), target.tolist(), weight.tolist(), strict=True)
    )
    return result


def to_igraph(graph: LayerGraph, *, max_bytes: int | None = MAX_BYTES) -> Any:
    """Return a directed igraph.Graph; vertices carry "part", edges "weight".

    Raises:
        ConfigurationError: the edges would exceed `max_bytes`.
        MissingDependencyError: igraph is not installed.
    """
    igraph = _package("igraph", "pip install espalier[hierarchy]")
    source, target, weight = _coordinates(encode(graph, max_bytes=max_bytes))
    return igraph.Graph(
        n=graph.nodes,
        edges=np.column_stack([source, target]),
        directed=True,
        vertex_attrs={"part": _part_of_nodes(graph).tolist()},
        edge_attrs={"weight": weight.tolist()},
    )


def to_graph_tool(graph: LayerGraph, *, max_bytes: int | None = MAX_BYTES) -> Any:
    """Return a directed graph_tool.Graph with the internal properties "part" and "weight".

    Raises:
        ConfigurationError: the edges would exceed `max_bytes`.
        MissingDependencyError: graph-tool is not installed in this Python.
    """
    graph_tool = _package("graph_tool", "conda install -c conda-forge graph-tool")
    source, target, weight = _coordinates(encode(graph, max_bytes=max_bytes))
    result = graph_tool.Graph(directed=True)
    result.add_vertex(graph.nodes)
    result.add_edge_list(np.column_stack([source, target]))
    part, edge_weight = result.new_vertex_property("int"), result.new_edge_property("double")
    part.a = _part_of_nodes(graph)
    edge_weight.a = weight
    result.vp["part"], result.ep["weight"] = part, edge_weight
    return result


def to_networkit(graph: LayerGraph, *, max_bytes: int | None = MAX_BYTES) -> Any:
    """Return a directed, weighted networkit.Graph; it has no node attributes.

    Raises:
        ConfigurationError: the edges would exceed `max_bytes`.
        MissingDependencyError: networkit is not installed.
    """
    networkit = _package("networkit", "pip install networkit")
    source, target, weight = _coordinates(encode(graph, max_bytes=max_bytes))
    result = networkit.Graph(graph.nodes, weighted=True, directed=True)
    for edge in zip(source.tolist(), target.tolist(), weight.tolist(), strict=True):
        result.addEdge(*edge)
    return result


# -- shared --------------------------------------------------------------------------------------


def _require_definition(graph: LayerGraph, reason: str) -> None:
    if graph.convention != "definition":
        raise ConfigurationError(f"a graph of the convention {graph.convention!r} {reason}")


def _require_content(path: str | os.PathLike[str], metadata: dict[str, Any], content: str) -> None:
    if metadata.get("content") != content:
        raise DataError(
            f"{path} holds no {content}; it says {metadata.get('content', 'nothing of itself')!r}"
        )


def _stored_weights(
    arrays: dict[str, np.ndarray], name: str, shape: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    size = int(np.prod(shape))
    mask = np.unpackbits(arrays[f"{name}_mask"], count=size).astype(bool).reshape(shape)
    weight = np.zeros(shape, np.float32)
    weight[mask] = arrays[f"{name}_weight"]
    return weight, mask


def _matrices(
    graph: LayerGraph, weighted: bool, max_bytes: int | None
) -> Iterator[tuple[int, int, csr_array]]:
    """Yield (source part, target part, matrix); (-1, -1, all nodes) under the published one."""
    if graph.convention == "published":
        yield -1, -1, encode(graph, weighted=weighted, max_bytes=max_bytes)
        return
    for number, block in enumerate(graph.blocks):
        matrix = bipartite(graph, number, weighted=weighted, max_bytes=max_bytes)
        yield block.source, block.target, matrix


def _edges(
    graph: LayerGraph, max_bytes: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield node numbers and weights of edges, some at a time."""
    for source, target, matrix in _matrices(graph, True, max_bytes):
        first, second = (0 if part < 0 else int(graph.offsets[part]) for part in (source, target))
        rows, columns, weights = _coordinates(matrix)
        for start in range(0, len(rows), _EDGES_PER_WRITE):
            piece = slice(start, start + _EDGES_PER_WRITE)
            yield rows[piece] + first, columns[piece] + second, weights[piece]


def _coordinates(matrix: csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = np.repeat(np.arange(len(matrix.indptr) - 1), np.diff(matrix.indptr))
    return rows, matrix.indices.astype(np.int64), matrix.data


def _digits(weights: np.ndarray) -> list[str]:
    """Return the shortest decimals that read back to the same numbers of their type."""
    return weights.astype(str).tolist()


def _part_of_nodes(graph: LayerGraph) -> np.ndarray:
    return np.repeat(np.arange(len(graph.parts)), np.diff(graph.offsets))


@contextmanager
def _text_writer(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Open a text file for atomic writing, compressed without a time stamp if named .gz."""
    with atomic_path(path) as temporary, open(temporary, "wb") as raw:
        if not os.fspath(path).endswith(".gz"):
            with io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as handle:
                yield handle
            return
        with (
            gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as handle,
        ):
            yield handle


def _package(name: str, mend: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(f"{name} is not installed; {mend}") from error
