"""Whether a server may be reached by other machines."""

from __future__ import annotations

import ipaddress
import logging

from vectable.config import Settings
from vectable.engine.keys import ApiKeys
from vectable.errors import AccessDenied

log = logging.getLogger("vectable.server")


def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_transport(settings: Settings) -> None:
    """Raises AccessDenied for an address others can reach without TLS, here or at a declared proxy, unless
    `insecure`."""
    if is_loopback(settings.host) or settings.insecure or settings.tls_cert or settings.trusted_proxies:
        return
    raise AccessDenied(
        f"{settings.host!r} can be reached from other machines, and keys would cross the network unencrypted",
        hint="give --tls-cert and --tls-key, or --trusted-proxies where a proxy ends TLS, or serve on "
        "127.0.0.1; --insecure if everybody who can reach it may do everything",
    )


async def check_keys(settings: Settings, keys: ApiKeys) -> None:
    """Raises AccessDenied for an address others can reach while no key opens anything, unless `insecure`."""
    if is_loopback(settings.host):
        return
    if settings.insecure:
        asked = "keys are asked for" if await keys.exist() else "nobody is asked for a key"
        log.warning(
            "INSECURE: other machines can reach %s, %s, and keys and texts may cross the network unencrypted",
            settings.host,
            asked,
        )
        return
    if not any(key.state == "active" for key in await keys.list()):
        raise AccessDenied(
            f"{settings.host!r} can be reached from other machines, and there is no key",
            hint="make one first: vectable keys create NAME --role admin; "
            "--insecure if everybody who can reach it may do everything",
        )
