"""Signs links to media, so that a browser may load them without credentials for some minutes.

    sig = HMAC-SHA-256(key, name ‖ tenant ‖ expiry ‖ subject)      RFC 2104; each part with its length before it

A link is valid for one thing of one tenant until it expires: media by their hash, an entry by its id, or the words of
the asset that one entry is of. The subject is `*`, so that any caller that has the link may use it, or that of the
caller whose answer had it. Links of one period are equal, so that browsers and caches know them again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ANY_SUBJECT = "*"
_PERIODS = 5  # of a lifetime, at whose begin links change
_MAX_LIFETIME_S = 86_400
_EXPIRY = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class SignedLink:
    """The proof that a link is valid: seconds since the epoch at which it expires, and the signature."""

    expires: str
    signature: str


class MediaLinks:
    """Signs links and checks them. Safe to use from several threads.

    Args:
        keys: returns the present key and the ones before it, each at least 32 bytes; called at each use.
        lifetime_s: of a link, at most a day.
        bound: whether a link is valid for the caller alone that it was made for.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        keys: Callable[[], Sequence[bytes]],
        *,
        lifetime_s: float,
        bound: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._lifetime_s = int(min(lifetime_s, _MAX_LIFETIME_S))
        self._bound = bound
        self._clock = clock

    def expiry(self) -> int:
        """Returns when a link that is made now expires. It changes with each period."""
        period_s = max(1, self._lifetime_s // _PERIODS)
        return int(self._clock()) // period_s * period_s + self._lifetime_s

    def subject_of(self, subject: str) -> str:
        """Returns for whom the links in an answer to this caller are."""
        return subject if self._bound else ANY_SUBJECT

    def sign(self, name: str, *, tenant: str, subject: str) -> SignedLink:
        """Returns the proof of a link.

        Args:
            name: of the thing, such as `media/<sha256>`.
            tenant: its owner.
            subject: the caller whose answer has the link.
        """
        expires = str(self.expiry())
        return SignedLink(expires, _signature(self._keys()[0], name, tenant, expires, self.subject_of(subject)))

    def verifies(self, link: SignedLink, name: str, *, tenant: str, subject: str | None) -> bool:
        """Returns whether a link is valid now.

        Args:
            link: its proof, as the request has it.
            name: of the thing that the request names.
            tenant: that the request names.
            subject: the caller; None: it has no credentials.
        """
        if not _EXPIRY.fullmatch(link.expires):
            return False
        left_s = int(link.expires) - self._clock()
        if not 0 < left_s <= _MAX_LIFETIME_S:
            return False
        allowed = ANY_SUBJECT if not self._bound else subject
        if allowed is None:
            return False
        given = link.signature.encode("utf-8", "surrogatepass")
        # Every key is tried, so that the time does not depend on which one fits.
        fits = [
            hmac.compare_digest(given, _signature(key, name, tenant, link.expires, allowed).encode())
            for key in self._keys()
        ]
        return any(fits)


def _signature(key: bytes, *parts: str) -> str:
    message = b"".join(
        len(part).to_bytes(4) + part for part in (text.encode("utf-8", "surrogatepass") for text in parts)
    )
    return base64.urlsafe_b64encode(hmac.digest(key, message, hashlib.sha256)).rstrip(b"=").decode()
