"""Where weights are found, in which order, and what is refused.

The hub itself cannot exist here: `Hub` answers the requests that its client makes, over HTTP on this machine.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from pagelens import ExitCode, UsageError, weights
from pagelens.weights import MODELS, Weights, fetch, find

FILES = {"config.json": b'{"hidden_size": 8}', "model.safetensors": b"tiny weights"}
TINY = Weights(
    name="tiny",
    repository="somebody/tiny",
    revision="0" * 40,
    licence="MIT",
    size=sum(map(len, FILES.values())),
    files={name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()},
    package=("tiny-weights", "tiny_weights/model"),
)


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that knows the model `tiny` and has it nowhere."""
    monkeypatch.setattr(weights, "MODELS", {"tiny": TINY})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("PAGELENS_MODELS", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "models").mkdir()
    return tmp_path


def put(folder: Path, **changed: bytes) -> Path:
    """The model's files, some with other bytes."""
    folder.mkdir(parents=True)
    for name, data in FILES.items():
        (folder / name).write_bytes(changed.get(name.split(".")[0], data))
    return folder


def in_models(machine: Path, **changed: bytes) -> Path:
    return put(machine / "models" / "tiny", **changed)


def in_cache(machine: Path, **changed: bytes) -> Path:
    return put(machine / "hub" / "models--somebody--tiny" / "snapshots" / TINY.revision, **changed)


def in_package(machine: Path, **changed: bytes) -> Path:
    """Installed as pip leaves it; whoever imports it is stopped."""
    info = machine / "site" / "tiny_weights-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
    folder = put(machine / "site" / "tiny_weights" / "model", **changed)
    (folder.parent / "__init__.py").write_text("raise SystemExit('imported')")
    return folder


def test_places_come_in_order(machine: Path) -> None:
    models = machine / "models"
    assert (find("tiny", models).folder, find("tiny", models).origin) == (None, "not on this machine")
    for put_there, origin in (
        (in_package, "installed package"),
        (in_cache, "Hugging Face"),
        (in_models, "folder"),
    ):
        folder = put_there(machine)
        found = find("tiny", models)
        assert (found.folder, found.refused) == (folder, ())
        assert found.origin.startswith(origin)
    assert "tiny_weights" not in sys.modules


def test_models_from_the_environment(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = in_models(machine)
    assert find("tiny").folder is None
    monkeypatch.setenv("PAGELENS_MODELS", str(machine / "models"))
    assert find("tiny").folder == folder
    monkeypatch.setenv("PAGELENS_MODELS", str(machine / "nowhere"))
    with pytest.raises(UsageError, match="nowhere"):
        find("tiny")


@pytest.mark.parametrize("name", FILES)
def test_another_file_is_refused_and_said(name: str, machine: Path, caplog: pytest.LogCaptureFixture) -> None:
    in_models(machine, **{name.split(".")[0]: b"something else"})
    sound = in_cache(machine)
    found = find("tiny", machine / "models")
    assert found.folder == sound
    [refused] = found.refused
    assert name in refused and "SHA-256" in refused and str(machine / "models") in refused
    with caplog.at_level(logging.WARNING):
        assert fetch("tiny", machine / "models") == sound
    assert refused in caplog.text


def test_a_file_that_lacks_is_refused(machine: Path) -> None:
    (in_models(machine) / "config.json").unlink()
    assert "config.json is missing" in find("tiny", machine / "models").refused[0]


def test_what_is_pinned() -> None:
    """Of every model of pagelens: a commit, a licence, full hashes."""
    for name, each in MODELS.items():
        assert each.name == name and each.licence and each.size > 0
        assert len(each.revision) == 40 if each.repository else each.package and all(each.files.values())
        assert all(digest is None or len(digest) == 64 for digest in each.files.values())
    light = MODELS["all-minilm-l6-v2"]
    assert str(light.files["model.safetensors"]).startswith("53aa51172d142c89d9012cce15ae4d6c")
    assert light.terms == "91 MB, Apache-2.0"


class Hub(BaseHTTPRequestHandler):
    """As much of huggingface.co as a download of one small repository asks for."""

    files = FILES
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        head = f"/somebody/tiny/resolve/{TINY.revision}/"
        data, name = None, path.removeprefix(head)
        if path.startswith("/api/models/somebody/tiny/tree/"):
            about = {"type": "file", "oid": "1" * 40}
            data = json.dumps([{**about, "path": n, "size": len(d)} for n, d in self.files.items()]).encode()
        elif path.startswith("/api/models/somebody/tiny/revision/"):
            siblings = [{"rfilename": each} for each in self.files]
            data = json.dumps({"id": "somebody/tiny", "sha": TINY.revision, "siblings": siblings}).encode()
        elif path.startswith(head) and name in self.files:
            data = self.files[name]
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.send_header("Content-Type", "application/json" if path.startswith("/api") else "text/plain")
        self.send_header("ETag", f'"{hashlib.sha1(data or b"").hexdigest()}"')
        self.send_header("X-Repo-Commit", TINY.revision)
        self.end_headers()
        if body and data is not None:
            self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class DamagedHub(Hub):
    """Its weights are not those that were pinned."""

    files = {**FILES, "model.safetensors": b"other weight"}


@pytest.fixture
def hub(request: pytest.FixtureRequest) -> Iterator[str]:
    """Its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), request.param)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


FETCH = f"""
import sys
from pagelens import errors, weights
weights.MODELS = {{"tiny": weights.{TINY!r}}}
try:
    print(weights.fetch("tiny"))
except errors.PagelensError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def fetch_from(endpoint: str, machine: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`fetch` in a process of its own: the hub's client reads its address when it is imported."""
    variables = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(machine / "home"), **environment}
    return subprocess.run(
        [sys.executable, "-c", FETCH], env=variables, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("hub", [Hub], indirect=True)
def test_download_says_licence_and_size_first_and_happens_once(hub: str, machine: Path) -> None:
    done = fetch_from(hub, machine)
    assert done.returncode == ExitCode.DONE, done.stderr
    folder = Path(done.stdout.strip())
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == FILES
    first = done.stderr.splitlines()[0]
    assert "somebody/tiny" in first and "MIT" in first and "MB" in first
    again = fetch_from("http://127.0.0.1:9", machine)  # nobody answers there, and nobody need
    assert (again.returncode, again.stdout, again.stderr) == (ExitCode.DONE, done.stdout, "")


@pytest.mark.parametrize("hub", [DamagedHub], indirect=True)
def test_a_damaged_download_is_refused(hub: str, machine: Path) -> None:
    done = fetch_from(hub, machine)
    assert done.returncode == ExitCode.MISSING
    assert "damaged" in done.stderr and "model.safetensors has SHA-256" in done.stderr
    cache = machine / "home" / "hub" / "models--somebody--tiny"
    assert f"remove {cache} " in done.stderr and cache.is_dir()


@pytest.mark.parametrize("hub", [Hub], indirect=True)
def test_a_repository_that_is_gone(hub: str, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "files", {})
    done = fetch_from(hub, machine)
    assert (done.returncode, "somebody/tiny" in done.stderr) == (ExitCode.MISSING, True)


@pytest.mark.parametrize("environment", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["unreachable", "offline"])
def test_without_a_hub_the_cure_comes_at_once(environment: dict[str, str], machine: Path) -> None:
    """Left to itself, the hub's client was seen to try for 23 seconds."""
    started = time.monotonic()
    done = fetch_from("http://127.0.0.1:9", machine, **environment)
    assert time.monotonic() - started < 10
    assert done.returncode == ExitCode.MISSING
    assert "pip install 'pagelens[offline]'" in done.stderr and "--models DIR" in done.stderr
    assert "MIT" in done.stderr and "Traceback" not in done.stderr
