"""Reads the bytes behind a claim check, one attempt at a time, with one reader for each URL scheme.

A reader returns the bytes, or raises `BadInputError` where another attempt cannot help (FORBIDDEN, TOO_LARGE,
UNREACHABLE, MALFORMED), or `RetryableFetchError` where it may.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpcore
import httpx

from penstock.config import FetchSettings
from penstock.config.fetch import FetchRule
from penstock.errors import BadInputError, Reason, TransientError
from penstock.media.fetch_rules import WEB, FetchRules, parse_url, redact_url
from penstock.media.networks import NEVER, Network
from penstock.media.own_services import OwnServices
from penstock.media.resolvers import Resolver, system_resolver
from penstock.media.web_pools import WebPools

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
    """Reads claim checks that the rules allow, within the limits of the settings. Thread-safe. Reuses connections.

    Args:
        settings: rules and limits.
        resolver: host names → addresses.
        clock: monotonic seconds.
        ssl_context: the trusted certificates; None: the system's.
        own: Penstock's own services, to which no claim check may lead; None: there are none.
        never: networks that are refused whatever a rule allows.

    Raises:
        ConfigError: certificates of a rule cannot be read.
    """

    def __init__(
        self,
        settings: FetchSettings,
        *,
        resolver: Resolver = system_resolver,
        clock: Callable[[], float] = time.monotonic,
        ssl_context: ssl.SSLContext | None = None,
        own: OwnServices | None = None,
        never: Sequence[Network] = NEVER,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._rules = FetchRules(settings)
        self._pools = WebPools(settings, resolver=resolver, clock=clock, ssl_context=ssl_context, own=own, never=never)
        self._s3_lock = threading.Lock()
        self._s3_file_systems: dict[FetchRule, tuple[str, Any]] = {}  # each with its credentials

    def read(self, uri: str, *, tenant: str, deadline_s: float) -> bytes:
        """Makes one attempt to read a claim check.

        Args:
            uri: the address.
            tenant: of the event that names it.
            deadline_s: when to give up, by the clock.

        Raises:
            BadInputError: another attempt cannot help.
            RetryableFetchError: another attempt may help.
        """
        url = parse_url(uri)
        if url.scheme in WEB:
            return self._read_http(url, tenant, deadline_s)
        rule = self._rules.rule_of(url, tenant)
        if url.scheme == "file":
            return self._read_file(url, self._settings.folders_of(tenant), deadline_s)
        return self._read_s3(url, rule, deadline_s)

    def stored_uri(self, uri: str, tenant: str) -> str:
        """Returns an address as the index keeps it; see `FetchRules.stored_uri`."""
        return self._rules.stored_uri(uri, tenant)

    def shows(self, uri: str, tenant: str) -> bool:
        """Returns whether readers get an address; see `FetchRules.shows`."""
        return self._rules.shows(uri, tenant)

    def close(self) -> None:
        """Closes the connections."""
        self._pools.close()

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

    def _read_file(self, url: httpx.URL, folders: Sequence[Path], deadline_s: float) -> bytes:
        """Reads a regular file below one of the folders, after all symbolic links are followed.

        1. Resolve the path, and check that it is below a folder of the rules.
        2. Open it, without following a link at its end.
        3. Resolve it again, and check that the open file is the one at that path: this detects a link that was changed
           between 1 and 2.
        4. Reject it by its size before reading; then read it.
        """
        if url.host not in ("", "localhost"):
            raise BadInputError(Reason.FORBIDDEN, f"{redact_url(str(url))} names a file of another host, {url.host}")
        claimed, roots = Path(url.path), [folder.resolve() for folder in folders]
        if not claimed.is_absolute():
            raise BadInputError(Reason.MALFORMED, f"{redact_url(str(url))} is not an absolute path")
        try:
            path = _below_root(claimed, roots)  # 1
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)  # 2
            try:
                return self._read_open_file(descriptor, claimed, roots, deadline_s)  # 3 and 4
            finally:
                os.close(descriptor)
        except (OSError, ValueError, RuntimeError) as exc:
            raise _file_failure(claimed, exc) from exc

    def _read_open_file(self, descriptor: int, claimed: Path, roots: Sequence[Path], deadline_s: float) -> bytes:
        opened = os.fstat(descriptor)
        if not os.path.samestat(opened, _below_root(claimed, roots).stat()):  # 3
            raise BadInputError(Reason.FORBIDDEN, f"{claimed} changed while it was opened")
        if not stat.S_ISREG(opened.st_mode):
            raise BadInputError(Reason.FORBIDDEN, f"{claimed} is not a regular file")
        if opened.st_size > self._settings.max_bytes:  # 4
            raise self._too_large(opened.st_size, str(claimed))
        return self._join(self._chunks(descriptor, str(claimed), deadline_s), str(claimed))

    def _chunks(self, descriptor: int, name: str, deadline_s: float) -> Iterator[bytes]:
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            if self._clock() > deadline_s:
                raise RetryableFetchError(f"{name} was not read in time")
            yield chunk

    # --- http: and https: --------------------------------------------------------------------------------------------

    def _read_http(self, url: httpx.URL, tenant: str, deadline_s: float) -> bytes:
        """Reads a body and follows redirects. Each address is checked like the first, here and on connecting."""
        first = url
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                rule = self._rules.rule_of(url, tenant)
                pool = self._pools.of(rule)
                with pool.network.until(deadline_s):
                    pool.check(url)
                    response = self._get(url, pool.connections, credentials_of(rule))
                if isinstance(response, bytes):
                    return response
                url = response
        except httpcore.UnsupportedProtocol as exc:
            raise BadInputError(Reason.MALFORMED, f"{redact_url(str(url))} cannot be fetched: {exc}") from exc
        except httpcore.ProxyError as exc:  # such as a proxy that refuses the host
            raise BadInputError(Reason.UNREACHABLE, f"the proxy does not reach {redact_url(str(url))}: {exc}") from exc
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError) as exc:
            raise RetryableFetchError(f"fetching {redact_url(str(url))}: {type(exc).__name__}: {exc}") from exc
        detail = f"{redact_url(str(first))} redirects more than {_MAX_REDIRECTS} times"
        raise BadInputError(Reason.UNREACHABLE, detail)

    def _get(self, url: httpx.URL, pool: httpcore.ConnectionPool, authorization: str | None) -> bytes | httpx.URL:
        """Returns the body, or the address to which the server redirects."""
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        headers = [(b"Host", url.netloc), (b"Accept", b"*/*"), (b"Accept-Encoding", b"identity"),
                   (b"User-Agent", b"penstock")]  # fmt: skip
        if authorization is not None:
            headers.append((b"Authorization", authorization.encode()))
        timeouts = {"connect": None, "read": _IDLE_TIMEOUT_S, "write": _IDLE_TIMEOUT_S, "pool": _IDLE_TIMEOUT_S}
        with pool.stream("GET", target, headers=headers, extensions={"timeout": timeouts}) as response:
            answer = httpx.Headers(response.headers)
            name = redact_url(str(url))
            if response.status in _REDIRECT_STATUSES and "location" in answer:
                return _redirect_target(url, answer["location"])
            if response.status != 200:
                raise _status_failure(response.status, answer, name)
            announced = answer.get("content-length", "")
            if announced.isdigit() and int(announced) > self._settings.max_bytes:
                raise self._too_large(int(announced), name)
            return self._join(response.iter_stream(), name)

    # --- s3: ---------------------------------------------------------------------------------------------------------

    def _read_s3(self, url: httpx.URL, rule: FetchRule, deadline_s: float) -> bytes:
        """Reads an object with the credentials of its rule. Rejects it by its size before reading."""
        if not _BUCKET.fullmatch(url.host) or len(url.path) < 2:
            raise BadInputError(Reason.MALFORMED, f"{redact_url(str(url))} does not name a bucket and a key")
        path, name = url.host + url.path, redact_url(str(url))
        files, max_bytes = self._s3_files(rule), self._settings.max_bytes
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

    def _s3_files(self, rule: FetchRule) -> Any:
        """Creates a rule's file system on first use, since its import is slow. The operator's endpoint is any host.

        One with other credentials takes its place. Without credentials in the rule, those of this process's environment
        are used.
        """
        credentials = credentials_of(rule) or ""
        with self._s3_lock:
            used, files = self._s3_file_systems.get(rule, (None, None))
            if used != credentials:
                from s3fs import S3FileSystem

                key, _, secret = credentials.partition(":")
                timeouts = {"connect_timeout": 5, "read_timeout": _IDLE_TIMEOUT_S, "retries": {"max_attempts": 0}}
                files = S3FileSystem(
                    key=key or None,
                    secret=secret or None,
                    endpoint_url=rule.endpoint or self._settings.s3_endpoint,
                    config_kwargs=timeouts,
                    use_listings_cache=False,
                    skip_instance_cache=True,
                )
                self._s3_file_systems[rule] = credentials, files
            return files


def credentials_of(rule: FetchRule) -> str | None:
    """Returns the credentials of a rule, read again at each call; None if it has none.

    Raises:
        RetryableFetchError: they are not there.
    """
    value: str | None = None
    if rule.credentials_env is not None:
        place, value = f"the environment variable {rule.credentials_env}", os.environ.get(rule.credentials_env)
    elif rule.credentials_file is not None:
        place = str(rule.credentials_file)
        with contextlib.suppress(OSError, UnicodeDecodeError):
            value = rule.credentials_file.read_text(encoding="utf-8")
    else:
        return None
    if value is None or not value.strip():
        raise RetryableFetchError(f"the credentials of a rule of fetch.allow cannot be read from {place}")
    return value.strip()


def _below_root(claimed: Path, roots: Sequence[Path]) -> Path:
    path = claimed.resolve()
    if not any(path.is_relative_to(root) for root in roots):
        raise BadInputError(Reason.FORBIDDEN, f"{claimed} is outside of the folders that fetch.allow gives its tenant")
    return path


def _redirect_target(url: httpx.URL, location: str) -> httpx.URL:
    try:
        joined = str(url.join(location))
    except (httpx.InvalidURL, UnicodeError, ValueError) as exc:
        detail = f"{redact_url(str(url))} redirects to {redact_url(location)}, which is not a URL: {exc}"
        raise BadInputError(Reason.UNREACHABLE, detail) from exc
    target = parse_url(joined)
    if target.scheme not in WEB:
        detail = f"{redact_url(str(url))} redirects to {target.scheme}:, which is neither http nor https"
        raise BadInputError(Reason.FORBIDDEN, detail)
    return target


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
