from __future__ import annotations

import hashlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from tests.encoders.conftest import Run

LOAD_SMALL = (
    "from penstock.encoders.load import load_encoder\n"
    "from penstock.encoders.profiles import load_profile\n"
    "from penstock.errors import PenstockError\n"
    "try:\n"
    "    load_encoder('joint.image', load_profile('small'))\n"
    "except PenstockError as exc:\n"
    "    print(type(exc).__name__, exc)\n"
)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class FakeHub(http.server.ThreadingHTTPServer):
    """Answers as the hub does about one repository: the requests that a download takes. Keeps the names it served."""

    repo = "timm/ViT-B-32-SigLIP2-256"
    commit = "1" * 40

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), FakeHubHandler)
        self.files = files
        self.asked: list[str] = []
        self.served: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def about(self, path: str) -> object | None:
        """The JSON for a path of the API; None for a repository that is not there."""
        if not self.files or not path.startswith(f"/api/models/{self.repo}"):
            return None
        if "/tree/" in path:
            return [{"type": "file", "path": name, "size": len(data), "oid": ""} for name, data in self.files.items()]
        return {"id": self.repo, "sha": self.commit, "siblings": [{"rfilename": name} for name in self.files]}


class FakeHubHandler(http.server.BaseHTTPRequestHandler):
    server: FakeHub

    def do_GET(self) -> None:
        body = self.do_HEAD()
        self.wfile.write(body)
        self.server.served += [name for name, data in self.server.files.items() if data == body]

    def do_HEAD(self) -> bytes:
        path = self.path.split("?")[0]
        self.server.asked.append(path)
        data = self.server.files.get(path.removeprefix(f"/{FakeHub.repo}/resolve/{FakeHub.commit}/"))
        answer = self.server.about(path)
        if data is None and answer is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            data = b""
        elif data is None:
            self.send_response(200)
            data = json.dumps(answer).encode()
        else:
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", FakeHub.commit)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return data

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running(server: FakeHub) -> Iterator[FakeHub]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def assert_one_clear_line(output: str, kind: str) -> None:
    assert output.count("\n") == 1
    assert output.startswith(kind)
    for part in ("ViT-B-32", "timm/ViT-B-32-SigLIP2-256", "--profile reference"):
        assert part in output


def test_a_hub_that_never_answers_is_one_clear_line_in_time(run_python: Run, silent_port: int, tmp_path: Path) -> None:
    started = time.monotonic()
    result = run_python(LOAD_SMALL, HF_HOME=str(tmp_path), HF_ENDPOINT=f"http://127.0.0.1:{silent_port}")
    assert time.monotonic() - started < 15
    assert_one_clear_line(result.stdout, "UnavailableError")
    assert "HF_HOME" in result.stdout
    assert "Traceback" not in result.stderr


def test_a_hub_that_refuses_connections_is_one_clear_line(run_python: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = run_python(LOAD_SMALL, HF_HOME=str(tmp_path), HF_ENDPOINT=f"http://127.0.0.1:{port}")
    assert_one_clear_line(result.stdout, "UnavailableError")


def test_a_hub_that_is_switched_off_is_one_clear_line(run_python: Run, tmp_path: Path) -> None:
    result = run_python(LOAD_SMALL, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert_one_clear_line(result.stdout, "ConfigError")
    assert "HF_HUB_OFFLINE" in result.stdout


def test_a_hub_without_the_model_is_one_clear_line(run_python: Run, tmp_path: Path) -> None:
    with running(FakeHub({})) as server:
        result = run_python(LOAD_SMALL, HF_HOME=str(tmp_path), HF_ENDPOINT=server.url)
    assert_one_clear_line(result.stdout, "ConfigError")


def test_only_the_preferred_weights_are_fetched_and_only_once(run_python: Run, tmp_path: Path) -> None:
    code = (
        "from penstock.encoders.load import fingerprint\n"
        "from penstock.encoders.profiles import load_profile\n"
        "print(fingerprint('joint.image', load_profile('small')).weights)\n"
    )
    tokenizer = {"tokenizer.json": b"{}", "tokenizer_config.json": b"{}"}
    files = {"open_clip_pytorch_model.bin": b"pickled", "open_clip_model.safetensors": b"safe", "README.md": b"text"}
    with running(FakeHub(files | tokenizer)) as server:
        first = run_python(code, HF_HOME=str(tmp_path), HF_ENDPOINT=server.url)
        assert first.stdout.strip() == hashlib.sha256(b"safe").hexdigest()[:16], first.stderr
        assert sorted(server.served) == ["open_clip_model.safetensors", *tokenizer]
        server.asked.clear()
        second = run_python(code, HF_HOME=str(tmp_path), HF_ENDPOINT=server.url)
        assert second.stdout == first.stdout
        assert server.asked == []
    offline = run_python(code, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert offline.stdout == first.stdout


def test_weights_that_were_fetched_before_are_found_without_a_hub(run_python: Run, tmp_path: Path) -> None:
    code = (
        "from penstock.encoders.fetch import fetch_weights\n"
        "from penstock.encoders.profiles import load_profile\n"
        "from dataclasses import replace\n"
        "profile = load_profile('small')\n"
        "print(*{file.size_bytes for file in fetch_weights(replace(load_profile('null:8'), joint=profile.joint))})\n"
    )
    files = {"open_clip_model.safetensors": b"safe", "tokenizer.json": b"{}", "tokenizer_config.json": b"{}"}
    with running(FakeHub(files)) as server:
        first = run_python(code, HF_HOME=str(tmp_path), HF_ENDPOINT=server.url)
    assert first.stdout.split() == ["4"], first.stderr
    assert sorted(server.served) == sorted(files)
    offline = run_python(code, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert offline.stdout == first.stdout


TOKENIZE = """
from penstock.encoders.clip import open_tokenizer
from penstock.encoders.profiles import load_profile
print(open_tokenizer(load_profile('small').joint)(['Red tea!', 'tea tea']).tolist())
"""


def test_a_tokenizer_beside_the_weights_needs_no_hub(run_python: Run, tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "models--timm--ViT-B-32-SigLIP2-256"
    snapshot = folder / "snapshots" / FakeHub.commit
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(FakeHub.commit)
    (snapshot / "open_clip_model.safetensors").write_bytes(b"not read here")
    tokenizer = Tokenizer(WordLevel({"<pad>": 0, "<unk>": 1, "red": 2, "tea": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(snapshot / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "unk_token": "<unk>"}
    (snapshot / "tokenizer_config.json").write_text(json.dumps(config))
    result = run_python(TOKENIZE, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert result.stdout, result.stderr
    rows = json.loads(result.stdout.splitlines()[-1])
    # lower case without punctuation, as SigLIP 2 was trained, padded to the 64 tokens of its text tower
    assert rows == [[2, 3, *[0] * 62], [3, 3, *[0] * 62]], result.stderr


PINNED = """
import sys
from penstock.encoders.weights import HubWeights, locate
from penstock.errors import PenstockError
weights = ('open_clip_model.safetensors',)
source = HubWeights('timm/ViT-B-32-SigLIP2-256', weights, revision='1' * 40, sha256=sys.argv[1])
try:
    print('located', locate(source, 'clip').weights.name)
except PenstockError as exc:
    print(type(exc).__name__, exc)
"""


def test_weights_of_another_hash_than_the_profiles_are_refused_also_from_the_cache(
    run_python: Run, tmp_path: Path
) -> None:
    right, other = (hashlib.sha256(data).hexdigest() for data in (b"safe", b"other"))
    with running(FakeHub({"open_clip_model.safetensors": b"safe"})) as server:
        located = run_python(PINNED.replace("sys.argv[1]", repr(right)), HF_HOME=str(tmp_path), HF_ENDPOINT=server.url)
    assert located.stdout.strip() == "located open_clip_model.safetensors", located.stderr
    refused = run_python(PINNED.replace("sys.argv[1]", repr(other)), HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert refused.stdout.startswith("ConfigError clip: ")
    assert f"has the SHA-256 {right}, not {other}" in refused.stdout
    # The name of a file in the cache is the hash that the server reported: the content decides.
    (blob,) = (file for file in tmp_path.rglob("blobs/*") if file.is_file())
    blob.write_bytes(b"else")
    changed = run_python(PINNED.replace("sys.argv[1]", repr(right)), HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert changed.stdout.startswith("ConfigError")


def test_a_repository_of_pickles_alone_is_refused(run_python: Run, tmp_path: Path) -> None:
    files = {"open_clip_pytorch_model.bin": b"pickled", "tokenizer.json": b"{}", "tokenizer_config.json": b"{}"}
    with running(FakeHub(files)) as server:
        result = run_python(LOAD_SMALL, HF_HOME=str(tmp_path), HF_ENDPOINT=server.url)
    assert result.stdout.startswith("ConfigError")
    assert "open_clip_model.safetensors" in result.stdout
    assert "open_clip_pytorch_model.bin" not in server.served
