"""The image classifiers of torchvision, without pretrained weights: `torchvision:resnet18`.

Neither torch nor torchvision is imported until a network is built, so that a workflow can check
names without paying for it.
"""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.errors import ConfigurationError, MissingDependencyError, unknown_name

if TYPE_CHECKING:
    from torch import nn

PREFIX = "torchvision:"

# Their auxiliary classifiers would make the output in training mode another than in evaluation.
_WITHOUT_AUXILIARY_OUTPUTS: dict[str, dict[str, Any]] = {
    name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")
}


@cache
def classifier_names() -> tuple[str, ...]:
    """Return the names of torchvision's classifiers, read from its source files.

    Raises:
        MissingDependencyError: torchvision is not installed.
    """
    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None:
        raise MissingDependencyError("torchvision is not installed; install espalier[train]")
    found: list[str] = []
    # Detection, segmentation and video models lie in folders below.
    for path in (Path(package.origin).parent / "models").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        found.extend(n.name for n in tree.body if isinstance(n, ast.FunctionDef) and _registers(n))
    return tuple(sorted(found))


def require_name(name: str) -> None:
    """Check that torchvision has the classifier that `torchvision:<name>` names.

    Raises:
        ConfigurationError: it has not; the message names the nearest.
        MissingDependencyError: torchvision is not installed.
    """
    known = [PREFIX + classifier for classifier in classifier_names()]
    if name not in known:
        raise unknown_name("model", name, known)


def build(
    name: str, num_classes: int, input_shape: tuple[int, int, int], width: float
) -> nn.Module:
    """Build a classifier of torchvision with fresh weights.

    Raises:
        ConfigurationError: an unknown name, or a width other than 1.
        DataError: the classifier does not take the images.
    """
    from espalier.data.torchvision_shim import import_torchvision
    from espalier.models.forward_check import require_logits

    require_name(name)
    if width != 1:
        raise ConfigurationError(f"{name} has one width; width is {width}, leave it at 1")
    classifier = name.removeprefix(PREFIX)
    model = import_torchvision().models.get_model(
        classifier,
        weights=None,
        num_classes=num_classes,
        **_WITHOUT_AUXILIARY_OUTPUTS.get(classifier, {}),
    )
    require_logits(name, model, num_classes, input_shape)
    return model


def _registers(function: ast.FunctionDef) -> bool:
    calls = [d.func for d in function.decorator_list if isinstance(d, ast.Call)]
    return any(isinstance(call, ast.Name) and call.id == "register_model" for call in calls)
