"""Runs every line of docs/produce.md as a user would, against a running Penstock and an S3 server."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

from penstock.broker.base import Message
from penstock.broker.deadletters import scan_dead_letters
from penstock.broker.topics import ensure_media_topics
from penstock.encoders.load import fingerprint
from penstock.encoders.profiles import JOINT_IMAGE, load_profile
from tests.e2e.stack import Stack
from tests.media.documents.made import lines as lines_of_text
from tests.media.documents.made import pdf
from tests.media.documents.test_books_and_mail import message
from tests.media.documents.test_office import word_document, workbook
from tests.serve.sample_index import png
from tests.services import s3_server

PAGE = (Path(__file__).parents[2] / "docs" / "produce.md").read_text(encoding="utf-8")
PROFILE = "null:8"
URL = "http://127.0.0.1:8600"

# What the lines of the page acknowledge, in their order; None: it is not a command that produces.
EXPECTED = {
    "penstock produce reports/ minutes.eml": 3,
    "penstock produce s3://bucket/photos": 2,
    "penstock produce s3://bucket/photos --claim-check --max-lag 500": 2,
    "penstock produce s3://bucket/papers --claim-check": 2,
    "penstock produce items.parquet": 3,
    "penstock produce articles.csv": 2,
    'penstock produce "s3://bucket/shards/*.tar"': 2,
    "penstock produce s3://bucket/events.jsonl": 1,
    "penstock produce kafka:old.media": 2,
    "penstock produce laion.parquet": 1,
    "python -c": None,
    'curl -H "Authorization': 1,
    "curl -F file=@heron.jpg": 2,
    "penstock produce --delete photos/2026/a.jpg": 1,
}
# The command is this tree's, and a minimal machine has no uuidgen.
PRELUDE = """
set -e
penstock() { python -m penstock.cli.main "$@"; }
uuidgen() { python -c "import uuid; print(uuid.uuid4())"; }
"""


def lines() -> list[str]:
    """Returns the commands of the page, each in one line and without its comment."""
    blocks = re.findall(r"(?:^    .*\n)+", PAGE, re.MULTILINE)
    commands = [
        re.sub(r"\s+# .*", "", line).strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()
    ]
    return [line for line in commands if line.split()[0] in ("penstock", "curl", "python")]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The bucket of the page, as the environment by which a client reaches it."""
    with s3_server() as environment:
        files = s3fs.S3FileSystem(
            key=environment["AWS_ACCESS_KEY_ID"],
            secret=environment["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=environment["AWS_ENDPOINT_URL_S3"],
        )
        files.mkdir("bucket")
        objects = {
            "photos/heron.jpg": png(1),
            "photos/2026/a.jpg": png(2),
            "papers/survey.pdf": pdf(lines_of_text("A survey in a bucket.")),
            "papers/notes/list.xlsx": workbook(),
            "heron.jpg": png(3),
            "events.jsonl": b'{"text": "An event in a bucket."}\n',
            "shards/0.tar": shard(),
        }
        files.pipe({f"bucket/{name}": data for name, data in objects.items()})
        yield environment


def shard() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in (("1.png", png(4)), ("1.txt", b"A heron"), ("2.png", png(5)), ("2.txt", b"A reed")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture(scope="module")
def stack(lake: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    rules = [{"tenants": ["*"], "scheme": "s3", "bucket": "bucket"}]
    environment = {
        **lake,
        "PENSTOCK_PROFILE": PROFILE,
        "PENSTOCK_QUERY__PORT": "0",
        "PENSTOCK_INGEST__MODALITIES": '["text", "image", "document"]',
        "PENSTOCK_FETCH__ALLOW": json.dumps(rules),
        "PENSTOCK_FETCH__S3_ENDPOINT": lake["AWS_ENDPOINT_URL_S3"],
    }
    stack = Stack(tmp_path_factory.mktemp("page") / "data", environment)
    try:
        stack.start()
        ensure_media_topics(stack.settings.kafka, ["old.media"])
        stack.produce([Message("old.media", b"o1", png(6)), Message("old.media", b"o2", png(7))])
        yield stack
    finally:
        stack.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the user, with the files that the page names."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "heron.jpg").write_bytes(png(8))
    (tmp_path / "heron.jpg").write_bytes(png(9))
    (tmp_path / "note.txt").write_text("The heron flew south.")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "survey.pdf").write_bytes(pdf(lines_of_text("Page one."), lines_of_text("Page two.")))
    (tmp_path / "reports" / "list.docx").write_bytes(word_document())
    (tmp_path / "minutes.eml").write_bytes(message().as_bytes())
    (tmp_path / "articles.csv").write_text("body,author\nThe ferry is late.,A\nThe tide is low.,B\n")
    items = {"sku": ["1", "2", "3"], "body": ["An anchor.", "A rope.", "A lamp."], "price": [1.5, 2.5, 3.5]}
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    vector = np.eye(1, 8, dtype=np.float32)[0].tolist()
    laion = {"url": ["s3://bucket/heron.jpg"], "caption": ["A heron"], "embedding": [vector]}
    pq.write_table(pa.table(laion), tmp_path / "laion.parquet")
    return tmp_path


def test_the_page_has_the_lines_that_are_run() -> None:
    assert [next(name for name in EXPECTED if line.startswith(name)) for line in lines()]
    assert len(lines()) == len(EXPECTED)


@pytest.mark.services
@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_every_line_of_the_page_works(stack: Stack, folder: Path) -> None:
    names = "/".join(astuple(fingerprint(JOINT_IMAGE, load_profile(PROFILE))))
    sent = 0
    for line in lines():
        expected = EXPECTED[max((name for name in EXPECTED if line.startswith(name)), key=len)]
        shown = run(stack, folder, line.replace("FINGERPRINT", names).replace(URL, str(stack.endpoints.query_url)))
        if expected is None:
            assert shown.count("/") >= 2, shown
            continue
        assert acknowledged(shown) == expected, f"{line}: {shown}"
        sent += expected
    sent += acknowledged(run(stack, folder, "penstock produce events.jsonl", jsonl=example_lines()))
    stack.settle()
    assert list(scan_dead_letters(stack.settings.kafka)) == []
    audit = stack.json("audit")
    assert audit["indexed"] + audit["deleted"] + audit["superseded"] == sent
    (item,) = stack.entries_of("1")
    assert item["attributes"] == {"price": 1.5}
    assert stack.entries_of("photos/heron.jpg", "media.image")
    for key in ("reports/survey.pdf", "survey-2026", "papers/survey.pdf", "papers/notes/list.xlsx"):
        assert stack.entries_of(key, "media.document"), key
    assert stack.entries_of("photos/2026/a.jpg", "media.image") == []


def example_lines() -> str:
    (block,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(block)


def run(stack: Stack, folder: Path, line: str, jsonl: str = "") -> str:
    """Returns what a line of a shell writes, which has to succeed."""
    (folder / "events.jsonl").write_text(jsonl)
    environment = {**stack.environment, "PENSTOCK_API_KEY": "", "CURL_HOME": os.fspath(folder)}
    (folder / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
    done = subprocess.run(
        ["bash", "-c", PRELUDE + line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def acknowledged(shown: str) -> int:
    """Returns the number of events that a command or a response reports."""
    if (line := re.search(r"^(\d+) events acknowledged", shown, re.MULTILINE)) is not None:
        return int(line[1])
    return shown.count('"offset"')
