"""Whose fault an error is, where one process answers clients and replicates."""

from __future__ import annotations

from raftkv.http.door.inside import FrontEndInside


class Blamed:
    """``caused`` needs nothing of the object that it belongs to."""

    caused = FrontEndInside.caused


def raised(*modules: str) -> BaseException:
    """An error that came up in the last of ``modules``, each called by the one before it."""
    call = "raise ValueError('a defect')"
    scope: dict[str, object] = {"__name__": modules[-1]}
    exec(f"def go():\n    {call}", scope)
    for module in reversed(modules[:-1]):
        scope = {"__name__": module, "inner": scope["go"]}
        exec("def go():\n    inner()", scope)
    try:
        scope["go"]()  # type: ignore[operator]
    except ValueError as error:
        return error
    raise AssertionError


def test_an_error_of_what_answers_clients_is_theirs():
    assert Blamed().caused(raised("raftkv.http.door.worker", "raftkv.http.door.plain"))
    assert Blamed().caused(raised("gunicorn.asgi.protocol"))


def test_an_error_of_the_replica_is_the_node_s_whoever_asked():
    assert not Blamed().caused(raised("raftkv.http.door.worker", "raftkv.frontend.direct", "raftkv.raft.replica"))
    assert not Blamed().caused(raised("raftkv.node", "raftkv.storage.log.log"))


def test_what_is_not_known_to_be_of_clients_is_the_node_s():
    assert not Blamed().caused(raised("raftkv.node"))
    assert not Blamed().caused(None)
