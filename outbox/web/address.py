"""Where a request comes from."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.requests import Request

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]


def address_of(request: Request, proxies: Networks) -> str:
    """The address that a request comes from; what a proxy of ours says of that counts."""
    # A proxy may add a line of its own beneath the one that its client sent.
    forwarded = ",".join(request.headers.getlist("x-forwarded-for")).split(",")[-1].strip()
    return forwarded if forwarded and is_from(request, proxies) else peer_of(request)


def sender_of(address: str) -> str:
    """Who is counted as one, of an address: with IPv6 a host has a network of 64 bits."""
    try:
        whole = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return str(whole.ipv4_mapped or ipaddress.IPv6Network((int(whole) >> 64 << 64, 64)))


def peer_of(request: Request) -> str:
    """Who has connected to us."""
    return request.client.host if request.client else ""


def is_from(request: Request, networks: Networks) -> bool:
    """Whether who has connected is in one of these networks."""
    try:
        peer = ipaddress.ip_address(peer_of(request))
    except ValueError:
        return False
    return any(peer in network for network in networks)
