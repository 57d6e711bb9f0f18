"""Claim checks: the bytes behind an address, one try, one reader a scheme.

A reader returns the bytes, or raises `BadInputError` where another try cannot help (FORBIDDEN, TOO_LARGE, UNREACHABLE,
MALFORMED), or `RetryableFetchError` where it may.
"""

from __future__ import annotations

import errno
import os
import re
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpcore
import httpx

from penstock.config import FetchSettings
from penstock.errors import BadInputError, Reason, TransientError
from penstock.media.ssrf_guard import GuardedNetwork, Resolver, system_resolver

_CHUNK_BYTES = 1024 * 1024
_MOST_REDIRECTS = 5
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_TRANSIENT_STATUSES = frozenset((408, 425, 429))  # and all of 500 to 599
_IDLE_TIMEOUT_S = 10.0  # a server silent for so long is tried again, within the deadline
_LASTING = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class RetryableFetchError(TransientError):
    """This try failed; the next may not.

    Args:
        message: what happened.
        retry_after_s: seconds that the server asks to wait, if it does.
    """

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ClaimCheckReader:
    """Reads claim checks, as far as the settings allow. Thread-safe; keeps connections to be used again.

    Args:
        settings: what is allowed.
        resolver: host names → addresses.
        clock: monotonic seconds.
        ssl_context: what certificates are trusted; None: the system's.
    """

    def __init__(
        self,
        settings: FetchSettings,
        *,
        resolver: Resolver = system_resolver,
        clock: Callable[[], float] = time.monotonic,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._roots = tuple(root.resolve() for root in settings.allowed_roots)
        self._clock = clock
        self._network = GuardedNetwork(resolver=resolver, allow_private=settings.allow_private_addresses, clock=clock)
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl_context,
            network_backend=self._network,
            max_connections=64,
            max_keepalive_connections=16,
            keepalive_expiry=30.0,
        )
        self._s3_lock = threading.Lock()
        self._s3_system: Any = None
        self._readers: Mapping[str, Callable[[httpx.URL, float], bytes]] = {
            "file": self._file,
            "http": self._http,
            "https": self._http,
            "s3": self._s3,
        }

    def read(self, uri: str, *, deadline_s: float) -> bytes:
        """One try.

        Args:
            uri: the address.
            deadline_s: when to give up, by the clock.

        Raises:
            BadInputError: another try cannot help.
            RetryableFetchError: it may.
        """
        url = self._checked(uri)
        return self._readers[url.scheme](url, deadline_s)

    def close(self) -> None:
        self._pool.close()

    def _checked(self, uri: str) -> httpx.URL:
        try:
            url = httpx.URL(uri)
        except (httpx.InvalidURL, UnicodeError, ValueError) as exc:
            raise BadInputError(Reason.MALFORMED, f"the claim check {redact_url(uri)} is no URL: {exc}") from exc
        if url.scheme not in self._settings.allowed_schemes or url.scheme not in self._readers:
            allowed = ", ".join(scheme for scheme in self._settings.allowed_schemes if scheme in self._readers)
            raise BadInputError(
                Reason.FORBIDDEN,
                f"the scheme {url.scheme!r} of {redact_url(uri)} is not allowed; fetch.allowed_schemes are {allowed}",
            )
        if url.scheme != "file" and (not url.host or not 0 < (url.port or 1) < 65_536):
            raise BadInputError(Reason.MALFORMED, f"the claim check {redact_url(uri)} names no host")
        if url.userinfo:
            raise BadInputError(Reason.FORBIDDEN, f"an address with user or password in it: {redact_url(str(url))}")
        return url

    def _too_large(self, size: int | None, what: str) -> BadInputError:
        has = "more" if size is None else f"{size:,} bytes"
        return BadInputError(Reason.TOO_LARGE, f"{what} has {has}; fetch.max_bytes is {self._settings.max_bytes:,}")

    def _collected(self, chunks: Iterable[bytes], what: str) -> bytes:
        """All chunks as one, unless they come to more than the limit, whatever was announced."""
        kept: list[bytes] = []
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if size > self._settings.max_bytes:
                raise self._too_large(None, what)
            kept.append(chunk)
        return b"".join(kept)

    # ---- file: ----

    def _file(self, url: httpx.URL, deadline_s: float) -> bytes:
        """A regular file below one of the roots, after all symbolic links are followed.

        1 resolve the path and see that it lies below a root
        2 open it, without following a link at its end
        3 resolve it again and see that what was opened is what lies there now: a link that was changed between 1 and 2
          shows here
        4 refuse by size, unread; then read
        """
        if url.host not in ("", "localhost"):
            raise BadInputError(Reason.FORBIDDEN, f"{redact_url(str(url))} names a file of another host, {url.host}")
        claimed = Path(url.path)
        if not claimed.is_absolute():
            raise BadInputError(Reason.MALFORMED, f"{redact_url(str(url))} is no absolute path")
        try:
            path = self._below_root(claimed)
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                return self._opened(descriptor, claimed, deadline_s)
            finally:
                os.close(descriptor)
        except (OSError, ValueError, RuntimeError) as exc:
            raise _file_failure(claimed, exc) from exc

    def _opened(self, descriptor: int, claimed: Path, deadline_s: float) -> bytes:
        opened = os.fstat(descriptor)
        if not os.path.samestat(opened, self._below_root(claimed).stat()):
            raise BadInputError(Reason.FORBIDDEN, f"{claimed} changed while it was opened")
        if not stat.S_ISREG(opened.st_mode):
            raise BadInputError(Reason.FORBIDDEN, f"{claimed} is no regular file")
        if opened.st_size > self._settings.max_bytes:
            raise self._too_large(opened.st_size, str(claimed))
        return self._collected(self._chunks(descriptor, str(claimed), deadline_s), str(claimed))

    def _below_root(self, claimed: Path) -> Path:
        path = claimed.resolve()
        if not any(path.is_relative_to(root) for root in self._roots):
            allowed = ", ".join(map(str, self._roots)) or "none are set"
            raise BadInputError(Reason.FORBIDDEN, f"{claimed} lies outside of fetch.allowed_roots ({allowed})")
        return path

    def _chunks(self, descriptor: int, what: str, deadline_s: float) -> Iterator[bytes]:
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            if self._clock() > deadline_s:
                raise RetryableFetchError(f"{what} was not read in time")
            yield chunk

    # ---- http: and https: ----

    def _http(self, url: httpx.URL, deadline_s: float) -> bytes:
        """Follows redirects, each checked like the first address: scheme and user here, its host when connected to."""
        first = url
        try:
            with self._network.until(deadline_s):
                for _ in range(_MOST_REDIRECTS + 1):
                    found = self._get(url)
                    if isinstance(found, bytes):
                        return found
                    url = found
        except httpcore.UnsupportedProtocol as exc:
            raise BadInputError(Reason.MALFORMED, f"{redact_url(str(url))} cannot be fetched: {exc}") from exc
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError) as exc:
            raise RetryableFetchError(f"fetching {redact_url(str(url))}: {type(exc).__name__}: {exc}") from exc
        raise BadInputError(Reason.UNREACHABLE, f"{redact_url(str(first))} redirects more than {_MOST_REDIRECTS} times")

    def _get(self, url: httpx.URL) -> bytes | httpx.URL:
        """The body, or where to look instead."""
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        headers = [(b"Host", url.netloc), (b"Accept", b"*/*"), (b"Accept-Encoding", b"identity"),
                   (b"User-Agent", b"penstock")]  # fmt: skip
        timeouts = {"connect": None, "read": _IDLE_TIMEOUT_S, "write": _IDLE_TIMEOUT_S, "pool": _IDLE_TIMEOUT_S}
        with self._pool.stream("GET", target, headers=headers, extensions={"timeout": timeouts}) as response:
            answered = httpx.Headers(response.headers)
            what = redact_url(str(url))
            if response.status in _REDIRECTS and "location" in answered:
                return self._redirected(url, answered["location"])
            if response.status != 200:
                raise _status_failure(response.status, answered, what)
            announced = answered.get("content-length", "")
            if announced.isdigit() and int(announced) > self._settings.max_bytes:
                raise self._too_large(int(announced), what)
            return self._collected(response.iter_stream(), what)

    def _redirected(self, url: httpx.URL, location: str) -> httpx.URL:
        try:
            joined = str(url.join(location))
        except (httpx.InvalidURL, UnicodeError, ValueError) as exc:
            detail = f"{redact_url(str(url))} redirects to {redact_url(location)}, which is no URL: {exc}"
            raise BadInputError(Reason.UNREACHABLE, detail) from exc
        found = self._checked(joined)
        if found.scheme not in ("http", "https"):
            raise BadInputError(Reason.FORBIDDEN, f"{redact_url(str(url))} redirects to {found.scheme}:, out of http")
        return found

    # ---- s3: ----

    def _s3(self, url: httpx.URL, deadline_s: float) -> bytes:
        """An object, by the credentials that this process finds in its environment. Refused by size, unread."""
        if not _BUCKET.fullmatch(url.host) or len(url.path) < 2:
            raise BadInputError(Reason.MALFORMED, f"{redact_url(str(url))} does not name a bucket and a key")
        path, what = url.host + url.path, redact_url(str(url))
        system, most = self._s3_files(), self._settings.max_bytes
        try:
            size = int(system.info(path, timeout=self._left_s(deadline_s, what))["size"])
            if size > most:
                raise self._too_large(size, what)
            data = system.cat_file(path, start=0, end=most + 1, timeout=self._left_s(deadline_s, what)) if size else b""
            return self._collected((data,), what)
        except (BadInputError, RetryableFetchError):
            raise
        except Exception as exc:
            raise _s3_failure(what, exc) from exc

    def _left_s(self, deadline_s: float, what: str) -> float:
        left = deadline_s - self._clock()
        if left <= 0:
            raise RetryableFetchError(f"{what} was not read in time")
        return left

    def _s3_files(self) -> Any:
        """Made when first needed, for its import is slow. The endpoint is the operator's, so any host will do."""
        with self._s3_lock:
            if self._s3_system is None:
                from s3fs import S3FileSystem

                timeouts = {"connect_timeout": 5, "read_timeout": _IDLE_TIMEOUT_S, "retries": {"max_attempts": 0}}
                self._s3_system = S3FileSystem(
                    endpoint_url=self._settings.s3_endpoint,
                    config_kwargs=timeouts,
                    use_listings_cache=False,
                    skip_instance_cache=True,
                )
            return self._s3_system


# --- what a failure means --------------------------------------------------------------------------------------------


def _file_failure(path: Path, exc: Exception) -> BadInputError | RetryableFetchError:
    if not isinstance(exc, OSError):
        return BadInputError(Reason.MALFORMED, f"{str(path)!r} is no path of a file: {exc}")
    if exc.errno in _LASTING:
        return BadInputError(Reason.UNREACHABLE, f"{path} cannot be read: {exc.strerror}")
    return RetryableFetchError(f"reading {path}: {exc}")  # such as a network share that is away


def _status_failure(status: int, headers: httpx.Headers, what: str) -> BadInputError | RetryableFetchError:
    """408, 425, 429 and all of 5xx may pass. Any other answer, such as 403, 404 or 410, is taken at its word."""
    message = f"{what} answers {status}"
    if status in _TRANSIENT_STATUSES or status >= 500:
        after = headers.get("retry-after", "")
        return RetryableFetchError(message, retry_after_s=float(after) if after.isdigit() else 0.0)
    return BadInputError(Reason.UNREACHABLE, message)


def _s3_failure(what: str, exc: Exception) -> BadInputError | RetryableFetchError:
    """s3fs turns the service's errors into OSErrors; absent and forbidden objects stay so, the rest may pass."""
    message = f"fetching {what}: {type(exc).__name__}: {exc}"
    if isinstance(exc, FileNotFoundError | PermissionError):
        return BadInputError(Reason.UNREACHABLE, message)
    return RetryableFetchError(message)


def redact_url(uri: str) -> str:
    """An address as messages show it: without user and password, query and fragment, and not longer than a line."""
    bare = re.sub(r"//[^/@\s]*@", "//", uri.partition("?")[0].partition("#")[0])
    return bare if len(bare) <= 200 else bare[:197] + "…"
