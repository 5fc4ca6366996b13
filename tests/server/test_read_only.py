"""A server whose file system is read-only, but for its data: as the container runs it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

HEALTHCHECK = Path(__file__).resolve().parents[2] / "deploy" / "healthcheck.py"
SCRIPT = """
mount --make-rprivate / && mount --bind "$3" "$3" && mount -o remount,ro,bind / || exit 77
cd "$3" && mkdir tmp
export HOME="$3" TMPDIR="$3/tmp" VECTABLE_DB="$3/db" VECTABLE_CACHE_DIR="$3/cache"
if touch "$3/../x" 2>/dev/null; then exit 78; fi
"$1" -m vectable.cli serve --workers 2 --port 0 --json > said & server=$!
trap 'kill -KILL $server 2>/dev/null' EXIT
until grep -q '^}' said; do kill -0 $server || exit 79; sleep 0.1; done
export VECTABLE_PORT=$(sed -n 's/.*"url": "[^"]*:\\([0-9]*\\)".*/\\1/p' said)
for _ in $(seq 10); do "$1" "$2" && break; done
"$1" "$2" || exit 1
kill -TERM $server; wait $server
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_read_only_system_is_enough(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", SCRIPT, "sh", sys.executable, str(HEALTHCHECK), str(data)],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "VECTABLE_FAKE_EMBEDDINGS": "1"},
    )
    if done.returncode == 77 or "Operation not permitted" in done.stderr:
        pytest.skip("mounting is not permitted here")
    assert done.returncode == 0, done.stderr
    assert (data / "db" / "vectable.db").exists()


def test_the_health_check_asks_no_proxy() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Ready) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        port = str(server.server_address[1])
        environment = {
            **os.environ,
            "VECTABLE_PORT": port,
            "http_proxy": "http://127.0.0.1:9",
            "no_proxy": "",
            "NO_PROXY": "",
        }
        done = subprocess.run([sys.executable, HEALTHCHECK], capture_output=True, env=environment, timeout=60)
        server.shutdown()
    assert done.returncode == 0, done.stderr


class _Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health/ready" else 404)
        self.end_headers()


def test_the_health_check_fails_where_nobody_answers() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        environment = {**os.environ, "VECTABLE_PORT": str(probe.getsockname()[1])}
        done = subprocess.run([sys.executable, HEALTHCHECK], capture_output=True, env=environment, timeout=60)
    assert done.returncode == 1
