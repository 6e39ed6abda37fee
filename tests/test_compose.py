"""What the compose files promise. They are parsed here, not run: there is no Docker."""

from __future__ import annotations

import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
FILES = {"docker-compose.yml": 1, "docker-compose.cluster.yml": 3}


def services(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())["services"]
    assert len(found) == FILES[name]
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_node_is_pinned_keyed_quiet_and_local(name: str) -> None:
    declared = set(yaml.safe_load((ROOT / name).read_text())["volumes"])
    used: set[str] = set()
    for node in services(name).values():
        assert node["image"] == "qdrant/qdrant:v1.20.0"
        assert node["environment"]["QDRANT__SERVICE__API_KEY"].startswith("${QDRANT_API_KEY:?")
        assert node["environment"]["QDRANT__TELEMETRY_DISABLED"] == "true"
        for port in node.get("ports", []):
            address, outside, inside = port.split(":")
            assert (address, outside) == ("127.0.0.1", inside)
            assert inside in ("6333", "6334")  # never 6335, between nodes
        volumes = dict(reversed(each.split(":")) for each in node["volumes"])
        assert volumes.keys() == {"/qdrant/storage", "/qdrant/snapshots"}
        used.update(volumes.values())
    assert used == declared
    assert len(used) == 2 * FILES[name]  # no two nodes write into one


def test_the_cluster_keeps_everything_twice() -> None:
    nodes = services("docker-compose.cluster.yml")
    first, *others = nodes
    for name, node in nodes.items():
        assert node["environment"]["QDRANT__CLUSTER__ENABLED"] == "true"
        assert node["environment"]["QDRANT__STORAGE__COLLECTION__REPLICATION_FACTOR"] == "2"
        assert node["environment"]["QDRANT__STORAGE__COLLECTION__SHARD_NUMBER_PER_NODE"] == "2"
        assert node["command"][-2:] == ["--uri", f"http://{name}:6335"]
    for name in others:
        assert nodes[name]["command"][1:3] == ["--bootstrap", f"http://{first}:6335"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("answer", "healthy"), [("200 OK", True), ("503 Service Unavailable", False)])
def test_the_health_check_tells_a_ready_node(name: str, answer: str, healthy: bool) -> None:
    """Run as it stands but for the port; without a listener it must fail too."""
    for node in services(name).values():
        kind, *command = node["healthcheck"]["test"]
        assert kind == "CMD"
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = str(listening.getsockname()[1])
            asked: list[bytes] = []

            def serve(listening: socket.socket = listening, asked: list[bytes] = asked) -> None:
                connection, _ = listening.accept()
                with connection:
                    with connection.makefile("rb") as lines:
                        asked.extend(iter(lines.readline, b"\r\n"))
                    connection.sendall(f"HTTP/1.0 {answer}\r\n\r\n".encode())

            server = threading.Thread(target=serve)
            server.start()
            done = subprocess.run([each.replace("6333", port) for each in command], timeout=10, check=False)
            server.join()
        assert asked == [b"GET /readyz HTTP/1.0\r\n"]
        assert (done.returncode == 0) is healthy
        nobody = subprocess.run(
            [each.replace("6333", port) for each in command], timeout=10, check=False, capture_output=True
        )
        assert nobody.returncode != 0
