"""SQLite files: connections, one writer with group commit, migrations, backup and restore."""

from vectable.drivers.sqlite.backup import restore
from vectable.drivers.sqlite.driver import SqliteDriver

__all__ = ["SqliteDriver", "restore"]
