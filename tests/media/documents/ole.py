"""Makes OLE containers (MS-CFB) with empty streams of given names."""

from __future__ import annotations

import struct

_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def ole_container(*streams: str) -> bytes:
    """A container of 512-byte sectors: the table of sectors, then the directory."""
    entries = [_entry("Root Entry", 5, child=1)]
    for number, name in enumerate(streams, 1):
        entries.append(_entry(name, 2, right=number + 1 if number < len(streams) else _FREE))
    while len(entries) % 4:
        entries.append(bytes(128))
    sectors = len(entries) // 4
    chain = [_FAT, *(number + 2 if number + 1 < sectors else _END for number in range(sectors))]
    table = struct.pack("<128I", *chain, *([_FREE] * (128 - len(chain))))
    header = struct.pack(
        "<8s16sHHHHH6x9I109I",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", bytes(16), 0x3E, 3, 0xFFFE, 9, 6, 0, 1, 1, 0, 4096, _END, 0, _END, 0, 0,
        *([_FREE] * 108),
    )  # fmt: skip
    return header + table + b"".join(entries)


def _entry(name: str, kind: int, *, right: int = _FREE, child: int = _FREE) -> bytes:
    encoded = (name + "\0").encode("utf-16-le")
    places = struct.pack("<III", _FREE, right, child)
    return (
        encoded.ljust(64, b"\0")
        + struct.pack("<HBB", len(encoded), kind, 1)
        + places
        + bytes(36)
        + struct.pack("<IQ", _END, 0)
    )
