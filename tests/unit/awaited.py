"""``AsyncClient`` as ``Client``: calls on a loop in a thread, waited for, so that the same tests hold for both."""

import asyncio
import contextvars
import inspect
import threading

from raftkv import AsyncClient


class AwaitedBlock:
    """Has what an object has that ``AsyncClient`` gives."""

    def __init__(self, client, entered):
        self._client = client
        self.awaited = entered

    def __enter__(self):
        self._client._wait(self.awaited.__aenter__())
        return self

    def __exit__(self, *error):
        return self._client._wait(self.awaited.__aexit__(*error))

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self._client._wait(anext(self.awaited))
        except StopAsyncIteration:
            raise StopIteration from None

    def __repr__(self):
        return repr(self.awaited)

    def __getattr__(self, name):
        found = getattr(self.awaited, name)
        if not callable(found):
            return found
        return lambda *args, **choices: self._client._done(found(*args, **choices))


class Awaited:
    """Has what ``Client`` has; all calls are of one task, as it were: they share a context."""

    def __init__(self, *args, **choices):
        self._client = AsyncClient(*args, **choices)
        self._context = contextvars.copy_context()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def _wait(self, coroutine):
        async def run():
            return await asyncio.get_running_loop().create_task(coroutine, context=self._context)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def __getattr__(self, name):
        found = getattr(self._client, name)
        if not callable(found):
            return self._done(found)
        return lambda *args, **choices: self._done(found(*args, **choices))

    def _done(self, found):
        """What a call gives, waited for where it must be; what it is to be awaited on is so, too."""
        if inspect.isawaitable(found):
            return self._done(self._wait(found))
        if type(found).__module__.startswith("raftkv.client.async_"):
            return AwaitedBlock(self, found)
        return self._each(found) if hasattr(found, "__anext__") else found

    @property
    def durability(self):
        return self._context.run(lambda: self._client.durability)

    def _each(self, items):
        try:
            while True:
                yield self._wait(anext(items))
        except StopAsyncIteration:
            return
        finally:
            self._wait(items.aclose())

    def __getitem__(self, key):
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key, value):
        self.set(key, value)

    def __delitem__(self, key):
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key):
        return self.has(key)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._wait(self._client.close())

    def stop(self):
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
