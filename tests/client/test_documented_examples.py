"""The examples of docs/clients.md run as they are written, and so does the client in Java."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from penstock.client import PenstockClient
from penstock.records import Entry
from tests.client.scripted_server import ScriptedServer, events, problem
from tests.serve.sample_index import IMAGES

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "clients.md").read_text(encoding="utf-8")
URL = "http://127.0.0.1:8600"
# A response of status 400 and more fails, and nothing runs for long.
CURLRC = "silent\nshow-error\nfail-with-body\n"
STREAM_ENDS = 28  # curl's exit code after --max-time


def examples(language: str) -> list[str]:
    """Returns the examples in a language: lines of a shell one by one, programs whole."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()] if language == "sh" else blocks


@pytest.fixture
def environment(url: str, film: Entry, tmp_path: Path) -> dict[str, str]:
    """The variables and files that the lines name, in the folder in which they run."""
    (tmp_path / ".curlrc").write_text(CURLRC)
    (tmp_path / "heron.png").write_bytes(IMAGES["noon"])
    with PenstockClient(url) as penstock:
        image = penstock.search(image=IMAGES["noon"], modalities=["image"])["hits"][0]
    media = f"/v1/media/{film.uri.removeprefix('asset:')}"
    return {**os.environ, "CURL_HOME": str(tmp_path), "PENSTOCK": url, "ID": image["id"], "MEDIA": media}


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_lines_of_a_shell_work(environment: dict[str, str], tmp_path: Path) -> None:
    lines = examples("sh")
    assert len(lines) == 14
    output = {}
    for line in lines:
        run = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode in ((STREAM_ENDS,) if "--max-time" in line else (0,)), f"{line}: {run.stdout}{run.stderr}"
        output[line] = run.stdout
    search, image, *_ = lines
    assert '"key":"cat"' in output[search]
    assert '"key":"noon"' in output[image]
    stream = next(line for line in lines if '"stream"' in line)
    assert re.findall(r"^event: (\w+)", output[stream], re.MULTILINE)[-1] == "done"
    assert "a wolf howls" in output[next(line for line in lines if "captions" in line)]
    assert "event: feed" in output[next(line for line in lines if "live" in line)]
    assert (tmp_path / "thumbnail.jpg").read_bytes().startswith(b"\xff\xd8")
    assert (tmp_path / "video.mp4").read_bytes()[:100] == (tmp_path / "beginning.mp4").read_bytes()


@pytest.mark.parametrize("program", examples("python"), ids=lambda program: program.split("\n")[0])
def test_programs_in_python_work(program: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for line in program.splitlines():
        if line.startswith("from "):
            pytest.importorskip(line.split()[1].split(".")[0])
    assert URL in program
    exec(compile(program.replace(URL, url), "docs/clients.md", "exec"), {"__name__": "example"})
    assert re.search("cat|dog|search", capsys.readouterr().out)


@pytest.fixture(scope="session")
def java(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Returns the command of the compiled client. The embedded Java has no compiler: a JDK has to be installed."""
    compiler, runtime = shutil.which("javac"), shutil.which("java")
    if compiler is None or runtime is None:
        pytest.skip("there is no JDK (javac)")
    folder = tmp_path_factory.mktemp("java")
    source = DOCS / "examples" / "java" / "PenstockSearch.java"
    subprocess.run([compiler, "-Xlint:all", "-Werror", "--release", "17", "-d", folder, source], check=True)
    options = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # it runs for a moment
    return [runtime, *options, "-cp", str(folder), "PenstockSearch"]


def run_java(java: list[str], *arguments: str) -> tuple[int, str]:
    command = [java[0], "-Dstdout.encoding=UTF-8", "-Dstderr.encoding=UTF-8", *java[1:], *arguments]
    run = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False)
    return run.returncode, run.stdout + run.stderr


def test_the_client_in_java_searches(java: list[str], url: str) -> None:
    code, shown = run_java(java, "--url", url, "--tenant", "acme", "search", "a dog in the fog")
    assert (code, shown) == (0, "1. dog [text] a dog in the fog\n")


def test_the_client_in_java_shows_sentences_as_they_are_checked(java: list[str], server: ScriptedServer) -> None:
    sentences = [
        {"text": 'Zwölf 🦩 "Reiher" nisten\u2028hier.', "citations": [1, 2], "dropped": False},
        {"text": "Erfunden.", "citations": [], "dropped": True},
    ]
    sources = [{"n": 1, "hit": {"title": "Die Au"}}, {"n": 2, "hit": {"title": "Der \\ See", "score": -1.5e-3}}]
    done = {"answer": "", "abstained": False, "sources": sources, "usage": {"prompt_tokens": None}, "empty": [{}, []]}
    server.answers(
        problem(429, "busy", Retry_After="0"),
        events(("search", {"sources": []}), *[("sentence", sentence) for sentence in sentences], ("done", done)),
    )
    code, shown = run_java(java, "--url", server.url, "ask", 'Wo nisten "Reiher" 🦩?')
    assert (code, shown) == (0, 'Zwölf 🦩 "Reiher" nisten\u2028hier. [1, 2]\n  [1] Die Au\n  [2] Der \\ See\n')
    assert server.received[1].json == {"question": 'Wo nisten "Reiher" 🦩?', "stream": True}


def test_the_client_in_java_reports_refusals_and_outages(java: list[str], server: ScriptedServer) -> None:
    server.answers(problem(400, "text is empty"), problem(503, "the store is down", Retry_After="60"))
    assert run_java(java, "--url", server.url, "search", "") == (2, "text is empty\n")
    code, shown = run_java(java, "--url", server.url, "search", "x")
    assert code == 3
    assert "the store is down" in shown
