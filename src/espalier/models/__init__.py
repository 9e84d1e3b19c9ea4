"""Network families by name: `build("small_cnn", num_classes=10, input_shape=(1, 28, 28))`."""

from __future__ import annotations

from espalier.models.registry import build, hidden_units, module_of, names

__all__ = ["build", "hidden_units", "module_of", "names"]
