"""Calls to a Qdrant server: time that fits the message, patience, and errors in words."""

from __future__ import annotations

import itertools
import logging
import os
import random
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own log would stand between what we say

import grpc  # noqa: E402

from pagelens.errors import LibraryBusy, PagelensError, UsageError

PORT = 6334
"""Of Qdrant's gRPC interface."""
TIMEOUT = 10.0
"""Seconds that an answer to a small message may take, the first time it is asked."""
SLOWEST = 1e6
"""Bytes a second at which a message must at least be sent and stored."""
LONGEST = 600.0
"""Seconds for one answer at most; until then each attempt that ran out of time is given twice as much."""
PATIENCE = 120.0
"""Seconds to go on asking a server that is away or overloaded; a restart takes less."""
PATIENCE_TO_OPEN = 10.0
"""Seconds to go on asking at first: a wrong address should be said soon."""
PAUSES = 0.1, 5.0
"""Seconds before the second attempt, then twice as many each time up to the other number. Each is shortened
by up to a half at random, so that many clients do not come back together."""
PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,  # by a server that shuts down
    grpc.StatusCode.ABORTED,
}
"""What may be gone when the same is asked again; all that a store asks can be repeated."""
PATIENT = 3
"""Attempts after which it is said that the server is waited for."""
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Or a server that came back would be found two minutes later.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]
_Answer = TypeVar("_Answer")
logger = logging.getLogger(__name__)


class Server:
    """A connection, made when it is first needed and again whenever it broke.

    Args:
        url: `http://host:port` or `https://host:port`, of the gRPC interface.
        key: Sent with every call; in clear over `http`.

    Raises:
        UsageError: the URL is none.
    """

    def __init__(self, url: str, key: str | None) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or PORT
        except ValueError as error:
            raise UsageError(f"{url} is no URL: {error}") from error
        if parts.scheme not in ("http", "https") or not host or parts.path.strip("/") or parts.query:
            raise UsageError(f"{url}: write a server as http://HOST:{PORT} or https://HOST:{PORT}")
        if parts.username or parts.password:
            raise UsageError("the URL of a server holds no key; put it into the variable QDRANT_API_KEY")
        if key and not (key.isascii() and key.isprintable()):
            raise UsageError("QDRANT_API_KEY holds a character that no key has, such as the end of a line")
        self.url = f"{parts.scheme}://{parts.netloc}"
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.channel: grpc.Channel = (
            grpc.secure_channel(address, grpc.ssl_channel_credentials(), _OPTIONS)
            if parts.scheme == "https"
            else grpc.insecure_channel(address, _OPTIONS)
        )
        self._metadata = [("api-key", key)] if key else []
        secure = parts.scheme == "https"
        self._tls = "it speaks TLS, or say http://" if secure else "it does not want TLS, or say https://"

    def call(self, method: Callable[..., _Answer], request: Any, patience: float | None = None) -> _Answer:
        """The answer to a request that can be repeated.

        Args:
            method: Of one of qdrant-client's stubs over `channel`.
            request: Its message.
            patience: Seconds to go on asking; default: `PATIENCE`.

        Raises:
            LibraryBusy: there was none in all that time.
            UsageError: the key is refused, or there is no such collection.
            PagelensError: the server cannot do what it was asked.
        """
        timeout = TIMEOUT + request.ByteSize() / SLOWEST
        patience = PATIENCE if patience is None else patience
        until = time.monotonic() + patience
        for attempt in itertools.count():
            try:
                return method(request, timeout=timeout, metadata=self._metadata)
            except grpc.RpcError as error:
                if error.code() not in PASSING:
                    self._refuse(error)
                if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                    timeout = min(2 * timeout, LONGEST)
                pause = _told(error) or min(PAUSES[1], PAUSES[0] * 2**attempt) * random.uniform(0.5, 1)
                if time.monotonic() + pause > until:
                    raise LibraryBusy(
                        f"the server {self.url} does not answer ({_said(error)}); what it has acknowledged "
                        f"is safe: see that it runs, that this is its gRPC port, by default {PORT}, and that "
                        f"{self._tls}; then run the same command again, it goes on from there"
                    ) from error
                if attempt + 1 == PATIENT:
                    logger.warning(
                        "the server %s does not answer (%s); it is asked again for up to %.0f s",
                        self.url,
                        error.code().name,
                        patience,
                    )
            time.sleep(pause)
        raise AssertionError

    def close(self) -> None:
        """Leave."""
        self.channel.close()

    def _refuse(self, error: Any) -> NoReturn:
        said = f"the server {self.url} says {_said(error)}"
        if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            given = "the key in QDRANT_API_KEY is refused" if self._metadata else "QDRANT_API_KEY is not set"
            raise UsageError(f"{said}: {given}; set it to a key of this server that may write") from error
        if error.code() == grpc.StatusCode.NOT_FOUND:
            raise UsageError(f"{said}; was the collection deleted meanwhile?") from error
        raise PagelensError(f"{said}; its log may say more") from error


def _said(error: Any) -> str:
    return f"{error.code().name}: {error.details()}"


def _told(error: Any) -> float:
    """Seconds that the server asked us to wait; 0 where it did not."""
    for name, value in error.trailing_metadata() or ():
        if name == "retry-after" and value.isdecimal():
            return float(value)
    return 0.0
