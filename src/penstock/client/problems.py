"""Turns responses that are not successful into errors of the tree of `penstock.errors`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from penstock.errors import OverloadedError, PenstockError, QueryError, UnavailableError

_RETRY_AFTER_S = 1.0  # of a response that does not say


def json_of(response: httpx.Response) -> object:
    """Returns the JSON of a successful response. Raises PenstockError if it is something else."""
    try:
        return response.json()
    except ValueError as exc:
        raise PenstockError(
            f"{response.request.url} responded with status {response.status_code} and no JSON: is it a query plane?"
        ) from exc


def error_of(response: httpx.Response) -> PenstockError:
    """Returns the error that a problem document (RFC 9457) describes. The response has been read."""
    try:
        document = response.json()
        document["detail"]
    except (ValueError, KeyError, TypeError):
        document = {"detail": f"{response.request.url} responded with status {response.status_code}"}
    return error_of_problem({**document, "status": response.status_code}, retry_after_s(response.headers))


def error_of_problem(document: Mapping[str, object], wait_s: float | None = None) -> PenstockError:
    """Returns the error of a problem document.

    Args:
        document: with `status` and `detail`.
        wait_s: of the header `Retry-After`; None: there was none.
    """
    status, detail = document.get("status"), str(document.get("detail", "no details"))
    if status == 429:
        return OverloadedError(detail, retry_after_s=_RETRY_AFTER_S if wait_s is None else wait_s)
    if status == 503:
        return UnavailableError(detail)
    if isinstance(status, int) and 400 <= status < 500:
        field = document.get("field")
        return QueryError(detail, status=status, field=None if field is None else str(field))
    return PenstockError(f"the query plane failed: {detail}")


def retry_after_s(headers: httpx.Headers) -> float | None:
    """Returns the seconds of the header `Retry-After`, which may be a date; None without a readable one."""
    value = headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
