"""Files that FFmpeg may open, and files that it must not."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from penstock.errors import BadInputError, Reason
from penstock.media.av.container import MediaFile
from penstock.media.sniff import sniff
from penstock.records import Modality
from tests.media.media_files import beeps, write_audio


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 10_000, np.random.default_rng(0).bytes(50_000), b"plain words " * 100], ids=len
)
def test_a_file_that_is_no_container_is_corrupt(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with pytest.raises(BadInputError) as caught:
        MediaFile(path)
    assert caught.value.reason is Reason.CORRUPT


# A session description: audio that comes over the network (RFC 8866).
SESSION_DESCRIPTION = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 49170 RTP/AVP 0\n"


@pytest.mark.parametrize(
    "looks_like",
    [
        b"caff\0\1\0\0\n",
        b"ID3\3\0\0\0\0\0\0\n",
        b"wvpk\0\0\0\0\x04\x04\n",
        b"FLV\1\n",
        b"\xff\xf1P\x80\n",
        b"OggS\0\n",
    ],
)
def test_a_session_description_is_corrupt_and_no_connection_is_opened(looks_like: bytes) -> None:
    data = looks_like + SESSION_DESCRIPTION
    assert sniff(data, declared=None).modality in (Modality.AUDIO, Modality.VIDEO)
    start_s = time.monotonic()
    with pytest.raises(BadInputError) as caught:
        MediaFile(data)
    assert caught.value.reason is Reason.CORRUPT
    assert time.monotonic() - start_s < 2  # FFmpeg would wait for packets for 10 s


@pytest.mark.parametrize(
    "data", [b"ffconcat version 1.0\nfile a.wav\n", b"#EXTM3U\n#EXTINF:10,\na.wav\n#EXT-X-ENDLIST\n"], ids=len
)
def test_a_playlist_is_corrupt_and_its_files_are_not_read(data: bytes, tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", beeps(1))
    path = tmp_path / "list.wav"
    path.write_bytes(data)
    with pytest.raises(BadInputError, match="cannot be opened"):
        MediaFile(path)


def test_an_mp4_without_its_table_of_contents_is_corrupt(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.mp4", beeps(5))
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(BadInputError, match="cannot be opened") as caught:
        MediaFile(path)
    assert caught.value.reason is Reason.CORRUPT
