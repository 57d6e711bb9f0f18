"""Compiles what the processes of a first start import, on two cores, so that none of them compiles while it loads.

Compiling every module of every package takes three times as long, and most are never imported.
"""

from __future__ import annotations

import subprocess
import sys

# Each group loads in a process of its own. The first imports of both hardly overlap, so no module is compiled twice.
_GROUPS = (
    ("torch", "transformers", "sentence_transformers", "open_clip", "faster_whisper", "penstock.encoders.load"),
    (
        "ray.serve",
        "pymilvus",
        "milvus_lite",
        "onnxruntime",
        "penstock.embedded.supervisor",
        "penstock.ingest.plane",
        "penstock.cli.main",
        "penstock.cli.demo.run",
        "penstock.serve.app",
    ),
)


def main() -> None:
    """Imports each group in a process of its own, which compiles it; fails where one does not load."""
    loading = [subprocess.Popen([sys.executable, "-c", f"import {', '.join(modules)}"]) for modules in _GROUPS]
    sys.exit(max(process.wait() for process in loading))


if __name__ == "__main__":
    main()
