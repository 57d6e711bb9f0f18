"""Bodies over the limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from tests.serve.sample_index import PROBLEM


def test_a_body_over_the_limit_is_rejected_by_its_announced_or_real_length(
    call: Callable[..., httpx.Response],
) -> None:
    def unending() -> Any:
        async def chunks() -> Any:
            for _ in range(800):
                yield b" " * 10_000

        return chunks()

    json_header = {"content-type": "application/json"}
    announced = call("POST", "/v1/search", content=b" " * 8_000_000, headers=json_header)
    unannounced = call("POST", "/v1/search", content=unending(), headers=json_header)
    for answer in (announced, unannounced):
        assert (answer.status_code, answer.headers["content-type"]) == (413, PROBLEM)
