from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from espalier import provenance
from espalier.errors import EspalierError


@pytest.fixture
def package(tmp_path, root):
    """A package of the same name with a re-exporting subpackage and a module behind each name."""
    home = tmp_path / "espalier"
    (home / "pruning").mkdir(parents=True)
    for name in ("provenance.py", "errors.py", "files.py", "__init__.py"):
        shutil.copy(root / "src/espalier" / name, home / name)
    (home / "pruning/__init__.py").write_text(
        "from espalier.pruning.a import a\nfrom .b import b as renamed\n"
    )
    (home / "pruning/a.py").write_text(
        '"""Doc."""\nfrom espalier.shared import f\n\ndef a():\n    """Doc."""\n    return f()\n'
    )
    (home / "pruning/b.py").write_text("def b():\n    from ..shared import f\n    return f() + 1\n")
    (home / "shared.py").write_text("def f():\n    return 1  # one\n")
    (tmp_path / "script.py").write_text("from espalier.pruning import a\nprint(a())\n")
    return tmp_path


def code_of(package, *roots):
    call = (
        "from espalier.provenance import code_of, modules_of; "
        f"print(code_of(*{roots!r}), *modules_of(*{roots!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", call], cwd=package, capture_output=True, text=True, check=True
    )
    digest, *modules = done.stdout.split()
    return digest, modules


def test_the_closure_follows_reexports_and_imports_in_functions(package):
    assert code_of(package, "script.py")[1] == ["pruning/a.py", "script/script.py", "shared.py"]
    assert code_of(package, "pruning.b")[1] == ["pruning/b.py", "shared.py"]
    renamed = package / "renamed.py"
    renamed.write_text("from espalier.pruning import renamed\n")
    assert code_of(package, "renamed.py")[1] == ["pruning/b.py", "script/renamed.py", "shared.py"]


@pytest.mark.parametrize(
    ("file", "old", "new", "changes_a", "changes_b"),
    [
        ("pruning/a.py", "return f()", "return f() * 2", True, False),
        ("pruning/b.py", "+ 1", "+ 2", False, True),
        ("shared.py", "return 1", "return 2", True, True),
        ("pruning/a.py", '"""Doc."""', '"""Another."""', False, False),
        ("shared.py", "# one", "# the number one", False, False),
        ("pruning/__init__.py", "\n", "\n\n", False, False),
    ],
)
def test_only_code_that_counts_changes_the_digest(package, file, old, new, changes_a, changes_b):
    before = [code_of(package, name)[0] for name in ("pruning.a", "pruning.b")]
    path = package / "espalier" / file
    path.write_text(path.read_text().replace(old, new))
    after = [code_of(package, name)[0] for name in ("pruning.a", "pruning.b")]
    assert [x != y for x, y in zip(before, after, strict=True)] == [changes_a, changes_b]


def test_an_unknown_root_is_an_error():
    with pytest.raises(EspalierError, match=r"no module espalier\.pruning\.nothing"):
        provenance.code_of("pruning.nothing")
    with pytest.raises(EspalierError, match="does not exist"):
        provenance.code_of("no/script.py")


def test_digests_do_not_depend_on_the_order_of_keys():
    assert provenance.digest({"a": 1, "b": [2]}) == provenance.digest({"b": [2], "a": 1})
    assert provenance.digest({"a": 1}) != provenance.digest({"a": 2})
    assert len(provenance.digest(None)) == 16
