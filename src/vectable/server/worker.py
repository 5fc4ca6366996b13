"""One of a server's worker processes: `python -m vectable.server.worker`, started by `supervise` only.

It is handed the listening socket by its descriptor, its settings as JSON on standard input, and says `ready`
on standard output. When standard input ends, its parent is gone, and so does it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading

from vectable.config import Settings
from vectable.errors import VectableError
from vectable.server.logs import log_to_standard_error
from vectable.server.run import run_server, serve_listener
from vectable.server.tls import certificate_of

log = logging.getLogger("vectable.server")


def main() -> int:
    """Serves until told to stop; the exit code."""
    settings = Settings(**json.loads(sys.stdin.readline()))
    log_to_standard_error(settings)
    # Before the server listens to signals, and after: to be told to stop is no failure.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        with socket.socket(fileno=int(sys.argv[1])) as listener:
            certificate = certificate_of(settings.tls_cert, settings.tls_key)
            run_server(serve_listener(settings, listener, certificate, _say_ready))
    except KeyboardInterrupt:
        return 0
    except VectableError as error:
        log.error("a worker stopped: %s", error)
        return 1
    return 0


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def _follow_parent() -> None:
    # Not by sys.stdin: a thread that waits there for ever cannot be ended with the interpreter.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
