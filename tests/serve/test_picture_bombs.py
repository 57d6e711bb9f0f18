"""Small images that unpack to much more, through HTTP and Ray Serve."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from penstock.config import Settings
from penstock.serve import deployment
from tests.serve.test_deployment import settings  # noqa: F401  # a fixture

pytestmark = [pytest.mark.services, pytest.mark.exhaustive, pytest.mark.timeout(900)]

_MAX_GROWTH_BYTES = 512 * 2**20
_MAX_CPU_S = 2.0
_IDLE_CPU_S = 0.5  # that the other threads of a replica take besides


def picture(width: int, height: int, *, bits: int, chunk_rows: int = 64) -> bytes:
    """Returns a black PNG in shades of grey, with this number of bits a pixel."""
    row = bytes(1 + (width * bits + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row * min(chunk_rows, height - at)) for at in range(0, height, chunk_rows))
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", packed + packer.flush()), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big") for name, data in parts
    )


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:  # noqa: F811
    yield deployment.deploy(settings)
    deployment.shutdown()


def replica() -> psutil.Process:
    (process,) = (
        process
        for process in psutil.process_iter(["cmdline"])
        if "ServeReplica:penstock" in " ".join(process.info["cmdline"] or [])
    )
    return process


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def cpu_s(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:4])  # with those of children that have ended


def test_a_picture_costs_a_bounded_amount_of_memory_and_time(url: str) -> None:
    pictures = [
        (picture(13_377, 13_377, bits=16), 413),  # 179 million pixels
        (picture(13_377, 13_377, bits=1), 413),
        (picture(5_000, 5_000, bits=16), 200),
        (picture(5_000, 5_000, bits=1), 200),
    ]
    process = replica()
    with httpx.Client(base_url=url, timeout=120) as client:
        small = base64.b64encode(picture(64, 64, bits=8)).decode()
        assert client.post("/v1/search", json={"image": small}).status_code == 200
        for data, status in pictures:
            peak, spent_s = peak_bytes(process.pid), cpu_s(process)
            answer = client.post("/v1/search", json={"image": base64.b64encode(data).decode()})
            assert answer.status_code == status, answer.text
            assert peak_bytes(process.pid) - peak < _MAX_GROWTH_BYTES
            assert cpu_s(process) - spent_s < _MAX_CPU_S + _IDLE_CPU_S
