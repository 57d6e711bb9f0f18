"""The client starts fast, as it is used in programs that have nothing to do with models."""

from __future__ import annotations

import subprocess
import sys

_HEAVY = ("torch", "ray", "pymilvus", "numpy", "pydantic", "fastapi", "kafka", "grpc", "PIL", "penstock.records")
_PROGRAM = """
import sys, time
import httpx
start_s = time.process_time()
import penstock.client
print(time.process_time() - start_s)
print(*sys.modules)
"""


def test_importing_the_client_loads_nothing_heavy_and_takes_little_time() -> None:
    run = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    seconds, modules = run.stdout.splitlines()
    assert not set(modules.split()) & set(_HEAVY)
    assert float(seconds) < 0.3  # 0.02 s on two cores, beside httpx's 0.15 s
