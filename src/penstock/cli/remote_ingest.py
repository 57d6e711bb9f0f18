"""Requests the status of an ingest plane of other pods or machines from the endpoints of its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import httpx
from pydantic import TypeAdapter, ValidationError

from penstock.config import mask_userinfo, metrics_authorization
from penstock.config.addresses import trusted
from penstock.errors import UnavailableError
from penstock.ingest.status import PlaneState, PlaneStatus

if TYPE_CHECKING:
    from penstock.cli.scrape import Scrape
    from penstock.config import Settings

_TIMEOUT_S = 5.0
_STALE_AFTER_S = 10.0  # the driver publishes its status each second


def remote_status(urls: Sequence[str], settings: Settings, group: str = "") -> PlaneStatus:
    """Returns the status of the ingest plane whose driver runs on one of these nodes.

    Its age is measured by the clock of the node.

    Args:
        urls: of the nodes' endpoints, such as `http://driver:8601`.
        settings: with the token that they need, if they need one.
        group: its consumer group; empty: whichever it is, where no more than one runs on a node.

    Raises:
        UnavailableError: none of them answers, or none has a driver that runs.
    """
    problems: list[str] = []
    for url in urls:
        try:
            response = httpx.get(
                f"{_base(url)}/status",
                params={"group": group} if group else None,
                headers=metrics_authorization(settings),
                timeout=_TIMEOUT_S,
                verify=trusted(settings.metrics.ca_file),
            )
            document = response.json()
            if response.status_code in (httpx.codes.NOT_FOUND, httpx.codes.BAD_REQUEST):
                problems.append(f"{mask_userinfo(url)}: {'; '.join(document['reasons'])}")
                continue
            response.raise_for_status()
            status, age_s = _STATUS.validate_python(document), float(document["updated_s_ago"])
        except ValidationError:
            problems.append(f"{mask_userinfo(url)}: the status is that of another version of Penstock")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as exc:
            problems.append(f"{mask_userinfo(url)}: {str(exc) or type(exc).__name__}")
        else:
            if age_s <= _STALE_AFTER_S and status.state is not PlaneState.STOPPED:
                return status
            problems.append(f"{mask_userinfo(url)}: the last one was {status.state} {age_s:.0f} s ago")
    raise UnavailableError(f"no ingest plane runs. {'; '.join(problems)}. See --at and metrics.urls")


def scrape_all(urls: Sequence[str], settings: Settings) -> Scrape:
    """Returns the samples of several nodes as of one, as they sum up.

    Raises:
        UnavailableError: one of them does not respond.
    """
    from penstock.cli.scrape import merged, scrape

    return merged(
        [scrape(f"{_base(url)}/metrics", metrics_authorization(settings), settings.metrics.ca_file) for url in urls]
    )


def _base(url: str) -> str:
    return url.rstrip("/").removesuffix("/metrics")


_STATUS = TypeAdapter(PlaneStatus)
