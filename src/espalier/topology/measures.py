"""What topometrics are computed from, whichever way it was measured."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from espalier.topology.degrees import LocalCounts
    from espalier.topology.spectra import SpectralValue

NEEDS = (
    "local",
    "total_strength",
    "two_hop_mean",
    "motif3",
    "motif4",
    "components",
    "bridges",
    "articulation_points",
    "coreness",
    "gap",
    "radius",
)
"""What a topometric may be computed from: the fields of Measures."""

CONNECTIVITY = ("components", "bridges", "articulation_points")

# Bytes per edge and per node of the arrays that each measure holds beside the encoding.
_BYTES: dict[str, tuple[int, int]] = {
    "local": (24, 40),
    "total_strength": (4, 0),
    "two_hop_mean": (0, 8),
    "motif3": (20, 24),
    "motif4": (28, 48),
    "components": (16, 48),
    "bridges": (16, 48),
    "articulation_points": (16, 48),
    "coreness": (16, 32),
    "gap": (140, 64),
    "radius": (140, 64),
}


@dataclass(frozen=True, eq=False)
class Measures:
    """What topometrics are computed from; None where it was not asked for.

    Attributes:
        local: counts that degrees decide, by the convention asked for.
        total_strength: sum over nodes of the absolute weights of their edges.
        two_hop_mean: mean number of nodes within two steps along the edges, self included.
        motif3, motif4: connected induced subgraphs of 3 and of 4 nodes.
        components, bridges, articulation_points: their numbers, directions ignored.
        coreness: sum of all core numbers.
        gap, radius: from the spectra.
    """

    local: LocalCounts | None = None
    total_strength: float | None = None
    two_hop_mean: float | None = None
    motif3: int | None = None
    motif4: int | None = None
    components: int | None = None
    bridges: int | None = None
    articulation_points: int | None = None
    coreness: int | None = None
    gap: SpectralValue | None = None
    radius: SpectralValue | None = None


def explicit_bytes(nodes: int, edges: int, needs: Collection[str]) -> int:
    """Return the bytes that `explicit_measures` allocates at most, the encoding left out."""
    return max((edges * _BYTES[n][0] + nodes * _BYTES[n][1] for n in needs), default=0)
