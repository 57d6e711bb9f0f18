"""The process that parses one record of which lanes have died, within limits of memory and CPU time.

The request comes as a pickle on standard input: the function and the record; the result goes to standard output.
"""

from __future__ import annotations

import os
import pickle
import sys

from penstock.processes import bound_this_process

# Parsing takes at most four times the record and 32 MiB; the record itself and the result are there too.
_TIMES_INPUT = 8
_SPARE_BYTES = 256 * 1024 * 1024
_MAX_CPU_S = 60


def main() -> None:
    """Parses the record of standard input; ends with an error if that needs too much memory."""
    result = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what else is printed is no result
    request = sys.stdin.buffer.read()
    bound_this_process(memory_bytes=_TIMES_INPUT * len(request) + _SPARE_BYTES, cpu_s=_MAX_CPU_S)
    parse, record = pickle.loads(request)
    pickle.dump(parse(record), result, protocol=pickle.HIGHEST_PROTOCOL)
    result.close()


if __name__ == "__main__":
    main()
