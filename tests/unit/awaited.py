"""``AsyncClient`` as ``Client``: calls on a loop in a thread, waited for, so that the same tests hold for both."""

import asyncio
import contextvars
import threading

from raftkv import AsyncClient


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
            return found
        return lambda *args, **choices: self._wait(found(*args, **choices))

    @property
    def durability(self):
        return self._context.run(lambda: self._client.durability)

    def list(self, *args, **choices):
        return self._each(self._client.list(*args, **choices))

    def follow(self):
        return self._each(self._client.follow())

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
