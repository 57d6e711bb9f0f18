"""The process that parses one record of which lanes have died, within limits of memory and CPU time.

The request comes as a pickle on standard input: the function and the record; the result goes to standard output.
"""

from __future__ import annotations

import os
import pickle
import resource
import sys
from pathlib import Path

# Parsing takes at most four times the record and 32 MiB; the record itself and the result are there too.
_TIMES_INPUT = 8
_SPARE_BYTES = 256 * 1024 * 1024
_MAX_CPU_S = 60


def main() -> None:
    """Parses the record of standard input; ends with an error if that needs too much memory."""
    result = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what else is printed is no result
    request = sys.stdin.buffer.read()
    _bound(len(request))
    parse, record = pickle.loads(request)
    pickle.dump(parse(record), result, protocol=pickle.HIGHEST_PROTOCOL)
    result.close()


def _bound(input_bytes: int) -> None:
    """Limits the address space of this process to what it has and what a record of this size may take."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    used = pages * resource.getpagesize()
    limit = used + _TIMES_INPUT * input_bytes + _SPARE_BYTES
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (_MAX_CPU_S, _MAX_CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
