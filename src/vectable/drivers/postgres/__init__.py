"""PostgreSQL: connections, transactions, migrations, failures in our words, and a server for a first try."""

from vectable.drivers.postgres.address import Address, is_postgres
from vectable.drivers.postgres.connection import READ_ALIKE, Connection, decode_vector, encode_vector
from vectable.drivers.postgres.driver import Isolation, PostgresDriver, is_prepared
from vectable.drivers.postgres.failures import translate
from vectable.drivers.postgres.incarnation import Incarnation
from vectable.drivers.postgres.names import NAME_BYTES, SCHEMA, literal, ours, qualified, quote
from vectable.drivers.postgres.pool import PoolStatus

__all__ = [
    "NAME_BYTES",
    "READ_ALIKE",
    "SCHEMA",
    "Address",
    "Connection",
    "Incarnation",
    "Isolation",
    "PoolStatus",
    "PostgresDriver",
    "decode_vector",
    "encode_vector",
    "is_postgres",
    "is_prepared",
    "literal",
    "ours",
    "qualified",
    "quote",
    "translate",
]
