"""Co-activation graphs as GraphML, for Gephi, networkx, igraph and graph-tool.

Node attributes: layer, neuron, class (the class name; '' for hidden units) and constant. Edge
attribute: weight. Graph attributes: layer_names and class_names, as JSON lists. Equal graphs give
equal bytes; weights are written with the digits that read back to the same number.
"""

from __future__ import annotations

import json
import os
from xml.etree import ElementTree
from xml.parsers import expat
from xml.sax.saxutils import escape

import numpy as np

from espalier.errors import DataError
from espalier.files import atomic_path
from espalier.graphs.coactivation import CoactivationGraph, symmetric_adjacency

_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
_EDGES_PER_WRITE = 50_000

# attribute name, what it is for, type
_KEYS = (
    ("layer", "node", "long"),
    ("neuron", "node", "long"),
    ("class", "node", "string"),
    ("constant", "node", "boolean"),
    ("weight", "edge", "double"),
    ("layer_names", "graph", "string"),
    ("class_names", "graph", "string"),
)


def write_graphml(path: str | os.PathLike[str], graph: CoactivationGraph) -> None:
    """Write a graph as GraphML, edges in row-major order, without holding the text in memory.

    Raises:
        DataError: a layer or class name holds a control character.
    """
    classes = ["" if label < 0 else graph.class_names[label] for label in graph.label.tolist()]
    for name in (*graph.layer_names, *graph.class_names):
        if not all(character >= " " for character in name):
            raise DataError(f"{path}: the name {name!r} holds a control character")
    rows, columns, weights = graph.edges()
    nodes = zip(
        graph.layer.tolist(), graph.neuron.tolist(), classes, graph.constant.tolist(), strict=True
    )
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        handle.write('<?xml version="1.0" encoding="UTF-8"?>\n')
        handle.write(f'<graphml xmlns="{_NAMESPACE}">\n')
        handle.writelines(
            f'<key id="{target}_{name}" for="{target}" attr.name="{name}" attr.type="{kind}"/>\n'
            for name, target, kind in _KEYS
        )
        handle.write('<graph id="coactivation" edgedefault="undirected">\n')
        for name in ("layer_names", "class_names"):
            text = escape(json.dumps(getattr(graph, name), ensure_ascii=False))
            handle.write(f'<data key="graph_{name}">{text}</data>\n')
        handle.writelines(
            f'<node id="n{index}"><data key="node_layer">{layer}</data>'
            f'<data key="node_neuron">{neuron}</data>'
            f'<data key="node_class">{escape(name)}</data>'
            f'<data key="node_constant">{"true" if constant else "false"}</data></node>\n'
            for index, (layer, neuron, name, constant) in enumerate(nodes)
        )
        for start in range(0, len(rows), _EDGES_PER_WRITE):
            part = slice(start, start + _EDGES_PER_WRITE)
            handle.writelines(
                f'<edge source="n{row}" target="n{column}">'
                f'<data key="edge_weight">{weight!r}</data></edge>\n'
                for row, column, weight in zip(
                    rows[part].tolist(), columns[part].tolist(), weights[part].tolist(), strict=True
                )
            )
        handle.write("</graph>\n</graphml>\n")


def read_graphml(path: str | os.PathLike[str]) -> CoactivationGraph:
    """Read a graph written by `write_graphml`, also after another program has written it again.

    Nodes keep the order of the file.

    Raises:
        DataError: the file is missing, is not XML, or holds no co-activation graph.
    """
    names: dict[str, str] = {}
    graph_data: dict[str, str] = {}
    position: dict[str, int] = {}
    nodes: list[dict[str, str]] = []
    sources: list[str] = []
    targets: list[str] = []
    weights: list[str] = []
    try:
        _refuse_document_type(path)
        parents: list[ElementTree.Element] = []
        for event, element in ElementTree.iterparse(os.fspath(path), events=("start", "end")):
            if event == "start":
                parents.append(element)
                continue
            parents.pop()
            tag = element.tag.rpartition("}")[2]
            if tag == "key":
                names[element.attrib["id"]] = element.attrib["attr.name"]
            elif tag == "data" and parents and parents[-1].tag.endswith("graph"):
                graph_data[names[element.attrib["key"]]] = element.text or ""
            elif tag == "node":
                position[element.attrib["id"]] = len(nodes)
                nodes.append(_data(element, names))
            elif tag == "edge":
                sources.append(element.attrib["source"])
                targets.append(element.attrib["target"])
                weights.append(_data(element, names)["weight"])
            if tag in ("node", "edge") and parents:
                parents[-1].remove(element)
        layer, neuron = (
            np.array([int(node[k]) for node in nodes], np.int64) for k in ("layer", "neuron")
        )
        constant = np.array([node["constant"].lower() in ("true", "1") for node in nodes], bool)
        layer_names, class_names = (
            tuple(json.loads(graph_data[name])) for name in ("layer_names", "class_names")
        )
        index = {name: k for k, name in enumerate(class_names)}
        classes = [node.get("class", "") for node in nodes]
        label = np.array([index[name] if name else -1 for name in classes])
        ends = (np.array([position[end] for end in side], np.int64) for side in (sources, targets))
        first, second = ends
        values = np.array([float(weight) for weight in weights])
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    except (ElementTree.ParseError, expat.ExpatError) as error:
        raise DataError(f"{path} is not valid XML ({error})") from error
    except KeyError as error:
        raise DataError(f"{path} is not a co-activation graph: it lacks {error}") from error
    except (ValueError, TypeError, OverflowError, RecursionError, LookupError) as error:
        raise DataError(f"{path} is not a co-activation graph: {error}") from error
    if np.any(first == second):
        unit = int(first[first == second][0])
        raise DataError(f"{path}: unit {unit} is joined to itself; a graph here has no loops")
    low, high = np.minimum(first, second), np.maximum(first, second)
    if len(np.unique(low * max(len(nodes), 1) + high)) < len(low):
        raise DataError(f"{path}: an edge is listed twice; a graph here has single edges")
    try:
        return CoactivationGraph(
            adjacency=symmetric_adjacency(low, high, values, len(nodes)),
            layer=layer,
            neuron=neuron,
            label=label.astype(np.int64),
            constant=constant,
            layer_names=layer_names,
            class_names=class_names,
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _refuse_document_type(path: str | os.PathLike[str]) -> None:
    """Raise for a file with a document type, whose entities could fill the memory.

    Raises:
        DataError: the file declares a document type; GraphML needs none.
    """

    def refuse(*_: object) -> None:
        raise DataError(f"{path} declares a document type (DOCTYPE); remove it, GraphML needs none")

    first_element: list[str] = []
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda name, _: first_element.append(name)
    with open(path, "rb") as handle:
        # A document type can only come before the first element.
        while not first_element and (block := handle.read(4096)):
            parser.Parse(block)


def _data(element: ElementTree.Element, names: dict[str, str]) -> dict[str, str]:
    return {names[child.attrib["key"]]: child.text or "" for child in element}
