"""Train and prune neural networks, turn each into a graph, and read the graph."""

__version__ = "0.1.0"
