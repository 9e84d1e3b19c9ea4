"""The sixteen topometrics of a network's graph, exact, and which recipe each value came from.

Cunegatti et al., "Understanding Sparse Neural Networks from their Topology via Multipartite Graph
Representations" (TMLR 2024), section 3.3, with the names of the published tables. What degrees,
codegrees, forests, peeling and convolutions give without edges is computed that way; the rest, and
graphs that have no blocks, are encoded first. docs/topometrics.md defines every column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast

import numpy as np
from scipy import sparse

from espalier.errors import ConfigurationError, DataError, unknown_name
from espalier.graphs.encodings import (
    KINDS,
    MAX_BYTES,
    edge_count,
    encode,
    encoding_bytes,
)
from espalier.graphs.layer_graph import CONVENTIONS, Block, Layer, LayerGraph, Part
from espalier.topology.measures import CONNECTIVITY, Measures, explicit_bytes

METHODS = ("auto", "explicit")

SIZES = ("nodes", "edges")

TOPOMETRICS = (
    "sink_nodes",
    "source_nodes",
    "disc_nodes",
    "r-out",
    "r-in",
    "1-hop_nei",
    "2-hop_nei",
    "motif",
    "k-core",
    "avg_node_strength",
    "no_connected_components",
    "mean_connected_components",
    "cut-edges",
    "cut-nodes",
    "spectral_gap",
    "spectral_radius",
)
"""The published columns, in the order of the paper's table."""

ALIASES = {
    "articulation_points": "cut-nodes",
    "bridges": "cut-edges",
    "clusters": "no_connected_components",
    "removable_in": "r-in",
    "removable_out": "r-out",
}
"""Names of the arXiv version of the paper, and common ones, for published columns."""

REDUNDANT = {
    "1-hop_nei": "(1 + edges / nodes) / edges",
    "mean_connected_components": "1 / no_connected_components",
}
"""Normalised columns that others decide: a regression gains nothing from them."""

_FLOAT16_LARGEST = 65504.0

_Rolled = Literal["rolled", "rolled-channel"]


class Topometric(NamedTuple):
    """A value, and how it was got.

    Attributes:
        value: of the topometric; a raw count is an int.
        exact: True for counts and what follows from them; sums of weights are exact but for
            rounding in float64. False for the two spectra, which are iterated to a residual.
        method: "edge-free" or "explicit".
        residual: of a spectrum, largest norm of A x - lambda x, x of norm 1; else None.
    """

    value: float
    exact: bool
    method: str
    residual: float | None = None


@dataclass(frozen=True)
class _Column:
    """How a column follows from measures.

    Attributes:
        needs: fields of Measures it is computed from.
        raw: its raw value.
        divisor: what its published form is divided by, "nodes", "edges" or None.
        spectrum: the measure whose residual it has, or None.
    """

    needs: tuple[str, ...]
    raw: Callable[[Measures], float]
    divisor: str | None
    spectrum: str | None = None


def _local(name: str, divisor: str | None) -> _Column:
    return _Column(("local",), lambda m: getattr(m.local, name), divisor)


def _measure(name: str, divisor: str | None) -> _Column:
    return _Column((name,), lambda m: getattr(m, name), divisor)


def _spectrum(name: str) -> _Column:
    return _Column((name,), lambda m: getattr(m, name).value, None, spectrum=name)


def _per_node(name: str) -> _Column:
    return _Column(("local", name), lambda m: _ratio(getattr(m, name), _nodes(m)), "edges")


_COLUMNS = {
    "nodes": _local("nodes", None),
    "edges": _local("edges", None),
    "sink_nodes": _local("sink_nodes", "nodes"),
    "source_nodes": _local("source_nodes", "nodes"),
    "disc_nodes": _local("disconnected_nodes", "nodes"),
    "r-out": _local("removable_out", "edges"),
    "r-in": _local("removable_in", "edges"),
    "1-hop_nei": _Column(("local",), lambda m: _ratio(_nodes(m) + _edges(m), _nodes(m)), "edges"),
    "2-hop_nei": _measure("two_hop_mean", "edges"),
    "motif3": _measure("motif3", "edges"),
    "motif4": _measure("motif4", "edges"),
    "k-core": _per_node("coreness"),
    "avg_node_strength": _per_node("total_strength"),
    "no_connected_components": _measure("components", None),
    "mean_connected_components": _Column(
        ("local", "components"), lambda m: _ratio(_nodes(m), m.components), "nodes"
    ),
    "cut-edges": _measure("bridges", "edges"),
    "cut-nodes": _measure("articulation_points", "edges"),
    "spectral_gap": _spectrum("gap"),
    "spectral_radius": _spectrum("radius"),
}

NAMES = tuple(dict.fromkeys((*SIZES, *TOPOMETRICS, *_COLUMNS, *ALIASES)))
"""Every name that `topometrics` knows."""


def topometrics(
    layer_graph: LayerGraph,
    kind: str = "unrolled",
    names: Iterable[str] | None = None,
    convention: str = "definition",
    normalise: bool = True,
    *,
    method: str = "auto",
    max_bytes: int | None = MAX_BYTES,
    device: str = "cpu",
) -> dict[str, float]:
    """Compute topometrics of a network's graph.

    Only what `names` ask for is computed, and what several of them need is computed once.

    "published" applies the public code's conventions to any graph: sinks and sources less the size
    of the last and of the first part, r-out and r-in exchanged and each without one node, and the
    gap between the first and the third magnitude of an eigenvalue. Its edges are those of
    `layer_graph(..., convention="published")`. Its motifs are counted, not sampled.

    Of the rolled encodings each layer is a graph of its own, see `layer_topometrics`. The value
    here is the mean over layers, empty ones as 0, which is how the published rolled results come
    about; nodes and edges are sums.

    Args:
        layer_graph: from `espalier.graphs.layer_graph`.
        kind: "unrolled", "rolled" or "rolled-channel".
        names: of `NAMES`; all of `SIZES` and `TOPOMETRICS` when None.
        convention: "definition" or "published".
        normalise: divide by nodes or edges as the published tables do; otherwise raw counts, as
            ints, means and eigenvalues.
        method: "auto", edge-free where there is a recipe; "explicit", from the encoded graph, as
            graphs of the published convention and rolled encodings always are.
        max_bytes: the most that an explicit graph and the work on it may take; None for no limit.
        device: the torch device of the convolutions.

    Returns:
        The values by name, in the order of `names`. NaN where the divisor is 0.

    Raises:
        ConfigurationError: an unknown name, kind, convention or method, or a graph that needs
            explicit edges is over `max_bytes` (found before it is built; the message says which
            topometrics would still run).
        DataError: a weight is not finite, a block does not fit its parts, or the graph lists an
            edge twice and bridges or cores are asked for (published convention only).
        EspalierError: a spectrum does not converge.
    """
    report = topometrics_report(
        layer_graph,
        kind,
        names,
        convention,
        normalise,
        method=method,
        max_bytes=max_bytes,
        device=device,
    )
    return {name: found.value for name, found in report.items()}


def topometrics_report(
    layer_graph: LayerGraph,
    kind: str = "unrolled",
    names: Iterable[str] | None = None,
    convention: str = "definition",
    normalise: bool = True,
    *,
    method: str = "auto",
    max_bytes: int | None = MAX_BYTES,
    device: str = "cpu",
) -> dict[str, Topometric]:
    """Compute topometrics, and say of each whether it is exact and how it was got.

    Args, returned order and errors are those of `topometrics`. Of a rolled encoding the residual is
    the largest of all layers.
    """
    chosen = _checked(names, kind, convention, method)
    if kind != "unrolled":
        layers = _layer_reports(layer_graph, kind, chosen, convention, normalise, max_bytes)
        return {name: _over_layers(name, [r[name] for r in layers.values()]) for name in chosen}
    columns = {name: _column(name) for name in chosen}
    published = layer_graph.convention == "published"
    _check_weights(layer_graph.layers if published else layer_graph.blocks, published)
    needs = _needs(columns.values(), normalise)
    whole = published or method == "explicit"
    explicit = needs if whole else _without_recipe(layer_graph, needs)
    if explicit:
        _check_memory(layer_graph, columns, normalise, explicit, method, max_bytes)
    measures = _edge_free_measures(layer_graph, needs - explicit, convention, device)
    if explicit:
        from espalier.topology.explicit import explicit_measures

        adjacency = encode(layer_graph, max_bytes=None)
        from_edges = explicit_measures(layer_graph, adjacency, explicit, convention)
        measures = replace(measures, **{need: getattr(from_edges, need) for need in explicit})
    return _report(measures, columns, normalise, explicit)


def layer_topometrics(
    layer_graph: LayerGraph,
    kind: str,
    names: Iterable[str] | None = None,
    convention: str = "definition",
    normalise: bool = True,
    *,
    max_bytes: int | None = MAX_BYTES,
) -> dict[str, dict[str, float]]:
    """Compute topometrics of every layer's rolled or rolled-channel graph.

    A layer is a graph of two parts, so by definition it has no sinks, sources and removable
    connections, and its 2-hop neighbourhood is its 1-hop neighbourhood. "motif" is of size 3 here,
    as in the paper; "motif4" is there too.

    Args, values and errors are those of `topometrics`; `kind` is "rolled" or "rolled-channel".

    Returns:
        By name of the layer's weight, in the order of the layers, the values by name.
    """
    if kind == "unrolled":
        raise ConfigurationError(
            "layers have graphs of their own in the rolled encodings only; use kind 'rolled' or "
            "'rolled-channel', or topometrics for the unrolled graph"
        )
    chosen = _checked(names, kind, convention, "auto")
    reports = _layer_reports(layer_graph, kind, chosen, convention, normalise, max_bytes)
    return {
        layer: {name: found.value for name, found in report.items()}
        for layer, report in reports.items()
    }


def _checked(
    names: Iterable[str] | None, kind: str, convention: str, method: str
) -> tuple[str, ...]:
    for value, known, what in (
        (kind, KINDS, "encoding"),
        (convention, CONVENTIONS, "convention"),
        (method, METHODS, "method"),
    ):
        if value not in known:
            raise unknown_name(what, value, known)
    if names is None:
        return (*SIZES, *TOPOMETRICS)
    chosen = (names,) if isinstance(names, str) else tuple(names)
    for name in chosen:
        if name not in NAMES:
            raise unknown_name("topometric", name, NAMES)
    return chosen


def _column(name: str, motif_size: int = 4) -> _Column:
    name = ALIASES.get(name, name)
    return _COLUMNS[f"motif{motif_size}" if name == "motif" else name]


def _needs(columns: Iterable[_Column], normalise: bool) -> set[str]:
    """The measures that columns are computed from; the divisors are among the local counts."""
    needs: set[str] = set()
    for column in columns:
        needs.update(column.needs)
        if normalise and column.divisor:
            needs.add("local")
    return needs


def _nodes(measures: Measures) -> int:
    assert measures.local is not None
    return measures.local.nodes


def _edges(measures: Measures) -> int:
    assert measures.local is not None
    return measures.local.edges


def _ratio(value: float, divisor: float | None) -> float:
    return value / divisor if divisor else float("nan")


def _report(
    measures: Measures,
    columns: Mapping[str, _Column],
    normalise: bool,
    explicit: Set[str],
) -> dict[str, Topometric]:
    report = {}
    for name, column in columns.items():
        value = column.raw(measures)
        if normalise and column.divisor:
            divisor = _nodes(measures) if column.divisor == "nodes" else _edges(measures)
            value = _ratio(value, divisor)
        spectrum = getattr(measures, column.spectrum) if column.spectrum else None
        report[name] = Topometric(
            value,
            exact=spectrum is None,
            method="edge-free" if explicit.isdisjoint(column.needs) else "explicit",
            residual=None if spectrum is None else spectrum.residual,
        )
    return report


# -- without edges -----------------------------------------------------------------------------


def _edge_free_measures(
    layer_graph: LayerGraph, needs: Collection[str], convention: str, device: str
) -> Measures:
    """Measure a graph of blocks; what only one stage needs is gone before the next begins."""
    from espalier.topology.degrees import (
        degree_fields,
        local_counts,
        strength_fields,
        total_strength,
    )

    found: dict[str, object] = {}
    if set(needs) - {"total_strength", "gap", "radius"}:
        degrees = degree_fields(layer_graph)
        if "local" in needs:
            found["local"] = local_counts(degrees, convention)
        if {"two_hop_mean", "motif3", "motif4"} & set(needs):
            from espalier.topology.motifs import subgraph_counts

            counts = subgraph_counts(layer_graph, degrees, four="motif4" in needs)
            found["two_hop_mean"] = counts.two_hop_mean
            found["motif3"] = counts.three_total
            found["motif4"] = None if counts.four is None else counts.four.total
        if {*CONNECTIVITY, "coreness"} & set(needs):
            total = np.concatenate([field.ravel() for field in degrees.total]).astype(np.int32)
            del degrees
            found.update(_traversed(layer_graph, total, needs, device))
    if "total_strength" in needs:
        found["total_strength"] = total_strength(strength_fields(layer_graph))
    if "gap" in needs or "radius" in needs:
        from espalier.topology.spectra import spectral_gap, spectral_radius

        if "gap" in needs:
            found["gap"] = spectral_gap(layer_graph, convention, device=device)
        if "radius" in needs:
            found["radius"] = spectral_radius(layer_graph, device=device)
    return Measures(**found)  # type: ignore[arg-type]


def _traversed(
    layer_graph: LayerGraph, degrees: np.ndarray, needs: Collection[str], device: str
) -> dict[str, int]:
    from espalier.topology.cores import cores
    from espalier.topology.neighbours import neighbours
    from espalier.topology.traversal import connectivity

    found: dict[str, int] = {}
    adjacency = neighbours(layer_graph)
    if set(needs) & set(CONNECTIVITY):
        connected = connectivity(layer_graph, adjacency=adjacency, degrees=degrees)
        found.update({name: getattr(connected, name) for name in CONNECTIVITY})
        del connected
    if "coreness" in needs:
        found["coreness"] = cores(
            layer_graph, adjacency=adjacency, degrees=degrees, device=device
        ).total
    return found


def _without_recipe(layer_graph: LayerGraph, needs: Collection[str]) -> set[str]:
    """The measures that need edges here: cliques of four nodes are not counted without them."""
    from espalier.topology.motifs import four_adjacent_parts

    if "motif4" in needs and four_adjacent_parts(layer_graph) is not None:
        return {"motif4"}
    return set()


# -- checks ------------------------------------------------------------------------------------


def _check_weights(holders: Sequence[Block | Layer], float16: bool) -> None:
    for holder in holders:
        largest = float(np.abs(holder.weight).max(where=holder.mask, initial=0.0))
        if not math.isfinite(largest):
            raise DataError(
                f"block {holder.name!r} has weights that are not finite, so the graph has no "
                "strengths and no spectra; use weights from before the training diverged"
            )
        if float16 and largest > _FLOAT16_LARGEST:
            raise DataError(
                f"layer {holder.name!r} has weights up to {largest:.4g}, which the float16 of the "
                "public code does not hold; use convention 'definition'"
            )


def _check_memory(
    layer_graph: LayerGraph,
    columns: Mapping[str, _Column],
    normalise: bool,
    explicit: Set[str],
    method: str,
    max_bytes: int | None,
) -> None:
    """Raise if the measures that need edges need too much memory; name what would still run."""
    edges = edge_count(layer_graph)
    size = _bytes(layer_graph, edges, explicit)
    if max_bytes is None or size <= max_bytes:
        return

    def fits(column: _Column) -> bool:
        needs = explicit & _needs([column], normalise)
        return not needs or _bytes(layer_graph, edges, needs) <= max_bytes

    fitting = [name for name, column in columns.items() if fits(column)]
    others = [name for name in columns if name not in fitting]
    still = f", or ask only for {', '.join(fitting)}: these still run" if fitting else ""
    if method == "explicit" and layer_graph.convention != "published":
        still += ", or use method 'auto'"
    raise ConfigurationError(
        f"{', '.join(others)} need explicit edges here; the {edges:,} edges and the work on them "
        f"take {size:,} bytes, over the limit max_bytes={max_bytes:,}. Raise max_bytes{still}"
    )


def _bytes(layer_graph: LayerGraph, edges: int, needs: Collection[str]) -> int:
    """The bytes of the encoding and of what is allocated beside it."""
    beside = explicit_bytes(layer_graph.nodes, edges, needs)
    if layer_graph.convention == "published":
        from espalier.graphs.published_encoding import LISTING_BYTES

        beside = max(beside, LISTING_BYTES * edges)
    return encoding_bytes(layer_graph.nodes, edges) + beside


# -- rolled ------------------------------------------------------------------------------------


def _layer_reports(
    layer_graph: LayerGraph,
    kind: str,
    names: tuple[str, ...],
    convention: str,
    normalise: bool,
    max_bytes: int | None,
) -> dict[str, dict[str, Topometric]]:
    from espalier.topology.explicit import explicit_measures

    _check_weights(layer_graph.layers, layer_graph.convention == "published")
    # The paper counts motifs of three nodes in the rolled encodings, of four in the unrolled one.
    columns = {name: _column(name, motif_size=3) for name in names}
    needs = _needs(columns.values(), normalise)
    if not layer_graph.layers:
        raise DataError("the layer graph has no layers, of which the rolled encodings are made")
    reports = {}
    for layer in layer_graph.layers:
        graph, edges = _layer_parts(layer, kind)
        size = encoding_bytes(graph.nodes, edges) + explicit_bytes(graph.nodes, edges, needs)
        if max_bytes is not None and size > max_bytes:
            raise ConfigurationError(
                f"layer {layer.name!r} has {edges:,} edges in the {kind} encoding; they and the "
                f"work on them take {size:,} bytes, over the limit max_bytes={max_bytes:,}. Raise "
                "max_bytes or use kind 'unrolled', which needs no edges"
            )
        one = replace(layer_graph, layers=(layer,))
        adjacency = _as_square(encode(one, cast(_Rolled, kind))[layer.name], graph)
        measures = explicit_measures(graph, adjacency, needs, convention)
        reports[layer.name] = _report(measures, columns, normalise, needs)
    return reports


def _layer_parts(layer: Layer, kind: str) -> tuple[LayerGraph, int]:
    """A layer's two parts in a rolled encoding, and its edges there."""
    outputs, inputs, height, width = layer.mask.shape
    inputs *= layer.groups
    if kind == "rolled":
        left, edges = inputs * height * width, int(np.count_nonzero(layer.mask))
    else:
        left, edges = inputs, int(np.count_nonzero(layer.mask.any(axis=(2, 3))))
    return LayerGraph((Part("left", left, 1, 1), Part("right", outputs, 1, 1)), ()), edges


def _as_square(bipartite: sparse.csr_array, graph: LayerGraph) -> sparse.csr_array:
    """The adjacency of all nodes of a graph of two parts, from the edges between them."""
    _, left, nodes = graph.offsets.tolist()
    indptr = np.concatenate([bipartite.indptr, np.full(nodes - left, bipartite.nnz)])
    entries = (bipartite.data, bipartite.indices + left, indptr)
    return sparse.csr_array(entries, shape=(nodes, nodes))


def _over_layers(name: str, found: Sequence[Topometric]) -> Topometric:
    """The mean over layers, NaN as 0; nodes and edges are added up."""
    values = [0.0 if math.isnan(f.value) else f.value for f in found]
    residuals = [f.residual for f in found if f.residual is not None]
    return Topometric(
        sum(values) if name in SIZES else sum(values) / len(values),
        exact=all(f.exact for f in found),
        method="explicit",
        residual=max(residuals, default=None),
    )
