"""For all tests: none of them asserts on time, and so none that hypothesis draws for has a deadline."""

from importlib.util import find_spec

if find_spec("hypothesis") is not None:
    from hypothesis import settings

    settings.register_profile("raftkv", deadline=None)
    settings.load_profile("raftkv")
