"""A JupyterLab for tests, started as a learner starts it: by `rnnkit lab`."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager


@contextmanager
def lab(folder, *extra, token=""):
    """Yield the address of a JupyterLab started by `rnnkit lab` in a folder; what the user has set up is left alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = ["--no-browser", f"--port={port}", f"--IdentityProvider.token={token}", "--ip=127.0.0.1", "--allow-root"]
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = os.environ | {place: str(folder / ".jupyter" / place.lower()) for place in places}
    with (folder / "log.txt").open("w") as log:
        command = [sys.executable, "-m", "rnnkit", "lab", *own, *extra]
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert server.poll() is None, (folder / "log.txt").read_text()
            try:
                get(f"{address}/api")
                break
            except OSError:
                time.sleep(0.25)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def get(address):
    """Return where a request ended up and what it got."""
    with urllib.request.urlopen(address, timeout=30) as reply:
        return reply.url, reply.read().decode()
