"""A PostgreSQL server of a test's own, in a directory of its own, from the programs that Debian installs."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from programs import path_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

START_SECONDS = 60
MEMORY = Path("/dev/shm")  # noqa: S108 - Linux' own, and a directory with a name of its own is made in it
NEEDED_BYTES = 2 << 30
"""PostgreSQL's write-ahead log alone may take half of it."""
ROLE = "exporter"
"""An ordinary role: no superuser, may make schemas in its database."""
DATABASE = "shop"


def programs() -> Path:
    """Return the folder of the server's programs; without them the test skips, except in CI, where it fails."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    if found:
        return found[-1].parent
    if on_path:
        return Path(on_path).parent
    missing = "postgres is not installed: install the package postgresql"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(path).free if path.is_dir() else 0


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class PostgresServer:
    """One server on 127.0.0.1. As root it runs as the user postgres, because the server refuses root."""

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self._programs = programs()
        self.directory = directory
        self.data = directory / "data"
        self.port = free_port()
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (directory / "log").open("ab")
        if os.geteuid() == 0:
            os.chown(directory, pwd.getpwnam("postgres").pw_uid, -1)
            directory.chmod(0o755)

    def initialize(self) -> None:
        """Make the cluster, with the role and the database of the tests."""
        self.run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()
        self.execute(f"CREATE ROLE {ROLE} LOGIN")
        self.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")

    def start(self, **settings: str) -> None:
        """Start the server, and wait until it answers."""
        self._settings.update(settings)
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        self._process = subprocess.Popen(
            [
                str(self._programs / "postgres"),
                *("-D", str(self.data), "-p", str(self.port), "-k", str(self.directory), "-h", "127.0.0.1"),
                *options,
            ],
            stdout=self._log,
            stderr=self._log,
            user=self._user(),
            start_new_session=True,
        )
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        """Wait until a connection is accepted."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > deadline or (self._process and self._process.poll() is not None):
                    pytest.fail(f"PostgreSQL did not start: {(self.directory / 'log').read_text()[-2000:]}")
                time.sleep(0.05)
            else:
                return

    def stop(self, signal_: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends its sessions (a fast shutdown), SIGQUIT is as good as a crash."""
        if self._process is not None:
            self._process.send_signal(signal_)
            self._process.wait(START_SECONDS)
            self._process = None

    def url(self, *, role: str = ROLE, database: str = DATABASE, port: int | None = None) -> str:
        """Return the URL of a database, through another port if one is given."""
        return f"postgresql://{role}@127.0.0.1:{port or self.port}/{database}"

    def execute(self, sql: str, *parameters: Any, database: str = "postgres") -> list[tuple[Any, ...]]:  # noqa: ANN401
        """Run a statement as the superuser; returns its rows."""
        url = self.url(role="postgres", database=database)
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(sql.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def new_database(self, name: str) -> str:
        """Make an empty database of the ordinary role; returns its URL."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.execute(f"CREATE DATABASE {name} OWNER {ROLE}")
        return self.url(database=name)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's own programs."""
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=True,
            capture_output=True,
            timeout=START_SECONDS,
            user=self._user(),
            cwd="/",
        )

    def be_standby_of(self, primary: PostgresServer) -> None:
        """Copy a server, follow it, and have each of its commits wait for this one."""
        self.run(
            *("pg_basebackup", "-D", str(self.data), "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres"),
            *("-R", "--checkpoint=fast", "--no-sync"),
        )
        self.start()
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + START_SECONDS
        while primary.execute("SELECT sync_state FROM pg_stat_replication") != [("sync",)]:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def promote(self) -> None:
        """Make a standby the primary, that waits for nobody."""
        self.execute("SELECT pg_promote()")
        self.execute("ALTER SYSTEM RESET synchronous_standby_names")
        self.execute("SELECT pg_reload_conf()")

    def close(self) -> None:
        """Stop it and close its log."""
        self.stop(signal.SIGQUIT)
        self._log.close()

    @staticmethod
    def _user() -> str | None:
        return "postgres" if os.geteuid() == 0 else None


@contextlib.contextmanager
def postgres_server(
    settings: Sequence[tuple[str, str]] = (), *, parent: Path | None = None
) -> Iterator[PostgresServer]:
    """Run a server in a temporary directory, with these settings.

    Without a `parent` that is in memory where there is space: a third of the time, and what a killed server wrote is
    there all the same, as only a power cut would take it.
    """
    parent = parent or (MEMORY if _free_bytes(MEMORY) > NEEDED_BYTES else Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True, dir=parent) as directory:
        server = PostgresServer(Path(directory), dict(settings))
        try:
            server.initialize()
            yield server
        finally:
            server.close()


@contextlib.contextmanager
def postgres_server_on_a_small_volume(megabytes: int, settings: Mapping[str, str]) -> Iterator[PostgresServer]:
    """Run a server on a file system of its own; where this process may mount none, the test skips."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as directory:
        mount, umount = shutil.which("mount") or "", shutil.which("umount") or ""
        command = [mount, "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", directory]
        if not mount or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")
        try:
            server = PostgresServer(Path(directory), settings)
            try:
                server.initialize()
                yield server
            finally:
                server.close()
        finally:
            subprocess.run([umount, directory], check=True)


@contextlib.contextmanager
def pgbouncer(server: PostgresServer, pool_size: int = 2) -> Iterator[int]:
    """Run a proxy that pools by transactions, with fewer connections than clients; give its port."""
    program = path_of("pgbouncer", "pgbouncer")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "users").write_text(f'"{ROLE}" ""\n')
        (directory / "settings.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {directory / 'users'}\n"
            f"pool_mode = transaction\ndefault_pool_size = {pool_size}\n"
        )
        process = subprocess.Popen(
            [program, "-q", str(directory / "settings.ini")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user="postgres" if os.geteuid() == 0 else None,
        )
        try:
            yield port
        finally:
            process.kill()
            process.wait(START_SECONDS)
