from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.auth.media_links import MediaLinks, SignedLink
from tests.clock import Clock

OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 32
SHA = "ab" * 32
WHAT = f"media/{SHA}"


def links(*keys: bytes, clock: Clock | None = None, bound: bool = False, lifetime_s: float = 900.0) -> MediaLinks:
    return MediaLinks(lambda: keys or (NEW,), lifetime_s=lifetime_s, bound=bound, clock=clock or Clock(1e9))


def test_a_link_is_valid_for_its_thing_and_its_tenant_without_credentials() -> None:
    signer = links()
    link = signer.sign(WHAT, tenant="acme", subject="key:1")
    assert signer.verifies(link, WHAT, tenant="acme", subject=None)
    assert not signer.verifies(link, WHAT, tenant="other", subject=None)
    assert not signer.verifies(link, "media/" + "cd" * 32, tenant="acme", subject=None)
    assert not signer.verifies(link, f"entry/{SHA}", tenant="acme", subject="key:1")


def test_a_link_expires_within_its_lifetime_and_lives_four_fifths_of_it() -> None:
    clock = Clock(1e9)
    signer = links(clock=clock)
    for start_s in range(0, 900, 7):
        clock.now_s = 1e9 + start_s
        link = signer.sign(WHAT, tenant="acme", subject="key:1")
        clock.now_s = 1e9 + start_s + 719
        assert signer.verifies(link, WHAT, tenant="acme", subject=None)
        clock.now_s = 1e9 + start_s + 900
        assert not signer.verifies(link, WHAT, tenant="acme", subject=None)


def test_an_expiry_that_was_changed_does_not_fit_the_signature() -> None:
    signer = links()
    link = signer.sign(WHAT, tenant="acme", subject="key:1")
    for expires in (str(int(link.expires) + 60), f"0{link.expires}", f" {link.expires}", "", "-1", "9" * 400, "١٢٣"):
        assert not signer.verifies(SignedLink(expires, link.signature), WHAT, tenant="acme", subject=None)


def test_no_link_lives_longer_than_a_day_whatever_key_signed_it() -> None:
    clock = Clock(1e9)
    link = links(clock=Clock(1e9 + 200_000)).sign(WHAT, tenant="acme", subject="key:1")
    assert not links(clock=clock).verifies(link, WHAT, tenant="acme", subject=None)


def test_links_of_the_key_before_are_valid_and_those_of_no_other() -> None:
    link = links(OLD).sign(WHAT, tenant="acme", subject="key:1")
    assert links(NEW, OLD).verifies(link, WHAT, tenant="acme", subject=None)
    assert not links(NEW).verifies(link, WHAT, tenant="acme", subject=None)
    assert not links(NEW, OTHER).verifies(link, WHAT, tenant="acme", subject=None)


def test_links_of_one_period_are_equal_so_that_browsers_have_them_cached() -> None:
    clock = Clock(1e9)
    signer = links(clock=clock)
    seen = set()
    for second in range(900):
        clock.now_s = 1e9 + second
        seen.add(signer.sign(WHAT, tenant="acme", subject="key:1"))
    assert len(seen) in (5, 6)


def test_a_bound_link_is_valid_for_its_caller_alone() -> None:
    signer = links(bound=True)
    link = signer.sign(WHAT, tenant="acme", subject="key:1")
    assert signer.verifies(link, WHAT, tenant="acme", subject="key:1")
    assert not signer.verifies(link, WHAT, tenant="acme", subject="key:2")
    assert not signer.verifies(link, WHAT, tenant="acme", subject=None)
    assert not signer.verifies(links().sign(WHAT, tenant="acme", subject="*"), WHAT, tenant="acme", subject="key:1")


_parts = st.tuples(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6))


@given(_parts, _parts)
def test_no_two_links_share_a_signature(first: tuple[str, str, str], second: tuple[str, str, str]) -> None:
    signer = links(bound=True)
    signed = [signer.sign(name, tenant=tenant, subject=subject) for name, tenant, subject in (first, second)]
    assert (signed[0] == signed[1]) == (first == second)


@pytest.mark.parametrize("signature", ["", "é", "a" * 43, "A" * 10_000])
def test_a_signature_of_any_form_is_refused(signature: str) -> None:
    signer = links()
    link = SignedLink(signer.sign(WHAT, tenant="acme", subject="key:1").expires, signature)
    assert not signer.verifies(link, WHAT, tenant="acme", subject=None)
