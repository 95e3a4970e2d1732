"""The private names of gunicorn that the front-end rests on are listed, there, and checked by version at start."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import ModuleType

import gunicorn
import pytest
from gunicorn import sock
from gunicorn.asgi import protocol

from raftkv.core.errors import StartupError
from raftkv.http.door import general, pinned, server, worker


def names_of_gunicorn_in(gunicorns: ModuleType, *ours: ModuleType) -> set[str]:
    """Every private name that ``ours`` define, read or list and that ``gunicorns`` has, too."""
    tree = ast.parse("".join(Path(str(module.__file__)).read_text() for module in ours))
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    found |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    private = {name for name in found if name.startswith("_") and not name.startswith("__") and name.isidentifier()}
    theirs = ast.parse(inspect.getsource(gunicorns))
    known = {node.attr for node in ast.walk(theirs) if isinstance(node, ast.Attribute)}
    known |= {node.name for node in ast.walk(theirs) if isinstance(node, ast.FunctionDef)}
    return private & (known | set(vars(gunicorns)))


def test_every_private_name_in_use_is_listed_and_no_other():
    in_use = names_of_gunicorn_in(protocol, general, worker) | names_of_gunicorn_in(sock, server)

    assert set(pinned.PRIVATE_NAMES) == in_use


def test_the_version_in_the_environment_is_the_pinned_one_and_the_only_one_that_may_be_installed():
    pinned.check_version()

    requirements = (Path(pinned.__file__).parents[3] / "setup.cfg").read_text()
    assert f"gunicorn=={pinned.PINNED_VERSION}\n" in requirements


def test_another_version_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gunicorn, "__version__", "27.1.0")

    with pytest.raises(StartupError, match=r"needs gunicorn 27\.0\.1, found 27\.1\.0 at "):
        pinned.check_version()
