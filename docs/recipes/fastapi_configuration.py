"""A FastAPI application whose configuration reloads as soon as it changes: ``uvicorn fastapi_configuration:app``."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from raftkv import AsyncClient


@asynccontextmanager
async def following(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncClient() as store, store.mirror("config/web/") as states:
        app.state.settings = await anext(states)

        async def follow() -> None:
            async for app.state.settings in states:
                pass

        task = asyncio.create_task(follow())
        yield
        task.cancel()


app = FastAPI(lifespan=following)


@app.get("/settings")
async def shown() -> dict[str, str]:
    return {key: value.decode() for key, value in app.state.settings.items()}
