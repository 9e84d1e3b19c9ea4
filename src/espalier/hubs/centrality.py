"""Laplacian centrality of the units of a network, in closed form and O(edges).

The Laplacian energy of a graph is the sum of the squared eigenvalues of its Laplacian; the
centrality of a node is how much of it goes when the node does. With weights w, x the strength of a
node (the sum of the weights of its edges, w_vu included in x_u) and u over its neighbours,

    LC(v) = x_v^2 + sum_u (w_vu^2 + 2 w_vu x_u).

It holds for weights of either sign; then a centrality may be negative. Source: Qi, Fuller, Wu, Wu
and Zhang, "Laplacian centrality: a new centrality measure for weighted networks", Information
Sciences 194, 2012; the form above follows from the trace of the squared Laplacian.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from espalier.errors import ConfigurationError, unknown_name
from espalier.hubs.weighted_graphs import (
    GRAPHS,
    LayeredWeights,
    WeightedGraph,
    Weights,
    by_layer,
    network_graph,
)

if TYPE_CHECKING:
    from torch import nn

    from espalier.graphs.layer_graph import LayerGraph

OWN_TERMS = ("exact", "truncated")


@dataclass(frozen=True)
class CentralityOptions:
    """What a Laplacian centrality is computed of.

    Attributes:
        graph: "undirected", or "out": strengths and neighbours along outgoing edges only.
        signed: the weights as they are, else their absolute values.
        own_term: x_v^2 "exact", or "truncated": the square of x_v cut to an integer, as NetworKit
            up to 11.2.2 computes it.
        include_output: False leaves the output units and their edges out of the graph.
        normalised: divided by the energy of the whole graph.
    """

    graph: str = "undirected"
    signed: bool = True
    own_term: str = "exact"
    include_output: bool = True
    normalised: bool = False


PRESETS: Mapping[str, CentralityOptions] = MappingProxyType(
    {
        "definition": CentralityOptions(),
        "paper": CentralityOptions(),
        "cenbench": CentralityOptions(graph="out", own_term="truncated", include_output=False),
    }
)
"""The definition; what the CenSET paper says (undirected, exact, not normalised; it says nothing of
signs and of the output units, so as the definition); what its public code computes."""


def laplacian_centrality(
    weights: Sequence[Weights],
    graph: str | None = None,
    signed: bool | None = None,
    preset: str | None = None,
    *,
    own_term: str | None = None,
    include_output: bool | None = None,
    normalised: bool | None = None,
) -> list[np.ndarray]:
    """Laplacian centrality of every unit of a network of dense layers.

    Nothing is densified or copied to another device; sums are float64. Cost: every weight is read
    twice.

    Args:
        weights: one (n_in, n_out) matrix per layer: numpy array, torch tensor on any device, or
            scipy CSR; real numbers, integers too. A weight of 0 is no edge.
        graph: "undirected" (the default) or "out", for which x_v and u run over outgoing edges.
        signed: weights as they are (the default), else their absolute values.
        preset: a key of `PRESETS` ("definition", "paper", "cenbench"); every option that is given
            beside it must agree with it.
        own_term: "exact" (the default) or "truncated".
        include_output: whether the units of the last layer belong to the graph (the default).
        normalised: divide by the energy of the whole graph, sum_v x_v^2 + sum_v sum_u w_vu^2, u
            over the neighbours of v: every edge counts twice in an undirected graph and once in
            an out-graph, and x_v is truncated where `own_term` is. 0 for a graph without edges.

    Returns:
        One (units,) float64 array per layer: inputs first, outputs last unless left out.

    Raises:
        ConfigurationError: an unknown option or preset, or an option that contradicts the preset.
        DataError: no layer, weights that are not real finite matrices, or layers that do not chain.
    """
    options = resolve_options(
        preset,
        graph=graph,
        signed=signed,
        own_term=own_term,
        include_output=include_output,
        normalised=normalised,
    )
    layers = LayeredWeights(weights, signed=options.signed, include_output=options.include_output)
    return by_layer(layers, laplacian_of_graph(layers, options))


def network_centrality(
    network: LayerGraph | nn.Module,
    kind: str = "unrolled",
    preset: str | None = None,
    *,
    input_shape: tuple[int, int, int] | None = None,
    masks: Mapping[str, Any] | None = None,
    graph: str | None = None,
    signed: bool | None = None,
    own_term: str | None = None,
    include_output: bool | None = None,
    normalised: bool | None = None,
) -> dict[str, np.ndarray]:
    """Laplacian centrality of every unit or channel of any network, convolutions too.

    No edge of the unrolled graph is built: the sums are convolutions.

    Args:
        network: a layer graph of the convention "definition", or a model.
        kind: "unrolled", one node per unit of every feature map; or "rolled-channel", one node per
            channel, where an edge weighs the L2 norm of its kernel slice with the sign of the
            slice's sum (for a dense layer behind a flattened map, the slice is the weights of all
            positions of the channel).
        preset, graph, signed, own_term, include_output, normalised: as in `laplacian_centrality`.
        input_shape, masks: of the model, as in `espalier.graphs.layer_graph`.

    Returns:
        Part name to float64 values, (channels, height, width) of the unrolled graph, (channels,)
        of the rolled one, in the order of the layer graph. Units of zero padding are included.

    Raises:
        ConfigurationError: unknown options, options against the preset, or a model without
            `input_shape`.
        DataError: the network does not fit or a weight is not finite.
    """
    options = resolve_options(
        preset,
        graph=graph,
        signed=signed,
        own_term=own_term,
        include_output=include_output,
        normalised=normalised,
    )
    units = network_graph(
        as_layer_graph(network, input_shape, masks),
        kind,
        signed=options.signed,
        include_output=options.include_output,
    )
    values = by_layer(units, laplacian_of_graph(units, options))
    return dict(zip(units.names, values, strict=True))


def as_layer_graph(
    network: LayerGraph | nn.Module,
    input_shape: tuple[int, int, int] | None,
    masks: Mapping[str, Any] | None,
) -> LayerGraph:
    """Return a layer graph as it is, or that of a model.

    Raises:
        ConfigurationError: a model without `input_shape`, or a layer graph with one.
    """
    from espalier.graphs.layer_graph import LayerGraph, layer_graph

    if isinstance(network, LayerGraph):
        if input_shape is not None or masks is not None:
            raise ConfigurationError(
                "input_shape and masks belong to a model; a layer graph has them already"
            )
        return network
    if input_shape is None:
        raise ConfigurationError("a model needs input_shape=(channels, height, width)")
    return layer_graph(network, input_shape, masks)


def laplacian_of_graph(graph: WeightedGraph, options: CentralityOptions) -> np.ndarray:
    """Laplacian centrality of every node of a graph given as products.

    Args:
        graph: with signed or absolute weights, with or without output units.
        options: `signed` and `include_output` are the graph's own affair.

    Returns:
        (nodes,) float64.
    """
    sums = graph.sums()
    if options.graph == "undirected":
        strength = sums.outgoing + sums.incoming
        squares = sums.outgoing_squares + sums.incoming_squares
        outgoing, incoming = graph.products(strength)
        neighbours = outgoing + incoming
    else:
        strength, squares = sums.outgoing, sums.outgoing_squares
        neighbours, _ = graph.products(strength)
    own = np.trunc(strength) if options.own_term == "truncated" else strength
    values = own * own + squares + 2 * neighbours
    if options.normalised:
        energy = float(own @ own + squares.sum())
        return values / energy if energy > 0 else np.zeros_like(values)
    return values


def resolve_options(preset: str | None, **given: Any) -> CentralityOptions:
    """Return the options of a preset, or the given ones and defaults.

    Args:
        preset: a key of `PRESETS`, or None.
        given: fields of `CentralityOptions`; None for one that was not given.

    Raises:
        ConfigurationError: an unknown preset, an unusable value, or one against the preset.
    """
    if preset is not None and preset not in PRESETS:
        raise unknown_name("centrality preset", preset, PRESETS)
    options = CentralityOptions(
        **{
            field.name: getattr(PRESETS[preset or "definition"], field.name)
            if given.get(field.name) is None
            else given[field.name]
            for field in fields(CentralityOptions)
        }
    )
    if options.graph not in GRAPHS:
        raise unknown_name("graph of a centrality", options.graph, GRAPHS)
    if options.own_term not in OWN_TERMS:
        raise unknown_name("own term", options.own_term, OWN_TERMS)
    for name in ("signed", "include_output", "normalised"):
        if not isinstance(getattr(options, name), bool | np.bool_):
            raise ConfigurationError(f"{name} is {getattr(options, name)!r}; it is True or False")
    if preset is not None and options != PRESETS[preset]:
        wrong = [
            f"{name}={value!r} (the preset has {getattr(PRESETS[preset], name)!r})"
            for name, value in vars(options).items()
            if value != getattr(PRESETS[preset], name)
        ]
        raise ConfigurationError(
            f"preset {preset!r} contradicts {', '.join(wrong)}; leave the option out, or give all "
            "options and no preset"
        )
    return options
