"""What the signatures of both clients say: the same surface, a type for everything, and types that servers keep."""

import inspect
import types
import typing
from collections.abc import Iterator

import msgspec
import pytest

import raftkv
from raftkv import AsyncClient, Client
from raftkv.api import answers, cluster_answers
from raftkv.api.problems import ALWAYS, Problem
from raftkv.api.values import Base64
from raftkv.client import contents
from raftkv.client.async_holding import AsyncElection, AsyncLead, AsyncLease, AsyncLock
from raftkv.client.async_transacting import AsyncTransaction
from raftkv.client.async_watches import AsyncStream, AsyncWatch
from raftkv.client.holding import ClientElection, ClientLead, ClientLease, ClientLock
from raftkv.client.transacting import ClientTransaction
from raftkv.client.watches import ClientStream, ClientWatch

PAIRS = {
    Client: AsyncClient,
    ClientElection: AsyncElection,
    ClientLead: AsyncLead,
    ClientLease: AsyncLease,
    ClientLock: AsyncLock,
    ClientStream: AsyncStream,
    ClientTransaction: AsyncTransaction,
    ClientWatch: AsyncWatch,
}
CLASSES = [*PAIRS, *PAIRS.values()]
ONLY_ASYNC = {"has"}  # in place of the style of a mapping

STRUCTS = {
    contents.Base64Content: (Base64,),
    contents.HolderContent: (answers.LockContender,),
    contents.ItemContent: (answers.Item,),
    contents.MemberContent: (cluster_answers.Member,),
    contents.LedContent: (cluster_answers.LeaderNow,),
    contents.MembersContent: (cluster_answers.MemberList,),
    contents.MovingContent: (cluster_answers.Moving,),
    contents.PeerContent: (cluster_answers.Peer, cluster_answers.ProxiedNode),
    contents.ProblemContent: (Problem,),
    contents.RepairContent: (cluster_answers.RepairDone,),
    contents.StatusContent: (cluster_answers.NodeStatus, cluster_answers.ProxyStatus),
    contents.TransactionContent: (answers.TransactionDone,),
}


def public(kind):
    """Its functions and the getters of its properties that anybody may call, by name; construction too."""
    found = {}
    for name, member in inspect.getmembers(kind):
        if name.startswith("_") and name not in ("__init__", "__getitem__", "__setitem__", "__iter__", "__enter__"):
            continue
        function = member.fget if isinstance(member, property) else member
        if inspect.isfunction(function) and function.__module__.startswith("raftkv."):
            found[name] = function
    return found


def parts(annotation):
    """An annotation, and everything within it."""
    yield annotation
    for argument in typing.get_args(annotation):
        for one in argument if isinstance(argument, list) else [argument]:
            yield from parts(one)
    if typing.is_typeddict(annotation):
        for field in annotation.__annotations__.values():
            assert "Any" not in str(field)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_public_signature_is_typed_and_nothing_in_it_is_any(kind):
    functions = public(kind)
    assert functions
    for name, function in functions.items():
        for signature in [function, *typing.get_overloads(function)]:
            hints = typing.get_type_hints(signature)
            named = {*inspect.signature(signature).parameters, "return"} - {"self"}
            assert named == set(hints), (name, named ^ set(hints))
            assert not any(part is typing.Any for hint in hints.values() for part in parts(hint)), (name, hints)


@pytest.mark.parametrize("name", [name for name in raftkv.__all__ if name != "__version__"])
def test_no_field_of_what_is_exported_is_any(name):
    kind = getattr(raftkv, name)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind)
        assert not any(part is typing.Any for hint in hints.values() for part in parts(hint)), hints


@pytest.mark.parametrize("blocking", PAIRS, ids=lambda kind: kind.__name__)
def test_both_clients_have_the_same_surface(blocking):
    def surface(kind):
        shown = {}
        for name, function in public(kind).items():
            if not name.startswith("_"):
                parameters = inspect.signature(function).parameters.values()
                shown[name] = [(one.name, one.kind, one.default, one.annotation) for one in parameters]
        return shown

    own, other = surface(blocking), surface(PAIRS[blocking])
    assert set(other) - set(own) <= ONLY_ASYNC
    assert own == {name: other.get(name) for name in own}


def test_what_is_public_says_what_it_does_and_what_it_is():
    for kind in CLASSES:
        silent = [name for name, one in public(kind).items() if not name.startswith("_") and not inspect.getdoc(one)]
        assert silent == [], kind
        assert kind.__repr__ is not object.__repr__, kind


def translated(annotation) -> Iterator[object]:
    """The alternatives of a field of a struct, as they are in a mapping."""
    if annotation is msgspec.UnsetType:
        return
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    mapping = next((content for content, structs in STRUCTS.items() if annotation in structs), None)
    if mapping is not None:
        yield mapping
    elif origin in (types.UnionType, typing.Union):
        for one in inner:
            yield from translated(one)
    elif origin is typing.Literal:
        yield str
    elif origin is list:
        (element,) = translated(inner[0])
        yield list[element]
    else:
        yield annotation


@pytest.mark.parametrize("content", STRUCTS, ids=lambda content: content.__name__)
def test_a_mapping_has_what_the_server_says_and_is_certain_of_what_is_always_there(content):
    expected, required = {}, None
    for struct in STRUCTS[content]:
        hints = typing.get_type_hints(struct)
        for name, hint in hints.items():
            expected.setdefault(name, set()).update(translated(hint))
        told = {field.name for field in msgspec.structs.fields(struct) if field.required}
        required = told if required is None else required & told
    hints = typing.get_type_hints(content)
    if content is contents.TransactionContent:
        expected["results"] = {list[contents.StepContent]}

    assert {name: set(translated(hint)) for name, hint in hints.items()} == expected
    extras = typing.get_type_hints(content, include_extras=True)
    certain = {name for name, hint in extras.items() if typing.get_origin(hint) is not typing.NotRequired}
    assert certain == (set(ALWAYS) if content is contents.ProblemContent else required)
