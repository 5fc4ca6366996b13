"""Addresses of PostgreSQL databases: a URL or libpq's keywords, taken apart once; passwords stay in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from vectable.errors import InvalidInput, did_you_mean

FORMS = "postgresql://USER@HOST/DATABASE, or host=HOST dbname=DATABASE user=USER"
_TLS = (
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
)
_CONNECTION = (
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "service",
    "target_session_attrs",
    "krbsrvname",
    "gsslib",
)
_SESSION = ("application_name", "options")
_POOL = {"pool_min": (0, 10_000), "pool_max": (1, 10_000), "pool_timeout": (0, 3_600)}
"""Ours, not libpq's: least and most connections, and the seconds a call waits for one."""
# libpq's own tuning of its sockets: harmless to leave out here.
_IGNORED = (
    "fallback_application_name",
    "client_encoding",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "gssencmode",
    "load_balance_hosts",
    "channel_binding",
)
PARAMETERS = (*_CONNECTION, *_TLS, *_SESSION, *_POOL, "connect_timeout", *_IGNORED)
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_KEYWORD = re.compile(
    r"\s*([A-Za-z_]+)\s*=\s*"
    r"(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)",
    re.DOTALL,
)
_LOOKS_LIKE_KEYWORDS = re.compile(rf"\s*(?:{'|'.join(PARAMETERS)})\s*=", re.IGNORECASE)
_HOLDS_A_PASSWORD = re.compile(r"(?:^|\s)password\s*=", re.IGNORECASE)
_DEFAULT_CONNECT_S = 10.0


def is_postgres(url: str) -> bool:
    """Whether `url` speaks of PostgreSQL: by its scheme, or by beginning with one of libpq's keywords. So
    does whatever gives a password by keyword: taken for a path, it would be shown."""
    scheme, colon, _ = url.partition(":")
    if colon and scheme.lower() in ("postgres", "postgresql"):
        return True
    return bool(_LOOKS_LIKE_KEYWORDS.match(url) or _HOLDS_A_PASSWORD.search(url))


@dataclass(slots=True)
class Way:
    """What was found out of the way to a server."""

    pooled: bool = False
    """A pooler is on it, which keeps settings from the server that come with a connection."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is and how to get in. `display` is for people and logs: it never holds a password,
    nor does `repr`. `connect_timeout_s` bounds one attempt to connect."""

    display: str
    user: str
    database: str
    connect_timeout_s: float
    arguments: dict[str, Any] = field(repr=False, compare=False)
    """What asyncpg.connect is given: for the driver alone, as it holds the password."""
    application_name: str = "vectable"
    keywords: dict[str, str] = field(repr=False, compare=False, default_factory=dict)
    """All of it by libpq's names, the password too: for handing the address on to another process."""
    pool: dict[str, float] = field(compare=False, default_factory=dict)
    """What it says of the pool, by name: pool_min, pool_max, pool_timeout in seconds."""
    way: Way = field(repr=False, compare=False, default_factory=Way)

    @classmethod
    def parse(cls, url: str) -> Address:
        """From `postgresql://…`, `postgres://…` or `host=… dbname=…`. Raises InvalidInput, which never
        repeats the address: it may hold a password."""
        given = _from_url(url) if "://" in url.split("=", 1)[0] else _from_keywords(url)
        _check(given)
        return cls(
            display=_display(given),
            user=given.get("user", ""),
            database=given.get("dbname", ""),
            connect_timeout_s=_timeout(given.get("connect_timeout", "")),
            arguments=_arguments(given),
            application_name=given.get("application_name", "vectable"),
            keywords={name: value for name, value in given.items() if name not in _POOL},
            pool={name: _pool_limit(name, given[name]) for name in _POOL if name in given},
        )


def _from_url(url: str) -> dict[str, str]:
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        raise InvalidInput("the PostgreSQL URL cannot be read", hint=f"give {FORMS}") from None
    if parts.fragment:
        raise InvalidInput(
            "the PostgreSQL URL has a part after #", hint="write %23 for a # within a name or password"
        )
    login, at, places = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    found = {
        "user": unquote(user) if at else "",
        "password": unquote(password) if colon else "",
        "dbname": unquote(parts.path[1:]),
        **_places(places),
    }
    for name, value in pairs:
        name = {"database": "dbname", "ssl": "sslmode"}.get(name, name)
        found[name] = "require" if (name, value) == ("sslmode", "true") else value
    return {name: value for name, value in found.items() if value}


def _places(text: str) -> dict[str, str]:
    """The host part of a URL: `a`, `a:5433`, `[::1]:5433`, `a:1,b:2`, or a percent-encoded directory."""
    hosts, ports = [], []
    for place in text.split(",") if text else []:
        found = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d*))?", place)
        if found is None:
            raise InvalidInput("the host of the PostgreSQL URL cannot be read", hint=f"give {FORMS}")
        hosts.append(unquote(found[1].strip("[]")))
        ports.append(found[2] or "")
    if not any(ports):
        return {"host": ",".join(hosts)}
    return {"host": ",".join(hosts), "port": ",".join(port or "5432" for port in ports)}


def _from_keywords(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _KEYWORD.match(text, position)
        if match is None:
            raise InvalidInput(
                "the PostgreSQL address cannot be read as keyword=value pairs",
                hint="quote values with spaces: dbname='my data'; \\' and \\\\ within quotes",
            )
        value = match[2] if match[2] is not None else match[3]
        found[match[1].lower()] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        position = match.end()
    return {name: value for name, value in found.items() if value}


def _check(given: dict[str, str]) -> None:
    for name, value in given.items():
        if name not in PARAMETERS:
            raise InvalidInput(
                f"{name!r} is not a parameter of a PostgreSQL address",
                hint=did_you_mean(name, PARAMETERS, "parameters"),
            )
        if "\x00" in value:
            raise InvalidInput(f"{name!r} of the PostgreSQL address contains U+0000")
    if given.get("channel_binding", "prefer") not in ("prefer", "disable"):
        raise InvalidInput(
            f"channel_binding is {given['channel_binding']!r}, which the driver cannot do",
            hint="leave it out; sslmode=verify-full proves who the server is",
        )
    if given.get("sslmode", "prefer") not in _SSL_MODES:
        raise InvalidInput(f"sslmode is {given['sslmode']!r}", hint="one of " + ", ".join(_SSL_MODES))
    if given.get("sslrootcert") == "system" and given.get("sslmode", "verify-full") != "verify-full":
        raise InvalidInput(
            f"sslmode={given['sslmode']} is too weak for sslrootcert=system: anybody has such a certificate",
            hint="sslmode=verify-full, which is the default there",
        )
    for port in given.get("port", "5432").split(","):
        if not port.isdecimal() or not 0 < int(port) <= 65_535:
            raise InvalidInput(f"{port!r} is not a port", hint="1 to 65535")


def _arguments(given: dict[str, str]) -> dict[str, Any]:
    # asyncpg takes these by name, so nothing in them can be mistaken for syntax; the rest only in a DSN.
    found: dict[str, Any] = {
        "user": given.get("user"),
        "password": given.get("password"),
        "database": given.get("dbname"),
    }
    if "host" in given:
        found["host"] = given["host"].split(",")
    if "port" in given:
        ports = [int(port) for port in given["port"].split(",")]
        found["port"] = ports if len(ports) > 1 else ports[0]
    by_name = (*found, "host", "port", "dbname", "application_name", "connect_timeout", *_POOL, *_IGNORED)
    rest = {name: value for name, value in given.items() if name not in by_name}
    found["dsn"] = "postgresql://?" + urlencode(rest, quote_via=quote) if rest else None
    return found


def _pool_limit(name: str, text: str) -> float:
    least, most = _POOL[name]
    whole = name != "pool_timeout"
    number = re.fullmatch(r"\d{1,6}" if whole else r"\d{1,6}(\.\d{1,3})?", text)
    if number is None or not least <= float(text) <= most:
        raise InvalidInput(
            f"{name} of the PostgreSQL address is {text!r}",
            hint=f"a {'whole ' if whole else ''}number{'' if whole else ' of seconds'}, {least} to {most}",
        )
    return float(text)


def _timeout(text: str) -> float:
    if not text:
        return _DEFAULT_CONNECT_S
    if not text.isdecimal() or not 0 < int(text) <= 3_600:
        raise InvalidInput(f"connect_timeout is {text!r}", hint="whole seconds, 1 to 3600")
    return float(text)


def _display(given: dict[str, str]) -> str:
    """A URL that says where, and as whom; the same for however the address was written."""
    hosts = given.get("host", "").split(",")
    ports = given.get("port", "").split(",")
    ports = ports if len(ports) == len(hosts) else ports[:1] * len(hosts)
    places = []
    for host, port in zip(hosts, ports, strict=True):
        shown = f"[{host}]" if ":" in host else quote(host, safe="")
        places.append(f"{shown}:{port}" if port and port != "5432" else shown)
    login = quote(given["user"], safe="") + "@" if given.get("user") else ""
    database = "/" + quote(given["dbname"], safe="") if given.get("dbname") else ""
    return f"postgresql://{login}{','.join(places)}{database}"
