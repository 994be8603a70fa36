"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import psycopg

LIBRARIES = ("psycopg", "pgqueuer", "pydantic", "orjson", "uvloop", "structlog")
SETTINGS = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_compression",
    "wal_level",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "autovacuum",
    "autovacuum_naptime",
    "jit",
    "io_method",
    "data_checksums",
    "shared_preload_libraries",
)


def describe_machine() -> dict[str, str]:
    """Processor, memory, system and load: what it is called, as text."""
    memory = psutil.virtual_memory().total / 2**30
    return {
        "processor": f"{os.cpu_count()} × {_processor()}",
        "memory": f"{memory:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "load before": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def describe_versions(connection: psycopg.Connection[tuple[object, ...]]) -> dict[str, str]:
    """Python's, Postgres' and the libraries' versions."""
    row = connection.execute("select current_setting('server_version')").fetchone()
    found = {"python": platform.python_version(), "postgres": str(row[0]) if row else "?"}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def describe_settings(connection: psycopg.Connection[tuple[object, ...]]) -> dict[str, str]:
    """The server's settings on which speed depends."""
    rows = connection.execute(
        "select name, current_setting(name) from pg_settings where name = any(%s) order by name",
        [list(SETTINGS)],
    ).fetchall()
    return {str(name): str(value) for name, value in rows}


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
