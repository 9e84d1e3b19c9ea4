"""The neighbours of every node of a layer graph, computed when asked for and never stored.

A node's neighbours are rectangles of positions. For every part, every block at it, every channel
and every tap of the kernel there is a list of the channels that the weights of this tap join it
with. Two tables per block tell which rows and which columns of the other part a position reaches by
a tap. Both are ranges, since the windows of convolutions and pools have no gaps; a tap whose
windows have gaps is taken apart into several taps without. The lists take 8 bytes per kept weight,
4 at each of its ends, however many edges it stands for.

The compiled loops that walk on this structure are all here, not where they are used: numba notices
an edit only in the file of the function that is called, and would run a stale copy of `_reach`.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from espalier.errors import DataError
from espalier.graphs.layer_graph import LayerGraph
from espalier.topology.blocks import Side, checked_blocks, sides
from espalier.topology.csr_kernels import UndirectedGraph
from espalier.topology.degrees import degree_fields

_SIDE = np.dtype(
    [
        ("other", np.int64),
        ("other_start", np.int64),
        ("other_area", np.int64),
        ("other_width", np.int64),
        ("first_channel", np.int64),
        ("channels", np.int64),
        ("lists", np.int64),
        ("rows", np.int64),
        ("row_taps", np.int64),
        ("columns", np.int64),
        ("column_taps", np.int64),
    ]
)


class Neighbours(NamedTuple):
    """The implicit adjacency of a layer graph, as arrays for compiled loops.

    Attributes:
        start: (parts + 1,) int64, first node of each part.
        height, width: (parts,) int64.
        side_start: (parts + 1,) int64, first side of each part in `sides`.
        sides: one record per block and end: `other`, the part at the other end, with the number of
            its first node, the nodes of one of its channels and its width; the channels of this
            part that the block touches; and where its lists (in `list_start`, one per channel, row
            tap and column tap) and its range tables (in `low` and `high`) begin.
        list_start: int64, first entry of each list in `channels`.
        channels: int32, channels at the other end.
        low, high: int32 tables of the partner rows or columns low .. high - 1 of each position and
            tap (position x taps + tap).
    """

    start: np.ndarray
    height: np.ndarray
    width: np.ndarray
    side_start: np.ndarray
    sides: np.ndarray
    list_start: np.ndarray
    channels: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def nodes(self) -> int:
        """Return the number of nodes."""
        return int(self.start[-1])


def neighbours(layer_graph: LayerGraph) -> Neighbours:
    """Build the implicit adjacency of a layer graph.

    Raises:
        DataError: the graph is of the published convention, a block does not fit its parts, or
            there are 2^31 or more nodes.
    """
    blocks = checked_blocks(layer_graph)
    if layer_graph.nodes > np.iinfo(np.int32).max:
        raise DataError(f"the graph has {layer_graph.nodes:,} nodes, over the limit of 2^31 - 1")
    at_part: list[list[Side]] = [[] for _ in layer_graph.parts]
    for block in blocks:
        if block.mask.any():
            from_target, from_source = sides(block)
            at_part[block.target].append(from_target)
            at_part[block.source].append(from_source)
    counted = [side for part in at_part for side in part]
    records = np.zeros(len(counted), _SIDE)
    lists = _Lists(2 * sum(int(np.count_nonzero(block.mask)) for block in blocks))
    tables = _Tables()
    at = 0
    for part, own in zip(layer_graph.parts, at_part, strict=True):
        for side in own:
            other = layer_graph.parts[side.other]
            rows, row_origin = _ranges(side.rows, part.height, side.mask.shape[1])
            columns, column_origin = _ranges(side.columns, part.width, side.mask.shape[2])
            mask = _taken(_taken(side.mask, row_origin, 1), column_origin, 2)
            records[at] = (
                side.other,
                layer_graph.offsets[side.other],
                other.height * other.width,
                other.width,
                side.mid_start,
                side.mid_stop - side.mid_start,
                lists.add(mask, side.other_start),
                tables.add(rows),
                mask.shape[1],
                tables.add(columns),
                mask.shape[2],
            )
            at += 1
    list_start, channels = lists.arrays()
    low, high = tables.arrays()
    return Neighbours(
        start=layer_graph.offsets,
        height=np.array([part.height for part in layer_graph.parts], np.int64),
        width=np.array([part.width for part in layer_graph.parts], np.int64),
        side_start=np.cumsum([0, *map(len, at_part)], dtype=np.int64),
        sides=records,
        list_start=list_start,
        channels=channels,
        low=low,
        high=high,
    )


def total_degrees(layer_graph: LayerGraph) -> np.ndarray:
    """Return the (nodes,) int32 number of neighbours of every node.

    Raises:
        DataError: a block does not fit its parts.
    """
    degrees = degree_fields(layer_graph)
    total = np.empty(layer_graph.nodes, np.int32)
    for part, (incoming, outgoing) in enumerate(
        zip(degrees.incoming, degrees.outgoing, strict=True)
    ):
        own = total[layer_graph.offsets[part] : layer_graph.offsets[part + 1]]
        np.add(incoming.ravel(), outgoing.ravel(), out=own, casting="unsafe")
    return total


def explicit(layer_graph: LayerGraph) -> UndirectedGraph:
    """Write out all edges; 8 bytes for each of them.

    Raises:
        DataError: as in `neighbours`.
    """
    degree = total_degrees(layer_graph)
    indptr = np.concatenate([[0], np.cumsum(degree, dtype=np.int64)])
    indices = np.empty(indptr[-1], np.int32)
    _expand(neighbours(layer_graph), indptr, indices)
    return UndirectedGraph(indptr, indices)


# -- building ----------------------------------------------------------------------------------


class _Lists:
    """Channel lists of all sides, one behind the other."""

    def __init__(self, expected: int) -> None:
        self._starts: list[np.ndarray] = []
        self._count = 0
        self._length = 0
        self._channels = np.empty(expected + 1, np.int32)

    def add(self, mask: np.ndarray, other_start: int) -> int:
        """Add the lists of a side, (groups, rows, columns, others, mids); return the first's place.

        There is one list more than the side needs; its start ends the list before it.
        """
        mask = np.ascontiguousarray(mask.transpose(0, 4, 1, 2, 3))
        self._reserve(self._length + int(np.count_nonzero(mask)))
        starts = np.empty(mask.size // mask.shape[4] + 1, np.int64)
        self._length = int(_fill_lists(mask, self._length, other_start, starts, self._channels))
        self._starts.append(starts)
        place = self._count
        self._count += len(starts)
        return place

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        starts = np.concatenate(self._starts) if self._starts else np.zeros(1, np.int64)
        return starts, self._channels[: self._length]

    def _reserve(self, length: int) -> None:
        """Grow the array; only taps that were taken apart exceed the expected length."""
        if length >= len(self._channels):
            grown = np.empty(max(length + 1, 2 * len(self._channels)), np.int32)
            grown[: self._length] = self._channels[: self._length]
            self._channels = grown


class _Tables:
    """Range tables of all sides, one behind the other."""

    def __init__(self) -> None:
        self._tables: list[np.ndarray] = []
        self._length = 0

    def add(self, ranges: np.ndarray) -> int:
        """Add a (positions, taps, 2) table of ranges; return where it begins."""
        place = self._length
        self._tables.append(ranges.reshape(-1, 2))
        self._length += len(self._tables[-1])
        return place

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        both = np.concatenate(self._tables or [np.zeros((0, 2), np.int32)])
        return np.ascontiguousarray(both[:, 0]), np.ascontiguousarray(both[:, 1])


def _taken(mask: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
    """Return `mask.take(index, axis)`, the mask itself where nothing would change."""
    if np.array_equal(index, np.arange(mask.shape[axis])):
        return mask
    return mask.take(index, axis)


def _ranges(triples: np.ndarray, positions: int, taps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ranges of partner positions of every position and tap, and each tap's origin.

    Args:
        triples: (n, 3) (other position, position, tap).
        positions: of the part whose ranges are asked for.
        taps: of the kernel.

    Returns:
        (positions, new taps, 2) int32 table of [low, high), 0 and 0 where there is nothing; and
        (new taps,) the kernel's tap that each new tap is a piece of. A tap that joins nothing is
        left out, one with gaps is in several pieces.
    """
    other, own, tap = triples.astype(np.int64).T
    window = own * taps + tap
    order = np.lexsort((other, window))
    other, window = other[order], window[order]
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(window) != 0) | (np.diff(other) != 1)
    run = np.flatnonzero(first)
    length = np.diff(np.append(run, len(order)))
    window, low = window[run], other[run]
    piece = np.arange(len(run)) - np.searchsorted(window, window)
    pieces = np.zeros(taps, np.int64)
    np.maximum.at(pieces, window % taps, piece + 1)
    new_tap = (np.cumsum(pieces) - pieces)[window % taps] + piece
    ranges = np.zeros((positions, int(pieces.sum()), 2), np.int32)
    ranges[window // taps, new_tap] = np.column_stack([low, low + length])
    return ranges, np.repeat(np.arange(taps), pieces)


@numba.njit(cache=True)
def _fill_lists(
    mask: np.ndarray, at: int, other_start: int, starts: np.ndarray, channels: np.ndarray
) -> int:
    groups, mids, rows, columns, others = mask.shape
    number = 0
    for group in range(groups):
        first = other_start + group * others
        for mid in range(mids):
            for y in range(rows):
                for x in range(columns):
                    starts[number] = at
                    number += 1
                    for other in range(others):
                        # Written without a branch, which would be mispredicted at every weight;
                        # the next entry overwrites one that is masked.
                        channels[at] = first + other
                        at += mask[group, mid, y, x, other]
    starts[number] = at
    return at


# -- compiled loops ----------------------------------------------------------------------------


@numba.njit
def _largest(values: np.ndarray) -> int:
    largest = 0
    for value in values:
        largest = max(largest, value)
    return largest


@numba.njit(inline="always")
def _divided(number: int, divisor: int) -> tuple[int, int]:
    # Unsigned 32-bit division is several times as fast as the signed 64-bit one.
    quotient = np.uint32(number) // np.uint32(divisor)
    return int(np.int64(quotient)), int(np.int64(number - quotient * divisor))


@numba.njit(inline="always")
def _place(graph: Neighbours, node: int, part: int) -> tuple[int, int, int, int]:
    """Return (part, channel, row, column) of a node; `part` is a guess."""
    while node < graph.start[part]:
        part -= 1
    while node >= graph.start[part + 1]:
        part += 1
    line, column = _divided(node - graph.start[part], graph.width[part])
    channel, row = _divided(line, graph.height[part])
    return part, channel, row, column


@numba.njit(inline="always")
def _reach(
    graph: Neighbours, side: int, channel: int, row: int, column: int, found: np.ndarray
) -> int:
    """Write the neighbours of a node over one side to `found`; return how many there are."""
    record = graph.sides[side]
    place = channel - record.first_channel
    if place < 0 or place >= record.channels:
        return 0
    rows = record.rows + row * record.row_taps
    columns = record.columns + column * record.column_taps
    number = record.lists + place * record.row_taps * record.column_taps - 1
    area, width = record.other_area, record.other_width
    low, high, channels = graph.low, graph.high, graph.channels
    count = 0
    for y in range(rows, rows + record.row_taps):
        for x in range(columns, columns + record.column_taps):
            number += 1
            left, right = low[x], high[x]
            if low[y] == high[y] or left == right:
                continue
            first, last = graph.list_start[number], graph.list_start[number + 1]
            if high[y] - low[y] == 1 and right - left == 1:
                corner = record.other_start + low[y] * width + left
                for at in range(first, last):
                    found[count + at - first] = corner + channels[at] * area
                count += int(last - first)
                continue
            for at in range(first, last):
                base = record.other_start + channels[at] * area
                for line in range(low[y], high[y]):
                    for w in range(base + line * width + left, base + line * width + right):
                        found[count] = w
                        count += 1
    return count


@numba.njit(cache=True)
def _expand(graph: Neighbours, indptr: np.ndarray, indices: np.ndarray) -> None:
    part = 0
    for v in range(graph.start[-1]):
        part, channel, row, column = _place(graph, v, part)
        at = indptr[v]
        for side in range(graph.side_start[part], graph.side_start[part + 1]):
            at += _reach(graph, side, channel, row, column, indices[at:])
        indices[indptr[v] : at].sort()


@numba.njit(inline="always")
def _first_at(
    graph: Neighbours, side: int, channel: int, row: int, column: int, level: np.ndarray, depth: int
) -> int:
    """Return the first neighbour over one side whose level is `depth`, or -1."""
    record = graph.sides[side]
    place = channel - record.first_channel
    if place < 0 or place >= record.channels:
        return -1
    rows = record.rows + row * record.row_taps
    columns = record.columns + column * record.column_taps
    number = record.lists + place * record.row_taps * record.column_taps - 1
    area, width = record.other_area, record.other_width
    low, high, channels = graph.low, graph.high, graph.channels
    for y in range(rows, rows + record.row_taps):
        for x in range(columns, columns + record.column_taps):
            number += 1
            left, right = low[x], high[x]
            if low[y] == high[y] or left == right:
                continue
            for at in range(graph.list_start[number], graph.list_start[number + 1]):
                base = record.other_start + channels[at] * area
                for line in range(low[y], high[y]):
                    for w in range(base + line * width + left, base + line * width + right):
                        if level[w] == depth:
                            return w
    return -1


@numba.njit
def _reaches(graph: Neighbours, part: int, in_frontier: np.ndarray) -> bool:
    for side in range(graph.side_start[part], graph.side_start[part + 1]):
        if in_frontier[graph.sides[side].other]:
            return True
    return False


@numba.njit
def _grow_down(
    graph: Neighbours,
    queue: np.ndarray,
    head: int,
    tail: int,
    depth: int,
    level: np.ndarray,
    parent: np.ndarray,
    unvisited: np.ndarray,
    in_next: np.ndarray,
    found: np.ndarray,
) -> int:
    """Visit the neighbours of the frontier queue[head:tail]; return the new end of the queue."""
    part = 0
    for at in range(head, tail):
        v = queue[at]
        part, channel, row, column = _place(graph, v, part)
        for side in range(graph.side_start[part], graph.side_start[part + 1]):
            other = graph.sides[side].other
            if unvisited[other] == 0:
                continue
            before = tail
            for i in range(_reach(graph, side, channel, row, column, found)):
                w = found[i]
                if level[w] < 0:
                    level[w] = depth + 1
                    parent[w] = v
                    queue[tail] = w
                    tail += 1
            if tail > before:
                unvisited[other] -= tail - before
                in_next[other] = True
    return tail


@numba.njit
def _grow_up(
    graph: Neighbours,
    part: int,
    queue: np.ndarray,
    tail: int,
    depth: int,
    level: np.ndarray,
    parent: np.ndarray,
    unvisited: np.ndarray,
    in_frontier: np.ndarray,
) -> int:
    """Look for the frontier from the unvisited nodes of a part; return the queue's new end.

    Only sides towards parts that hold frontier nodes are looked at. Without that, most of the time
    goes to nodes that the frontier cannot reach yet.
    """
    height, width = graph.height[part], graph.width[part]
    v = graph.start[part] - 1
    before = tail
    for line in range((graph.start[part + 1] - graph.start[part]) // max(1, width)):
        channel, row = line // height, line % height
        for column in range(width):
            v += 1
            if level[v] >= 0:
                continue
            for side in range(graph.side_start[part], graph.side_start[part + 1]):
                if in_frontier[graph.sides[side].other]:
                    w = _first_at(graph, side, channel, row, column, level, depth)
                    if w >= 0:
                        level[v] = depth + 1
                        parent[v] = w
                        queue[tail] = v
                        tail += 1
                        break
    unvisited[part] -= tail - before
    return tail


@numba.njit(cache=True)
def breadth_first_forest(
    graph: Neighbours, degree: np.ndarray, root: int
) -> tuple[np.ndarray, np.ndarray]:
    """Grow a breadth-first forest, from the frontier or towards it, whichever is less work.

    Args:
        graph: the implicit adjacency.
        degree: (nodes,) int32.
        root: where the first tree begins.

    Returns:
        (nodes,) int32 parents, of a root the root itself; and (nodes,) int32, all nodes in the
        order of their discovery, tree after tree.

    Source: Beamer, Asanovic and Patterson (2012), "Direction-optimizing breadth-first search".
    """
    nodes, parts = degree.size, graph.height.size
    parent = np.full(nodes, -1, np.int32)
    level = np.full(nodes, -1, np.int32)
    queue = np.empty(nodes, np.int32)
    found = np.empty(_largest(degree), np.int32)
    unvisited = np.empty(parts, np.int64)
    for p in range(parts):
        unvisited[p] = graph.start[p + 1] - graph.start[p]
    in_frontier = np.zeros(parts, np.bool_)
    in_next = np.zeros(parts, np.bool_)
    depth = np.int32(0)
    tail = part = next_root = 0
    while tail < nodes:
        if tail:
            while level[next_root] >= 0:
                next_root += 1
            root = next_root
        part = _place(graph, root, part)[0]
        head = tail
        depth += 1
        parent[root] = root
        level[root] = depth
        queue[tail] = root
        tail += 1
        unvisited[part] -= 1
        in_frontier[part] = True
        while head < tail:
            frontier_end = tail
            work = 0
            for at in range(head, frontier_end):
                work += degree[queue[at]]
            candidates = 0
            for p in range(parts):
                if _reaches(graph, p, in_frontier):
                    candidates += unvisited[p]
            if work < 4 * candidates:
                tail = _grow_down(
                    graph, queue, head, tail, depth, level, parent, unvisited, in_next, found
                )
            elif candidates:
                for p in range(parts):
                    if unvisited[p] and _reaches(graph, p, in_frontier):
                        before = tail
                        tail = _grow_up(
                            graph, p, queue, tail, depth, level, parent, unvisited, in_frontier
                        )
                        in_next[p] = tail > before
            head = frontier_end
            depth += 1
            for p in range(parts):
                in_frontier[p] = in_next[p]
                in_next[p] = False
    return parent, queue


@numba.njit
def _top(above: np.ndarray, v: int) -> int:
    while above[v] != v:
        above[v] = above[above[v]]
        v = above[v]
    return v


@numba.njit
def _join(above: np.ndarray, ends: np.ndarray, count: int, v: int, w: int) -> int:
    """Unite the sets of two nodes and keep the edge if they were apart; return the edges kept."""
    a, b = _top(above, v), _top(above, w)
    if a == b:
        return count
    above[max(a, b)] = min(a, b)
    ends[count, 0], ends[count, 1] = v, w
    return count + 1


@numba.njit(inline="always")
def _link_first(
    graph: Neighbours,
    side: int,
    channel: int,
    row: int,
    column: int,
    v: int,
    parent: np.ndarray,
    above: np.ndarray,
    ends: np.ndarray,
    count: int,
) -> int:
    """Link a node with its first two neighbours over one side that no tree edge joins to it."""
    record = graph.sides[side]
    place = channel - record.first_channel
    if place < 0 or place >= record.channels:
        return count
    rows = record.rows + row * record.row_taps
    columns = record.columns + column * record.column_taps
    number = record.lists + place * record.row_taps * record.column_taps - 1
    area, width = record.other_area, record.other_width
    low, high, channels = graph.low, graph.high, graph.channels
    seen = 0
    for y in range(rows, rows + record.row_taps):
        for x in range(columns, columns + record.column_taps):
            number += 1
            left, right = low[x], high[x]
            if low[y] == high[y] or left == right:
                continue
            for at in range(graph.list_start[number], graph.list_start[number + 1]):
                base = record.other_start + channels[at] * area
                for line in range(low[y], high[y]):
                    for w in range(base + line * width + left, base + line * width + right):
                        if parent[v] == w or parent[w] == v:
                            continue
                        count = _join(above, ends, count, v, w)
                        seen += 1
                        if seen == 2:
                            return count
    return count


@numba.njit(cache=True)
def spanning_forest_of_rest(
    graph: Neighbours, degree: np.ndarray, parent: np.ndarray
) -> np.ndarray:
    """Grow a spanning forest of the graph without the edges of a forest.

    A first pass joins every node with two neighbours per block, which as a rule leaves one large
    set; a second looks at all edges of the nodes outside it. An edge that no pass looks at has both
    ends inside.

    Args:
        graph: the implicit adjacency.
        degree: (nodes,) int32.
        parent: (nodes,) int32, the forest to leave out.

    Returns:
        (edges, 2) int32.
    """
    nodes = degree.size
    above = np.arange(nodes).astype(np.int32)
    ends = np.empty((nodes, 2), np.int32)
    count = 0
    v = -1
    for part in range(graph.height.size):
        height, width = graph.height[part], graph.width[part]
        for line in range((graph.start[part + 1] - graph.start[part]) // max(1, width)):
            channel, row = line // height, line % height
            for column in range(width):
                v += 1
                for side in range(graph.side_start[part], graph.side_start[part + 1]):
                    count = _link_first(
                        graph, side, channel, row, column, v, parent, above, ends, count
                    )
    size = np.zeros(nodes, np.int32)
    for v in range(nodes):
        size[_top(above, v)] += 1
    giant = 0
    for v in range(nodes):
        if size[v] > size[giant]:
            giant = v
    found = np.empty(_largest(degree), np.int32)
    part = 0
    for v in range(nodes):
        joined = _top(above, v) == _top(above, giant)
        if joined:
            continue
        part, channel, row, column = _place(graph, v, part)
        for side in range(graph.side_start[part], graph.side_start[part + 1]):
            for i in range(_reach(graph, side, channel, row, column, found)):
                w = found[i]
                if parent[v] == w or parent[w] == v:
                    continue
                before = count
                count = _join(above, ends, count, v, w)
                if count > before and _top(above, v) == _top(above, giant):
                    joined = True
                    break
            if joined:
                break
    return ends[:count].copy()


@numba.njit(cache=True)
def forests_as_csr(parent: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (indptr, indices) of the union of a forest of parents and a list of edges."""
    nodes = parent.size
    indptr = np.zeros(nodes + 1, np.int64)
    for v in range(nodes):
        if parent[v] != v:
            indptr[v + 1] += 1
            indptr[parent[v] + 1] += 1
    for i in range(len(ends)):
        indptr[ends[i, 0] + 1] += 1
        indptr[ends[i, 1] + 1] += 1
    for v in range(nodes):
        indptr[v + 1] += indptr[v]
    place = indptr[:-1].copy()
    indices = np.empty(indptr[nodes], np.int32)
    for v in range(nodes):
        u = parent[v]
        if u != v:
            indices[place[v]] = u
            place[v] += 1
            indices[place[u]] = v
            place[u] += 1
    for i in range(len(ends)):
        u, v = ends[i, 0], ends[i, 1]
        indices[place[v]] = u
        place[v] += 1
        indices[place[u]] = v
        place[u] += 1
    return indptr, indices


@numba.njit(cache=True)
def forest_labels(parent: np.ndarray, queue: np.ndarray) -> np.ndarray:
    """Return (nodes,) int32 labels of trees, numbered from 0 by their smallest node."""
    labels = np.empty(parent.size, np.int32)
    for v in queue:
        labels[v] = v if parent[v] == v else labels[parent[v]]
    number = np.full(parent.size, -1, np.int32)
    count = 0
    for v in range(parent.size):
        root = labels[v]
        if number[root] < 0:
            number[root] = count
            count += 1
        labels[v] = number[root]
    return labels


@numba.njit(cache=True)
def peel(
    graph: Neighbours,
    initial: np.ndarray,
    degree: np.ndarray,
    core: np.ndarray,
    queue: np.ndarray,
    live: np.ndarray,
    state: np.ndarray,
    largest_wave: int,
) -> bool:
    """Remove the nodes of least degree, level by level, until done or until a wave is too large.

    Args:
        graph: the implicit adjacency.
        initial: (nodes,) int32, degrees in the whole graph.
        degree: (nodes,) int32, degrees in what is left; updated.
        core: (nodes,) int32, -1 where a node is left, else its core number; updated.
        queue: (nodes,) int32, the removed nodes in order; a wave is the nodes that the removal of
            the wave before brought down to the level.
        live: (nodes,) int32, the nodes that may be left.
        state: (head, tail, level, length of `live`); updated.
        largest_wave: sum of degrees over which a wave is left to the caller; negative for no limit.

    Returns:
        False when no node is left, True when the wave queue[head:tail] is the caller's to remove.
    """
    head, tail, level, left = state
    k = np.int32(level)
    found = np.empty(_largest(initial), np.int32)
    part = 0
    while True:
        while head < tail:
            wave_end = tail
            if largest_wave >= 0:
                work = 0
                for at in range(head, wave_end):
                    work += initial[queue[at]]
                if work > largest_wave:
                    state[0], state[1], state[2], state[3] = head, tail, k, left
                    return True
            for at in range(head, wave_end):
                part, channel, row, column = _place(graph, queue[at], part)
                for side in range(graph.side_start[part], graph.side_start[part + 1]):
                    for i in range(_reach(graph, side, channel, row, column, found)):
                        w = found[i]
                        less = degree[w] - np.int32(1)
                        degree[w] = less
                        # A node passes k once; one that was removed is at k or below.
                        if less == k:
                            core[w] = k
                            queue[tail] = w
                            tail += 1
            head = wave_end
        kept = 0
        k = np.int32(2147483647)
        for at in range(left):
            v = live[at]
            if core[v] < 0:
                live[kept] = v
                kept += 1
                k = min(k, degree[v])
        left = kept
        if left == 0:
            state[0], state[1], state[2], state[3] = head, tail, k, 0
            return False
        for at in range(left):
            v = live[at]
            if degree[v] == k:
                core[v] = k
                queue[tail] = v
                tail += 1
