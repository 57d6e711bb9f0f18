"""The networks that are not public, in a table of its own: the interpreter's differs from release to release.

From the registries of special-purpose addresses (RFC 6890 and its updates; IANA's registries for
IPv4 and IPv6), multicast, and the addresses of clouds' metadata services.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(texts: Collection[str]) -> tuple[Network, ...]:
    """Returns networks from their texts, such as `10.0.0.0/8`."""
    return tuple(ipaddress.ip_network(text) for text in texts)


# Refused whatever a rule allows.
NEVER = networks(
    [
        "0.0.0.0/8",  # this host
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, with the metadata service of most clouds
        "100.100.100.200/32",  # metadata, Alibaba Cloud
        "168.63.129.16/32",  # the platform's own service, Azure
        "192.0.0.192/32",  # metadata, older Oracle Cloud
        "224.0.0.0/4",  # multicast
        "255.255.255.255/32",  # broadcast
        "::/128",
        "::1/128",
        "fe80::/10",
        "fec0::/10",  # site-local, deprecated
        "ff00::/8",
        "fd00:ec2::/32",  # metadata, AWS
        "fd20:ce::254/128",  # metadata, Google Cloud
        "fd00:c1::a9fe:a9fe/128",  # metadata, Oracle Cloud
    ]
)

_NOT_PUBLIC_V4 = networks(
    [
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by carriers (RFC 6598)
        "172.16.0.0/12",
        "192.0.0.0/24",  # IETF protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays, deprecated
        "192.168.0.0/16",
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "240.0.0.0/4",
    ]
)
# Only 2000::/3 is assigned for the public, without these parts of it.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = networks(
    [
        "2001::/23",  # IETF protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    ]
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address, reached through it


def parse_address(text: str) -> Address:
    """Returns an address without its zone; an IPv4 address that is written as IPv6 (mapped, NAT64) as itself."""
    ip = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip


def is_in(ip: Address, group: Sequence[Network]) -> bool:
    """Returns whether an address is in one of these networks."""
    return any(ip.version == network.version and ip in network for network in group)


def is_public(text: str) -> bool:
    """Returns whether an address is public; one that is written as a mapped IPv4 address is not, whichever it is."""
    written = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(written, ipaddress.IPv6Address) and written.ipv4_mapped is not None:
        return False
    ip = parse_address(text)
    if is_in(ip, NEVER):
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        return ip in _GLOBAL_V6 and not is_in(ip, _NOT_PUBLIC_V6)
    return not is_in(ip, _NOT_PUBLIC_V4)
