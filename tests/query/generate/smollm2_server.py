"""Serves SmolLM2 by llama.cpp on a free port of this machine until its standard input ends; prints the address.

python -m tests.query.generate.smollm2_server MODEL.gguf
"""

from __future__ import annotations

import sys

import xllamacpp

from tests.query.generate.smollm2 import CONTEXT_TOKENS

# Two threads of llama.cpp wait for each other actively: on busy cores they take three times the processor time of one.
THREADS = 1


def main() -> None:
    """Runs the server."""
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.model_alias = ["smollm2"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = 1
    params.n_ctx = CONTEXT_TOKENS
    params.cpuparams.n_threads = THREADS
    params.cpuparams_batch.n_threads = THREADS
    params.verbosity = 0
    params.warmup = False
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
