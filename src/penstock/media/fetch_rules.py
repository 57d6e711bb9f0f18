"""Finds the rule that lets a tenant name an address, and what of the address is kept and shown.

1. The first rule of `fetch.allow` counts whose tenants, scheme, host or bucket, and prefix fit.
2. Where none fits, http and https to public addresses are allowed to every tenant (`fetch.allow_public`).
3. Anything else is refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import httpx

from penstock.config import FetchSettings
from penstock.config.fetch import FetchRule
from penstock.errors import BadInputError, Reason

PUBLIC = tuple(FetchRule(tenants=("*",), scheme=scheme, host="*", show=True) for scheme in ("https", "http"))
"""The rules of `fetch.allow_public`. Their networks are the public ones."""

WEB = frozenset(("http", "https"))
_SCHEMES = WEB | {"s3", "file"}
_SEGMENT_ENDS = re.compile(r"[/\\]")


class FetchRules:
    """The rules of the settings. Immutable."""

    def __init__(self, settings: FetchSettings) -> None:
        self._rules = (*settings.allow, *(PUBLIC if settings.allow_public else ()))

    def rule_of(self, url: httpx.URL, tenant: str) -> FetchRule:
        """Returns the rule that lets a tenant read an address.

        Raises:
            BadInputError: FORBIDDEN, there is none.
        """
        for rule in self._rules:
            if _fits(rule, url, tenant):
                return rule
        raise BadInputError(
            Reason.FORBIDDEN, f"no rule of fetch.allow lets the tenant {tenant} read {redact_url(str(url))}"
        )

    def stored_uri(self, uri: str, tenant: str) -> str:
        """Returns an address that was read as the index keeps it: without query and fragment.

        The query of a pre-signed address is a credential. A rule with `keep_query` keeps it, where it only names media.
        An address with a user or a password is never read.
        """
        whole = uri.partition("#")[0]
        bare = whole.partition("?")[0]
        if bare == whole or parse_url(uri).scheme not in WEB:
            return bare
        return whole if self.rule_of(parse_url(uri), tenant).keep_query else bare

    def shows(self, uri: str, tenant: str) -> bool:
        """Returns whether readers get an address: one of the asset store, or one whose rule shows it."""
        if uri.startswith("asset:"):
            return True
        try:
            url = parse_url(uri)
            if url.scheme != "file":
                return self.rule_of(url, tenant).show
        except BadInputError:
            return False
        file = Path(url.path).resolve()
        return any(
            rule.show and file.is_relative_to(Path(rule.prefix).resolve())
            for rule in self._rules
            if _fits(rule, url, tenant)
        )


def parse_url(uri: str) -> httpx.URL:
    """Returns an address as a URL of a known scheme, with a host, if it needs one, and no user.

    Raises:
        BadInputError: MALFORMED or FORBIDDEN.
    """
    try:
        url = httpx.URL(uri)
    except (httpx.InvalidURL, UnicodeError, ValueError) as exc:
        raise BadInputError(Reason.MALFORMED, f"the claim check {redact_url(uri)} is not a URL: {exc}") from exc
    if url.scheme not in _SCHEMES:
        allowed = ", ".join(sorted(_SCHEMES))
        raise BadInputError(
            Reason.FORBIDDEN, f"the scheme {url.scheme!r} of {redact_url(uri)} is not read; only {allowed} are"
        )
    if url.scheme != "file" and (not url.host or not 0 < (url.port or 1) < 65_536):
        raise BadInputError(Reason.MALFORMED, f"the claim check {redact_url(uri)} has no valid host and port")
    if url.userinfo:
        detail = f"the claim check {redact_url(str(url))} contains a user or password; remove it"
        raise BadInputError(Reason.FORBIDDEN, detail)
    return url


def _fits(rule: FetchRule, url: httpx.URL, tenant: str) -> bool:
    if rule.scheme != url.scheme or not {"*", tenant} & set(rule.tenants):
        return False
    if rule.scheme == "file":
        return True  # where it lies is decided once its links are followed
    if rule.scheme == "s3":
        return rule.bucket == url.host and _is_below(url.path, rule.prefix)
    return _is_host(rule.host or "", url) and _is_below(url.raw_path.partition(b"?")[0].decode("ascii"), rule.prefix)


def _is_host(expected: str, url: httpx.URL) -> bool:
    """Returns whether a rule's `host`, `host:port`, `*.domain` or `*` is that of an address."""
    host = url.raw_host.decode("ascii").lower().rstrip(".")
    name, colon, port = expected.lower().rpartition(":")
    if colon and port.isdigit() and (":" not in name or name.endswith("]")):
        expected = name
        if int(port) != (url.port or {"http": 80, "https": 443}[url.scheme]):
            return False
    expected = expected.lower().strip("[]")
    if expected == "*":
        return True
    return host.endswith(expected[1:]) if expected.startswith("*.") else host == expected


def _is_below(path: str, prefix: str) -> bool:
    """Returns whether a path lies below a prefix, by whole names: `tenant-b` is not below `tenant`.

    Behind a prefix, no path has `.`, `..` or an encoded separator, which a server may resolve to another place.
    """
    expected = [part for part in prefix.split("/") if part]
    if not expected:
        return True
    decoded = unquote(path)
    while (again := unquote(decoded)) != decoded:  # a proxy may decode one time more
        decoded = again
    parts = _SEGMENT_ENDS.split(decoded)[1:]
    if {".", ".."} & set(parts) or decoded.count("/") != path.count("/") or "\\" in decoded:
        return False
    return len(parts) > len(expected) and parts[: len(expected)] == expected


def redact_url(uri: str) -> str:
    """Returns an address for messages: without user, password, query and fragment, at most 200 characters."""
    bare = re.sub(r"//[^/@\s]*@", "//", uri.partition("?")[0].partition("#")[0])
    return bare if len(bare) <= 200 else bare[:197] + "…"
