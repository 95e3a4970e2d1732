"""The documents say what is so: commands and options exist, paths are served, error codes are all there."""

import ast
import inspect
import re
import shlex
from itertools import groupby

import click
import pytest

import raftkv
from raftkv.api.problems import TABLE
from raftkv.cli.main import COMMANDS, cli
from raftkv.core.errors import Code
from raftkv.http.routes import ROUTES
from tests.pages import PAGES, ROOT, blocks


def typed_commands():
    """Every line that a reader would type which runs raftkv."""
    for page in PAGES:
        for line in re.findall(r"^ +\$ (.*?)(?: +# .*)?$", page.read_text(), re.MULTILINE):
            for words in simple_commands(line):
                if words and words[0].rpartition("/")[2] == "raftkv":
                    yield pytest.param(words[1:], id=f"{page.name}: {shlex.join(words)}")


def simple_commands(line):
    """The words of each command in a line of a shell."""
    words = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    words.whitespace_split, words.commenters = True, ""
    parts = groupby(words, lambda word: set(word) <= set("|&;"))
    return [list(part) for is_between, part in parts if not is_between]


@pytest.mark.parametrize("words", list(typed_commands()))
def test_a_command_that_a_document_shows_is_one_that_click_takes(words):
    before = cli.make_context("raftkv", ["1" if word.startswith("$") else word for word in words])
    words = [*before._protected_args, *before.args]
    command, rest = cli.get_command(before, words[0]), words[1:]
    if isinstance(command, click.Group) and words[1:] and not words[1].startswith("-"):
        command, rest = command.commands.get(words[1]), words[2:]

    assert command is not None
    command.make_context(words[0], list(rest))


def test_the_documents_show_commands_at_all():
    assert len(list(typed_commands())) > 5


def commands():
    """Every command, those of groups included."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        yield command
        yield from command.commands.values() if isinstance(command, click.Group) else ()


def test_every_command_and_option_is_documented_and_no_other():
    text = (ROOT / "docs" / "cli.rst").read_text()
    known = {
        option
        for command in commands()
        for parameter in command.params
        if not getattr(parameter, "hidden", False)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))

    assert all(f"raftkv {name}" in text or f"``{name} " in text for name in COMMANDS)
    assert {option for option in known if option.startswith("--")} <= mentioned
    assert mentioned <= known | {"--help"}


def test_the_readme_has_the_two_commands_and_the_script_of_the_second():
    readme, script = (ROOT / "README.rst").read_text(), (ROOT / ".ci" / "run").read_text()
    start = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/raftkv up"
    check = "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox"

    assert readme.count(start) == 1
    assert readme.count(check) == 1
    assert check in script


def calls_of_the_store(text):
    """Each call of ``store``'s own in a program: its name, and the names of its arguments."""
    for node in ast.walk(compile(text, "a page", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "store":
            yield called.attr, {given.arg for given in node.keywords}


def test_the_calls_that_a_document_shows_are_the_clients():
    programs = [block.text for page in PAGES for block in blocks(page) if block.kind == "python"]
    shown = [call for text in programs for call in calls_of_the_store(text)]

    assert len(shown) > 30
    for name, given in shown:
        call = getattr(raftkv.Client, name, None) or getattr(raftkv.AsyncClient, name)
        assert given <= set(inspect.signature(call).parameters), name


def test_every_path_is_documented():
    text = (ROOT / "docs" / "http.rst").read_text()

    for route in ROUTES:
        path = route.path.replace("*", "")
        first = "/" + path.split("/")[1]
        assert path in text or first in {"/internal", "/leases", "/cluster"}, path


def test_the_table_of_errors_is_the_servers():
    text = (ROOT / "docs" / "http.rst").read_text()

    for code in Code:
        kind = TABLE[code]
        assert re.search(rf"^{kind.status} +.*``{code}``.* {kind.applied}$", text, re.MULTILINE), code


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"<([\w/.-]+\.rst)>`_", page.read_text()):
            assert (page.parent / target).is_file(), f"{page.name}: {target}"
