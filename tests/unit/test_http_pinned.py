"""The private names of gunicorn that the worker rests on are listed, there, and checked by version at start."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import gunicorn
import pytest
from gunicorn.asgi import protocol

from raftkv.core.errors import StartupError
from raftkv.http.door import general, pinned, worker


def names_of_gunicorn_in_the_worker() -> set[str]:
    """Every private name that the worker defines, reads or lists and that gunicorn's protocol has, too."""
    tree = ast.parse("".join(Path(module.__file__).read_text() for module in (general, worker)))
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    found |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    private = {name for name in found if name.startswith("_") and not name.startswith("__") and name.isidentifier()}
    theirs = ast.parse(inspect.getsource(protocol))
    known = {node.attr for node in ast.walk(theirs) if isinstance(node, ast.Attribute)}
    known |= {node.name for node in ast.walk(theirs) if isinstance(node, ast.FunctionDef)}
    return private & (known | set(vars(protocol)))


def test_every_private_name_in_use_is_listed_and_no_other():
    assert set(pinned.PRIVATE_NAMES) == names_of_gunicorn_in_the_worker()


def test_the_version_in_the_environment_is_the_pinned_one_and_the_only_one_that_may_be_installed():
    pinned.check_version()

    requirements = (Path(pinned.__file__).parents[3] / "setup.cfg").read_text()
    assert f"gunicorn=={pinned.PINNED_VERSION}\n" in requirements


def test_another_version_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gunicorn, "__version__", "27.1.0")

    with pytest.raises(StartupError, match=r"needs gunicorn 27\.0\.1, found 27\.1\.0 at "):
        pinned.check_version()
