"""`sslrootcert=system`: servers whose certificate the system's own authorities vouch for."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from vectable.errors import InvalidInput

SYSTEM = "system"
_VERSIONS = ("TLSv1.2", "TLSv1.3")


def system_trust(keywords: Mapping[str, str]) -> ssl.SSLContext | None:
    """What an address by libpq's `keywords` asks of TLS where it trusts the system's authorities; None where
    it names others. The server's name is always checked. Raises InvalidInput, OSError, ssl.SSLError."""
    if keywords.get("sslrootcert") != SYSTEM:
        return None
    context = ssl.create_default_context()
    if "sslcert" in keywords:
        password = keywords.get("sslpassword", "")
        context.load_cert_chain(keywords["sslcert"], keywords.get("sslkey"), lambda: password)
    if "sslcrl" in keywords:
        context.load_verify_locations(cafile=keywords["sslcrl"])
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    context.minimum_version = _version(keywords, "ssl_min_protocol_version", "TLSv1.2")
    context.maximum_version = _version(keywords, "ssl_max_protocol_version", "TLSv1.3")
    context.set_alpn_protocols(["postgresql"])
    return context


def _version(keywords: Mapping[str, str], name: str, default: str) -> ssl.TLSVersion:
    asked = keywords.get(name, default)
    if asked not in _VERSIONS:
        raise InvalidInput(f"{name} is {asked!r}", hint="one of " + ", ".join(_VERSIONS))
    return ssl.TLSVersion[asked.replace(".", "_")]
