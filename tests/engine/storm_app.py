"""The app of the storm's worker processes: its sagas are made from what the environment says."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterable

from psycopg_pool import AsyncConnectionPool

from outbox import App, AppContext
from tests.engine.any_shape import make_shapes
from tests.engine.kept_world import KeptWorld

_storm = json.loads(os.environ["STORM"])
_world = KeptWorld(
    # Its own dice for each process: what goes wrong in one need not go wrong in the next.
    hash((_storm["seed"], os.getpid())),
    os.environ["OUTBOX_SCHEMA"],
    _storm["mischief"],
    is_calm=_storm["is_calm"],
)


@contextlib.asynccontextmanager
async def _lifespan(context: AppContext) -> AsyncIterator[Iterable[object]]:
    async with AsyncConnectionPool(
        context.dsn, min_size=1, max_size=4, kwargs={"autocommit": True}, open=False
    ) as pool:
        _world.pool = pool
        yield ()


app = App(
    [shape.saga for shape in make_shapes(_storm["seed"], _storm["types"], _world)],
    lifespan=_lifespan,
)
