"""Commands in processes of their own, forked off one that has imported torch already.

Runs in the environment of the outside package; reads lists of arguments as JSON from standard
input, and writes the exit status and the output of each.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile


def main() -> None:
    import skimage.metrics  # noqa: F401
    import torch  # noqa: F401

    done = []
    for arguments in json.load(sys.stdin):
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if not child:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                command(arguments)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read().decode("utf-8"))
        done.append([status, *texts])
    json.dump(done, sys.stdout)


def command(arguments: list[str]) -> None:
    from synthvlm.cli import main as synthvlm

    sys.argv = ["synthvlm", *arguments]
    status = 70
    try:
        synthvlm()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
