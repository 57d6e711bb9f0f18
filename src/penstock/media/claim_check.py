"""Reads the bytes behind a claim check, one attempt at a time, with one reader for each URL scheme.

A reader returns the bytes, or raises `BadInputError` where another attempt cannot help (FORBIDDEN, TOO_LARGE,
UNREACHABLE, MALFORMED), or `RetryableFetchError` where it may.
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
_MAX_REDIRECTS = 5
_REDIRECT_STATUSES = frozenset((301, 302, 303, 307, 308))
_TRANSIENT_STATUSES = frozenset((408, 425, 429))  # and all of 500 to 599
_IDLE_TIMEOUT_S = 10.0  # a server that sends nothing for this long is tried again, within the deadline
_PERMANENT_ERRNOS = (
    errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO,
)  # fmt: skip
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class RetryableFetchError(TransientError):
    """An attempt to read a claim check failed, and the next one may succeed.

    Args:
        message: what happened.
        retry_after_s: seconds that the server requests to wait; 0 if it requests none.
    """

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ClaimCheckReader:
    """Reads claim checks within the limits of the settings. Thread-safe. Reuses connections.

    Args:
        settings: limits.
        resolver: host names → addresses.
        clock: monotonic seconds.
        ssl_context: the trusted certificates; None: the system's.
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
        self._s3_file_system: Any = None
        self._readers: Mapping[str, Callable[[httpx.URL, float], bytes]] = {
            "file": self._read_file,
            "http": self._read_http,
            "https": self._read_http,
            "s3": self._read_s3,
        }

    def read(self, uri: str, *, deadline_s: float) -> bytes:
        """Makes one attempt to read a claim check.

        Args:
            uri: the address.
            deadline_s: when to give up, by the clock.

        Raises:
            BadInputError: another attempt cannot help.
            RetryableFetchError: another attempt may help.
        """
        url = self._parse(uri)
        return self._readers[url.scheme](url, deadline_s)

    def close(self) -> None:
        """Closes the connections."""
        self._pool.close()

    def _parse(self, uri: str) -> httpx.URL:
        """Returns the address if its scheme is allowed and it names a host but no user."""
        try:
            url = httpx.URL(uri)
        except (httpx.InvalidURL, UnicodeError, ValueError) as exc:
            raise BadInputError(Reason.MALFORMED, f"the claim check {redact_url(uri)} is not a URL: {exc}") from exc
        if url.scheme not in self._settings.allowed_schemes or url.scheme not in self._readers:
            allowed = ", ".join(scheme for scheme in self._settings.allowed_schemes if scheme in self._readers)
            raise BadInputError(
                Reason.FORBIDDEN,
                f"the scheme {url.scheme!r} of {redact_url(uri)} is not allowed; fetch.allowed_schemes: {allowed}",
            )
        if url.scheme != "file" and (not url.host or not 0 < (url.port or 1) < 65_536):
            raise BadInputError(Reason.MALFORMED, f"the claim check {redact_url(uri)} has no valid host and port")
        if url.userinfo:
            detail = f"the claim check {redact_url(str(url))} contains a user or password; remove it"
            raise BadInputError(Reason.FORBIDDEN, detail)
        return url

    def _too_large(self, size: int | None, name: str) -> BadInputError:
        size_text = "more" if size is None else f"{size:,} bytes"
        limit = f"fetch.max_bytes is {self._settings.max_bytes:,}"
        return BadInputError(Reason.TOO_LARGE, f"{name} has {size_text}; {limit}")

    def _join(self, chunks: Iterable[bytes], name: str) -> bytes:
        """Returns all chunks as one, unless they exceed the limit, whatever size was announced."""
        kept: list[bytes] = []
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if size > self._settings.max_bytes:
                raise self._too_large(None, name)
            kept.append(chunk)
        return b"".join(kept)

    # --- file: -------------------------------------------------------------------------------------------------------

    def _read_file(self, url: httpx.URL, deadline_s: float) -> bytes:
        """Reads a regular file below one of the roots, after all symbolic links are followed.

        1. Resolve the path, and check that it is below a root.
        2. Open it, without following a link at its end.
        3. Resolve it again, and check that the open file is the one at that path: this detects a link that was changed
           between 1 and 2.
        4. Reject it by its size before reading; then read it.
        """
        if url.host not in ("", "localhost"):
            raise BadInputError(Reason.FORBIDDEN, f"{redact_url(str(url))} names a file of another host, {url.host}")
        claimed = Path(url.path)
        if not claimed.is_absolute():
            raise BadInputError(Reason.MALFORMED, f"{redact_url(str(url))} is not an absolute path")
        try:
            path = self._below_root(claimed)  # 1
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)  # 2
            try:
                return self._read_open_file(descriptor, claimed, deadline_s)  # 3 and 4
            finally:
                os.close(descriptor)
        except (OSError, ValueError, RuntimeError) as exc:
            raise _file_failure(claimed, exc) from exc

    def _read_open_file(self, descriptor: int, claimed: Path, deadline_s: float) -> bytes:
        opened = os.fstat(descriptor)
        if not os.path.samestat(opened, self._below_root(claimed).stat()):  # 3
            raise BadInputError(Reason.FORBIDDEN, f"{claimed} changed while it was opened")
        if not stat.S_ISREG(opened.st_mode):
            raise BadInputError(Reason.FORBIDDEN, f"{claimed} is not a regular file")
        if opened.st_size > self._settings.max_bytes:  # 4
            raise self._too_large(opened.st_size, str(claimed))
        return self._join(self._chunks(descriptor, str(claimed), deadline_s), str(claimed))

    def _below_root(self, claimed: Path) -> Path:
        path = claimed.resolve()
        if not any(path.is_relative_to(root) for root in self._roots):
            allowed = ", ".join(map(str, self._roots)) or "none are set"
            raise BadInputError(Reason.FORBIDDEN, f"{claimed} is outside of fetch.allowed_roots ({allowed})")
        return path

    def _chunks(self, descriptor: int, name: str, deadline_s: float) -> Iterator[bytes]:
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            if self._clock() > deadline_s:
                raise RetryableFetchError(f"{name} was not read in time")
            yield chunk

    # --- http: and https: --------------------------------------------------------------------------------------------

    def _read_http(self, url: httpx.URL, deadline_s: float) -> bytes:
        """Reads a body and follows redirects. Each address is checked like the first, here and on connecting."""
        first = url
        try:
            with self._network.until(deadline_s):
                for _ in range(_MAX_REDIRECTS + 1):
                    response = self._get(url)
                    if isinstance(response, bytes):
                        return response
                    url = response
        except httpcore.UnsupportedProtocol as exc:
            raise BadInputError(Reason.MALFORMED, f"{redact_url(str(url))} cannot be fetched: {exc}") from exc
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError) as exc:
            raise RetryableFetchError(f"fetching {redact_url(str(url))}: {type(exc).__name__}: {exc}") from exc
        detail = f"{redact_url(str(first))} redirects more than {_MAX_REDIRECTS} times"
        raise BadInputError(Reason.UNREACHABLE, detail)

    def _get(self, url: httpx.URL) -> bytes | httpx.URL:
        """Returns the body, or the address to which the server redirects."""
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        headers = [(b"Host", url.netloc), (b"Accept", b"*/*"), (b"Accept-Encoding", b"identity"),
                   (b"User-Agent", b"penstock")]  # fmt: skip
        timeouts = {"connect": None, "read": _IDLE_TIMEOUT_S, "write": _IDLE_TIMEOUT_S, "pool": _IDLE_TIMEOUT_S}
        with self._pool.stream("GET", target, headers=headers, extensions={"timeout": timeouts}) as response:
            answer = httpx.Headers(response.headers)
            name = redact_url(str(url))
            if response.status in _REDIRECT_STATUSES and "location" in answer:
                return self._redirect_target(url, answer["location"])
            if response.status != 200:
                raise _status_failure(response.status, answer, name)
            announced = answer.get("content-length", "")
            if announced.isdigit() and int(announced) > self._settings.max_bytes:
                raise self._too_large(int(announced), name)
            return self._join(response.iter_stream(), name)

    def _redirect_target(self, url: httpx.URL, location: str) -> httpx.URL:
        try:
            joined = str(url.join(location))
        except (httpx.InvalidURL, UnicodeError, ValueError) as exc:
            detail = f"{redact_url(str(url))} redirects to {redact_url(location)}, which is not a URL: {exc}"
            raise BadInputError(Reason.UNREACHABLE, detail) from exc
        target = self._parse(joined)
        if target.scheme not in ("http", "https"):
            detail = f"{redact_url(str(url))} redirects to {target.scheme}:, which is neither http nor https"
            raise BadInputError(Reason.FORBIDDEN, detail)
        return target

    # --- s3: ---------------------------------------------------------------------------------------------------------

    def _read_s3(self, url: httpx.URL, deadline_s: float) -> bytes:
        """Reads an object with the credentials of this process's environment. Rejects it by its size before reading."""
        if not _BUCKET.fullmatch(url.host) or len(url.path) < 2:
            raise BadInputError(Reason.MALFORMED, f"{redact_url(str(url))} does not name a bucket and a key")
        path, name = url.host + url.path, redact_url(str(url))
        files, max_bytes = self._s3_files(), self._settings.max_bytes
        try:
            size = int(files.info(path, timeout=self._remaining_s(deadline_s, name))["size"])
            if size > max_bytes:
                raise self._too_large(size, name)
            if not size:
                return b""
            data = files.cat_file(path, start=0, end=max_bytes + 1, timeout=self._remaining_s(deadline_s, name))
            return self._join((data,), name)
        except (BadInputError, RetryableFetchError):
            raise
        except Exception as exc:
            raise _s3_failure(name, exc) from exc

    def _remaining_s(self, deadline_s: float, name: str) -> float:
        remaining = deadline_s - self._clock()
        if remaining <= 0:
            raise RetryableFetchError(f"{name} was not read in time")
        return remaining

    def _s3_files(self) -> Any:
        """Creates the file system on first use, since its import is slow. The operator's endpoint may be any host."""
        with self._s3_lock:
            if self._s3_file_system is None:
                from s3fs import S3FileSystem

                timeouts = {"connect_timeout": 5, "read_timeout": _IDLE_TIMEOUT_S, "retries": {"max_attempts": 0}}
                self._s3_file_system = S3FileSystem(
                    endpoint_url=self._settings.s3_endpoint,
                    config_kwargs=timeouts,
                    use_listings_cache=False,
                    skip_instance_cache=True,
                )
            return self._s3_file_system


def redact_url(uri: str) -> str:
    """Returns an address for messages: without user, password, query and fragment, at most 200 characters."""
    bare = re.sub(r"//[^/@\s]*@", "//", uri.partition("?")[0].partition("#")[0])
    return bare if len(bare) <= 200 else bare[:197] + "…"


# --- which failures are permanent ------------------------------------------------------------------------------------


def _file_failure(path: Path, exc: Exception) -> BadInputError | RetryableFetchError:
    if not isinstance(exc, OSError):
        return BadInputError(Reason.MALFORMED, f"{str(path)!r} is not a valid path: {exc}")
    if exc.errno in _PERMANENT_ERRNOS:
        return BadInputError(Reason.UNREACHABLE, f"{path} cannot be read: {exc.strerror}")
    return RetryableFetchError(f"reading {path}: {exc}")  # such as a network share that is unavailable


def _status_failure(status: int, headers: httpx.Headers, name: str) -> BadInputError | RetryableFetchError:
    """Treats 408, 425, 429 and 5xx as transient. Any other status, such as 403, 404 or 410, is permanent."""
    message = f"{name} returned HTTP status {status}"
    if status in _TRANSIENT_STATUSES or status >= 500:
        after = headers.get("retry-after", "")
        return RetryableFetchError(message, retry_after_s=float(after) if after.isdigit() else 0.0)
    return BadInputError(Reason.UNREACHABLE, message)


def _s3_failure(name: str, exc: Exception) -> BadInputError | RetryableFetchError:
    """Treats absent and forbidden objects as permanent, other errors as transient. s3fs turns them into OSErrors."""
    message = f"fetching {name}: {type(exc).__name__}: {exc}"
    if isinstance(exc, FileNotFoundError | PermissionError):
        return BadInputError(Reason.UNREACHABLE, message)
    return RetryableFetchError(message)
