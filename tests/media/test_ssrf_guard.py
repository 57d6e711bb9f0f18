"""A network that connects to public addresses only."""

from __future__ import annotations

import httpcore
import pytest

from penstock.errors import BadInputError, Reason
from penstock.media.networks import is_public
from penstock.media.ssrf_guard import GuardedNetwork


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "192.0.0.192",
        "192.88.99.1",
        "168.63.129.16",
        "3fff::1",
        "100::1",
        "5f00::1",
        "64:ff9b:1::1",
        "fd00:ec2::254",
        "4000::1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:8.8.8.8",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "64:ff9b::a00:1",
    ],
)
def test_internal_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


def test_one_private_address_among_public_ones_is_rejected() -> None:
    network = GuardedNetwork(resolver=lambda host, port: ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(BadInputError, match=r"some\.host resolves to 10\.0\.0\.1") as caught:
        network.connect_tcp("some.host", 80)
    assert caught.value.reason is Reason.FORBIDDEN


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "localhost", "::1"])
def test_other_spellings_of_loopback_are_rejected(host: str) -> None:
    network = GuardedNetwork()
    with pytest.raises(BadInputError) as caught:
        network.connect_tcp(host, 80)
    assert caught.value.reason is Reason.FORBIDDEN


def test_a_resolver_that_hangs_is_given_up_at_the_deadline() -> None:
    import threading
    import time

    released = threading.Event()

    def hangs(host: str, port: int) -> list[str]:
        released.wait(30)
        return []

    network = GuardedNetwork(resolver=hangs)
    started = time.monotonic()
    with network.until(started + 0.2), pytest.raises(httpcore.ConnectTimeout):
        network.connect_tcp("slow.host", 80)
    released.set()
    assert time.monotonic() - started < 5


def test_a_name_that_does_not_resolve_is_a_connection_error() -> None:
    def fails(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    with pytest.raises(httpcore.ConnectError, match="no such name"):
        GuardedNetwork(resolver=fails).connect_tcp("absent.host", 80)
