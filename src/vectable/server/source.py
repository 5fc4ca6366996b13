"""Where a request comes from: the client's address, and whether nobody could read it on its way."""

from __future__ import annotations

import ipaddress
from collections.abc import MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vectable.errors import InvalidInput

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Source:
    """`encrypted`: by TLS, here or at the proxy. `local`: it never left this machine."""

    address: str
    encrypted: bool
    local: bool


class TrustedProxies:
    """The proxies whose word about their clients is taken: addresses and networks."""

    def __init__(self, declared: str) -> None:
        """`declared`: comma separated. Raises InvalidInput for what is neither an address nor a network."""
        self._networks: list[_Network] = []
        for part in filter(None, (each.strip() for each in declared.split(","))):
            try:
                self._networks.append(ipaddress.ip_network(part, strict=False))
            except ValueError:
                raise InvalidInput(
                    f"{part!r} is no address of a proxy",
                    hint="write addresses or networks: 10.0.0.5, 10.1.0.0/16",
                ) from None

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)

    def source(self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes]) -> Source:
        """Where the request comes from. `X-Forwarded-For` and `X-Forwarded-Proto` count only from a trusted
        proxy, and of them only what the last proxy wrote that is trusted."""
        client = scope.get("client")
        peer: str = client[0] if client else ""
        encrypted = scope.get("scheme") == "https"
        if not self._networks or peer not in self:
            return Source(peer, encrypted, _is_loopback(peer) or not peer)
        forwarded = [
            _without_port(a.strip())
            for a in headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",")
        ]
        address = next((a for a in reversed(forwarded) if a and a not in self), peer)
        said = headers.get(b"x-forwarded-proto", b"").decode("latin-1").rpartition(",")[2].strip().lower()
        through_proxy = address != peer or bool(said)
        return Source(
            address=address,
            encrypted=said == "https" if through_proxy else encrypted,
            local=_is_loopback(peer) and not through_proxy,
        )


def _without_port(address: str) -> str:
    # Some proxies write the client's port, too, with which every connection would be another client.
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


@lru_cache(1_024)
def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
