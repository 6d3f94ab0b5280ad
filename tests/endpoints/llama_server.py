"""llama.cpp's own server on loopback: ``python llama_server.py MODEL.gguf PORT`` until killed."""

from __future__ import annotations

import sys
import time


def main() -> None:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = sys.argv[1]
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = int(sys.argv[2])
    parameters.n_ctx = 4096
    parameters.n_parallel = 2
    # More threads than free cores spin and wait for each other, a thousand times slower.
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main()
