"""The worker of an embedded library: who joins, who leaves, who is killed, and what is never lost."""

from __future__ import annotations

import ast
import contextlib
import errno
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from pathlib import Path

import numpy as np
import pytest
from made import fill

import pagelens
from pagelens import wire
from pagelens.errors import LibraryBusy, PagelensError, UsageError
from pagelens.store import client, worker
from pagelens.store.client import PATIENCE_TO_LEAVE, EdgeStore
from pagelens.store.edge import EdgeEngine
from pagelens.store.meeting import MESSAGES, Address
from pagelens.store.plan import ListQuery, Point, Schema, VectorSpec, Where
from pagelens.store.worker import Worker

SCHEMA = Schema((VectorSpec("text", "multi", 64),), {"kind": "keyword"})
OPEN = """
import os, sys, time
from pathlib import Path
from pagelens.store.client import EdgeStore
from pagelens.store.meeting import Address
from pagelens.store.plan import Point, Where
import uuid
folder = Path(sys.argv[1])
def point(n):
    return Point(str(uuid.UUID(int=n)), {"kind": "page"})
def say(*what):
    print(*what, flush=True)
"""
"""How the scripts of other processes begin."""


def point(n: int) -> Point:
    return Point(str(uuid.UUID(int=n)), {"kind": "page"})


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where workers have their sockets: many are killed here, and would leave them in the real one."""
    with tempfile.TemporaryDirectory(prefix="t") as place:
        monkeypatch.setenv("TMPDIR", place)
        yield Path(place)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "library"


@pytest.fixture
def store(folder: Path) -> Iterator[EdgeStore]:
    opened = EdgeStore(folder)
    opened.declare(SCHEMA)
    yield opened
    opened.close()


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a script as another process; whatever is left of it ends with the test."""
    running: list[subprocess.Popen[str]] = []

    def start(folder: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", OPEN + code, str(folder), *arguments]
        running.append(subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def odd_worker(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Workers started from here on run `code` first, in which `engine` is the engine's module."""

    def use(code: str) -> None:
        program = f"import time\nfrom pagelens.store import edge as engine, worker\n{code}\nworker.main()"

        def start(module: str, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-P", "-c", program, *arguments]
            return subprocess.Popen(command, **options)  # type: ignore[call-overload,no-any-return]

        monkeypatch.setattr(wire, "start", start)

    return use


SLOW_COUNT = """
count = engine.EdgeEngine.count
def slow(self, where):
    time.sleep(.5)
    return count(self, where)
engine.EdgeEngine.count = slow
"""


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def worker_of(folder: Path) -> int:
    address = Address.of(folder)
    assert address is not None
    return address.process


def runs(process: int) -> bool:
    """Whether a process is there and not just waiting to be reaped."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


def ends(process: int, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while runs(process) and time.monotonic() < until:
        time.sleep(0.02)
    return not runs(process)


# joining and leaving


def test_the_worker_ends_with_its_last_user(folder: Path) -> None:
    first = EdgeStore(folder)
    worker = worker_of(folder)
    second = EdgeStore(folder)
    first.close()
    second.declare(SCHEMA)
    assert worker_of(folder) == worker and runs(worker)
    second.close()
    assert ends(worker)
    assert Address.of(folder) is None


@pytest.mark.parametrize("last", [0, 1])
def test_the_last_to_leave_finds_the_folder_let_go_of(folder: Path, last: int) -> None:
    for n in range(3):
        users = [EdgeStore(folder), EdgeStore(folder)]
        users[0].declare(SCHEMA)
        users[0].upsert([point(n)])
        started = time.monotonic()
        users[1 - last].close()  # does not wait for the other
        assert time.monotonic() - started < PATIENCE_TO_LEAVE / 2
        users[last].close()
        EdgeEngine(folder / "points").close()  # busy, if a worker still held it
    shutil.rmtree(folder)


def test_the_worker_ends_when_its_users_are_killed(
    folder: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    users = [start(folder, "store = EdgeStore(folder)\nsay(Address.of(folder).process)\ntime.sleep(60)")]
    worker = int(line(users[0]))
    users.append(start(folder, "store = EdgeStore(folder)\nsay(Address.of(folder).process)\ntime.sleep(60)"))
    assert int(line(users[1])) == worker
    users[0].kill()
    users[0].wait()
    assert not ends(worker, 0.5)
    users[1].kill()
    users[1].wait()
    assert ends(worker)


def test_a_starter_killed_at_any_moment_leaves_no_worker(
    folder: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """Also between starting the worker and joining it: the worker is born with its first user's socket."""
    dice = random.Random(4)
    for _ in range(6):
        user = start(folder, "say('go')\nstore = EdgeStore(folder)\ntime.sleep(60)")
        line(user)
        time.sleep(dice.uniform(0, 0.4))
        user.kill()
        user.wait()
    mine = EdgeStore(folder)
    mine.declare(SCHEMA)
    mine.close()
    mentioned = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True).stdout
    left = [int(each.split()[0]) for each in mentioned.splitlines() if str(folder) in each]
    assert all(ends(each) for each in left)


def test_a_starter_killed_before_it_is_told_ends_nobody_elses_work(folder: Path) -> None:
    """The worker that it started has another user by then, whose call it must finish."""
    folder.mkdir()
    told, ended = threading.Event(), threading.Event()

    class Killed:
        def send_bytes(self, _: bytes) -> None:
            told.wait()
            raise BrokenPipeError

        def recv_bytes(self) -> bytes:
            raise EOFError

        def close(self) -> None:
            pass

    def run() -> None:
        Worker(folder).run(Killed())  # type: ignore[arg-type]
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    while Address.of(folder) is None:
        time.sleep(0.01)
    second = EdgeStore(folder)
    assert second._connection is not None
    told.set()
    second.declare(SCHEMA)
    second.upsert([point(1)])
    assert second.count(Where()) == 1 and not ended.is_set()
    second._connection.close()  # without a goodbye, which the end of a worker's process answers
    assert ended.wait(10)


def test_a_library_that_holds_nothing_yet_has_one_worker_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edge locks a shard only once it is made: a second worker would remove what the first is just making."""
    monkeypatch.setattr(worker, "HANDOVER", 0.2)
    folder.mkdir()
    first = Worker(folder)
    with pytest.raises(LibraryBusy, match="cannot be joined from here"):
        Worker(folder)
    first._lock.close()
    Worker(folder)._lock.close()


def test_a_worker_whose_starter_is_gone_touches_nothing(folder: Path) -> None:
    folder.mkdir()
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        command = [sys.executable, "-m", "pagelens.store.worker", str(folder), str(theirs.fileno())]
        subprocess.run(command, pass_fds=[theirs.fileno()], check=True, timeout=60)
    assert list(folder.iterdir()) == []


def test_twenty_processes_at_once_share_one_worker(
    folder: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    code = """
sys.stdin.readline()
store = EdgeStore(folder)
say(Address.of(folder).process)
sys.stdin.readline()
"""
    users = [start(folder, code) for _ in range(20)]
    for user in users:
        assert user.stdin is not None
        user.stdin.write("\n")
        user.stdin.flush()
    assert len({line(user) for user in users}) == 1


def test_users_that_come_and_go_never_meet_an_ending_worker(
    folder: Path, store: EdgeStore, start: Callable[..., subprocess.Popen[str]]
) -> None:
    store.upsert([point(n) for n in range(5)])
    store.close()
    code = """
for _ in range(6):
    store = EdgeStore(folder)
    assert store.count(Where()) == 5
    store.close()
"""
    users = [start(folder, code) for _ in range(3)]
    assert [user.wait() for user in users] == [0, 0, 0]


def test_a_writer_and_a_reader_at_once(
    folder: Path, store: EdgeStore, start: Callable[..., subprocess.Popen[str]]
) -> None:
    code = """
store = EdgeStore(folder)
for n in range(0, 300, 10):
    store.upsert([point(m) for m in range(n, n + 10)])
    say(n + 10)
"""
    writer = start(folder, code)
    seen = 0
    while seen < 300:
        seen = int(line(writer))
        assert store.count(Where()) >= seen
    assert [p.id for p in store.scroll(Where())] == [point(n).id for n in range(300)]


def use_in_a_child(folder: Path) -> int:
    with_store = EdgeStore(folder)
    count = with_store.count(Where())
    with_store.close()
    return count


def test_spawned_processes_join(folder: Path, store: EdgeStore) -> None:
    store.upsert([point(1)])
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(use_in_a_child, [folder] * 4) == [1] * 4


def test_a_script_without_main_guard_works(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"{OPEN}\nstore = EdgeStore(folder)\nsay(Address.of(folder) is not None)\n")
    said = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == ("True\n", "")


def test_a_forked_child_talks_for_itself(folder: Path, store: EdgeStore) -> None:
    """The child's calls and the parent's, at once on what was one connection."""
    store.upsert([point(n) for n in range(50)])
    code = """
store = EdgeStore(folder)
child = os.fork()
for n in range(40):
    first = n if child else 49 - n
    assert [p.id for p in store.retrieve([point(first).id])] == [point(first).id]
if child:
    assert os.waitpid(child, 0)[1] == 0
else:
    os._exit(0)
say("done")
"""
    program = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        OPEN + code,
        str(folder),
    ]  # 3.12 warns of fork and threads
    assert subprocess.run(program, stdout=subprocess.PIPE, text=True, timeout=60).stdout == "done\n"


def test_the_worker_keeps_no_pipe_of_its_starter_open(folder: Path, store: EdgeStore) -> None:
    """`$(pagelens search ...)` must not wait for an ingest that joined the worker it started."""
    store.close()
    code = "EdgeStore(folder)\nsay('started')\nsys.stdin.readline()"
    command = [sys.executable, "-c", OPEN + code, str(folder)]
    starter = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert line(starter) == "started"
    joined = EdgeStore(folder)
    starter.communicate("\n", timeout=5)
    joined.close()


# killed


def test_a_killed_worker_is_started_again_and_the_call_repeated(folder: Path, store: EdgeStore) -> None:
    for n in range(4):
        os.kill(worker_of(folder), signal.SIGKILL)
        store.upsert([point(n)])
        os.kill(worker_of(folder), signal.SIGKILL)
        assert store.count(Where()) == n + 1


def test_nothing_acknowledged_is_lost_when_the_worker_is_killed(folder: Path, store: EdgeStore) -> None:
    """At random moments, also in the middle of a batch."""
    done = threading.Event()
    dice = random.Random(1)

    def killer() -> None:
        while not done.wait(dice.uniform(0.05, 0.4)):
            address = Address.of(folder)
            with contextlib.suppress(ProcessLookupError):
                if address is not None:
                    os.kill(address.process, signal.SIGKILL)

    rng = np.random.default_rng(0)
    text = rng.standard_normal((20, 64)).astype(np.float32)
    thread = threading.Thread(target=killer)
    thread.start()
    acknowledged = 0
    try:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            batch = range(acknowledged, acknowledged + 16)
            try:
                store.upsert([Point(point(n).id, {"kind": "page"}, {"text": text}) for n in batch])
            except PagelensError:
                continue  # killed twice in one call
            acknowledged += 16
    finally:
        done.set()
        thread.join()
    found = [p.id for p in store.scroll(Where(), ["text"]) if p.vectors]
    assert acknowledged > 16
    assert found[:acknowledged] == [point(n).id for n in range(acknowledged)]


def test_a_call_that_kills_every_worker_is_given_up(folder: Path, odd_worker: Callable[[str], None]) -> None:
    odd_worker("import os\nengine.EdgeEngine.size = lambda self: os.abort()")
    store = EdgeStore(folder)
    store.declare(SCHEMA)
    with pytest.raises(PagelensError, match="died twice of 'size'.*log"):
        store.size()
    store.upsert([point(1)])
    assert store.count(Where()) == 1
    store.close()


def test_a_worker_that_dies_while_starting_says_where_to_look(
    folder: Path, odd_worker: Callable[[str], None]
) -> None:
    odd_worker("raise SystemExit('no room in the inn')")
    with pytest.raises(PagelensError, match="died while it started") as told:
        EdgeStore(folder)
    log = Path(str(told.value).split("; ")[1].split(" may say")[0])
    assert log.read_text() == "no room in the inn\n"


# silent


def test_a_worker_that_hangs_is_not_waited_for(
    folder: Path, store: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.upsert([point(1)])
    worker, writer = worker_of(folder), EdgeStore(folder)
    calls: list[Callable[[], object]] = [
        lambda: store.count(Where()),
        lambda: writer.upsert([Point(point(2).id, {"text": "x" * 5_000_000})]),  # more than a socket buffers
        lambda: EdgeStore(folder),
    ]
    os.kill(worker, signal.SIGSTOP)
    try:
        with monkeypatch.context() as impatient:
            impatient.setattr(client, "PATIENCE", 0.3)
            impatient.setattr(EdgeStore._call, "__kwdefaults__", {"patience": 0.3})
            for call in calls:
                started = time.monotonic()
                with pytest.raises(LibraryBusy, match=rf"process {worker}\).*silent"):
                    call()
                assert time.monotonic() - started < 5
    finally:
        os.kill(worker, signal.SIGCONT)
    writer.close()
    assert [p.id for p in store.retrieve([point(1).id])] == [point(1).id]


def test_who_joins_while_another_hangs_in_joining_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[..., subprocess.Popen[str]]
) -> None:
    hanging = start(
        folder,
        """
import fcntl
from pagelens.store.meeting import meeting_place
lock = (meeting_place(folder) / "lock").open("w")
fcntl.flock(lock, fcntl.LOCK_EX)
say("has it")
time.sleep(60)
""",
    )
    assert line(hanging) == "has it"
    monkeypatch.setattr(client, "PATIENCE", 0.3)
    with pytest.raises(LibraryBusy, match="silent"):
        EdgeStore(folder)


def test_an_interrupted_call_leaves_no_answer_to_the_next(
    folder: Path, odd_worker: Callable[[str], None]
) -> None:
    odd_worker(SLOW_COUNT)
    store = EdgeStore(folder)
    store.declare(SCHEMA)
    store.upsert([point(1)])

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            store.count(Where())
    finally:
        signal.signal(signal.SIGALRM, before)
    assert [p.id for p in store.retrieve([point(1).id])] == [point(1).id]
    store.close()


def test_a_default_timeout_for_sockets_is_not_ours(folder: Path, odd_worker: Callable[[str], None]) -> None:
    odd_worker(SLOW_COUNT)
    socket.setdefaulttimeout(0.05)
    try:
        first, second = EdgeStore(folder), EdgeStore(folder)
        first.declare(SCHEMA)
        assert first.count(Where()) == second.count(Where()) == 0
        first.close()
        second.close()
    finally:
        socket.setdefaulttimeout(None)


def test_python_goes_on_while_the_engine_works(folder: Path, store: EdgeStore) -> None:
    """Edge in this process stops every thread of it; a thread that spins counts how much."""
    rng = np.random.default_rng(0)
    points = [
        Point(point(n).id, {}, {"text": rng.standard_normal((200, 64)).astype(np.float32)})
        for n in range(300)
    ]
    store.upsert(points)
    engine = EdgeEngine(folder.parent / "in process")
    engine.declare(SCHEMA)
    engine.upsert(points)
    asked = [ListQuery("text", rng.standard_normal((60, 64)).astype(np.float32), 10)] * 6

    def share_left(query: Callable[[list[ListQuery]], object]) -> float:
        """Of a thread's time that it runs, while another is in `query`."""
        stop = threading.Event()
        shares: list[float] = []

        def spin() -> None:
            started, used = time.perf_counter(), time.thread_time()
            while not stop.is_set():
                sum(range(1000))
            shares.append((time.thread_time() - used) / (time.perf_counter() - started))

        thread = threading.Thread(target=spin)
        thread.start()
        query(asked)
        stop.set()
        thread.join()
        return shares[0]

    # Several times: other work on this machine takes time from either.
    through_worker, in_process = (
        [share_left(query) for _ in range(3)] for query in (store.query, engine.query)
    )
    assert max(through_worker) > 3 * min(in_process)


def test_threads_share_a_connection(store: EdgeStore) -> None:
    store.upsert([point(n) for n in range(40)])
    wrong: list[int] = []

    def read(first: int) -> None:
        for n in range(first, 40):
            if [p.id for p in store.retrieve([point(n).id])] != [point(n).id]:
                wrong.append(n)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# secrets


def test_key_and_socket_are_the_owners_alone(folder: Path, store: EdgeStore) -> None:
    address = Address.of(folder)
    assert address is not None

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(folder / "worker") == 0o700
    assert mode(folder / "worker" / "address.json") == 0o600
    assert mode(Path(address.socket).parent) == 0o700
    assert len(bytes.fromhex(address.key)) == 32


def test_a_wrong_key_is_refused_and_the_worker_goes_on(folder: Path, store: EdgeStore) -> None:
    address = Address.of(folder)
    assert address is not None
    for _ in range(3):
        with pytest.raises((AuthenticationError, ConnectionError, EOFError)):
            Client(address.socket, "AF_UNIX", authkey=b"guessed")
    assert store.count(Where()) == 0
    path = folder / "worker" / "address.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "key": "00" * 32}))
    with pytest.raises(LibraryBusy, match=f"process {address.process} refuses"):
        EdgeStore(folder)


def test_a_silent_stranger_keeps_nobody_out_and_no_worker_alive(folder: Path) -> None:
    store = EdgeStore(folder)
    address = Address.of(folder)
    assert address is not None
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(address.socket)
        EdgeStore(folder).close()
        store.close()
        assert ends(address.process)


def joined(folder: Path) -> Connection:
    address = Address.of(folder)
    assert address is not None
    connection = Client(address.socket, "AF_UNIX", authkey=bytes.fromhex(address.key))
    assert isinstance(connection, Connection)
    return connection


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path, str]]:
        return Path.write_text, (self.path, "executed")


def test_a_pickle_is_refused_and_not_executed(folder: Path, store: EdgeStore, tmp_path: Path) -> None:
    fuse = tmp_path / "fuse"
    bomb = pickle.dumps(["count", [Bomb(fuse)]])
    with joined(folder) as connection:
        connection.send_bytes(bomb)
        kind, _ = MESSAGES.unpack(connection.recv_bytes())
        assert kind == "RuntimeError"
        connection.send_bytes(MESSAGES.pack(["count", [Where()]]))
        assert MESSAGES.unpack(connection.recv_bytes()) == ["ok", 0]
    assert not fuse.exists()
    pickle.loads(bomb)
    assert fuse.exists()  # it would have


@pytest.mark.parametrize("name", ["close", "_load", "__init__", "no_such", 7])
def test_only_the_calls_of_a_store_are_answered(folder: Path, store: EdgeStore, name: object) -> None:
    with joined(folder) as connection:
        connection.send_bytes(MESSAGES.pack([name, []]))
        kind, reason = MESSAGES.unpack(connection.recv_bytes())
        assert kind == "UsageError" and str(name) in reason


def test_nothing_on_the_wire_is_pickled() -> None:
    """`Connection.send` and `recv` would; only their bytes are used."""
    source = Path(pagelens.__file__).parent
    modules = [source / "wire.py", *(source / "store").glob("*.py")]
    assert len(modules) > 6
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Import):
                assert not {"pickle", "marshal", "shelve"} & {name.name for name in node.names}
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("send", "recv"), module


def test_what_nobody_expected_is_told_and_logged(folder: Path, odd_worker: Callable[[str], None]) -> None:
    odd_worker("engine.EdgeEngine.size = lambda self: 1 / 0")
    store = EdgeStore(folder)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        store.size()
    assert "Traceback" in (folder / "worker" / "log").read_text()
    store.close()


# places


def test_deep_folders_and_a_deep_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's path may have about 100 bytes."""
    deep = tmp_path.joinpath(*["a rather deep folder of scans"] * 8)
    (deep / "tmp").mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(deep / "tmp"))
    stores = [EdgeStore(deep / "library"), EdgeStore(deep / "library")]
    stores[0].declare(SCHEMA)
    stores[0].upsert([point(1)])
    assert stores[1].count(Where()) == 1
    for store in stores:
        store.close()


def test_a_library_moved_while_closed(folder: Path, store: EdgeStore, tmp_path: Path) -> None:
    store.upsert([point(1)])
    os.kill(worker_of(folder), signal.SIGKILL)  # so that its address is still there
    store.close()
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    folder.rename(moved)
    again = EdgeStore(moved)
    assert again.count(Where()) == 1
    again.close()


def test_a_library_copied_while_open_is_another(folder: Path, store: EdgeStore, tmp_path: Path) -> None:
    store.upsert([point(1)])
    shutil.copytree(folder, tmp_path / "copy")
    copy = EdgeStore(tmp_path / "copy")
    copy.upsert([point(2)])
    assert (copy.count(Where()), store.count(Where())) == (2, 1)
    EdgeStore(folder).close()  # nor has the copy's worker taken the socket away
    copy.close()


def test_a_symbolic_link_leads_to_the_same_library(folder: Path, store: EdgeStore, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    linked = EdgeStore(tmp_path / "link")
    linked.upsert([point(1)])
    assert store.count(Where()) == 1
    linked.close()


def test_nothing_is_left_in_the_temporary_folder(folder: Path, temporary: Path) -> None:
    for _ in range(3):
        store = EdgeStore(folder)
        os.kill(worker_of(folder), signal.SIGKILL)
        store.size()
        worker = worker_of(folder)
        assert len(list(temporary.iterdir())) == 1
        store.close()
        assert ends(worker)
        assert list(temporary.iterdir()) == []


def test_a_closed_store_says_so(store: EdgeStore) -> None:
    store.close()
    store.close()
    with pytest.raises(UsageError, match="closed"):
        store.count(Where())


def test_an_engine_open_elsewhere_is_named(
    folder: Path, odd_worker: Callable[[str], None], start: Callable[..., subprocess.Popen[str]]
) -> None:
    """Not by a worker: by somebody who opened the shard himself."""
    code = """
from pagelens.store.edge import EdgeEngine
from pagelens.store.plan import Schema, VectorSpec
engine = EdgeEngine(folder / "points")
engine.declare(Schema((VectorSpec("text", "multi", 64),), {}))
say("has it")
time.sleep(60)
"""
    holder = start(folder, code)
    assert line(holder) == "has it"
    odd_worker("worker.HANDOVER = .3")
    with pytest.raises(LibraryBusy, match=f"{folder}.*end that first"):
        EdgeStore(folder)
    holder.kill()
    holder.wait()
    store = EdgeStore(folder)
    assert store.count(Where()) == 0
    store.close()


def test_a_folder_that_cannot_be_written(disk: Path) -> None:
    store = EdgeStore(disk / "library")
    store.declare(SCHEMA)
    worker = worker_of(disk / "library")
    store.close()
    assert ends(worker)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for folder in (disk / "library", disk / "new"):
        with pytest.raises(UsageError, match="cannot be written.*copy it"):
            EdgeStore(folder)


# a full disk


def test_a_full_disk_stops_with_a_cure_and_goes_on(disk: Path) -> None:
    store = EdgeStore(disk / "library")
    store.declare(SCHEMA)
    worker = worker_of(disk / "library")
    text = np.random.default_rng(0).standard_normal((500, 64)).astype(np.float32)
    written = 0
    with pytest.raises(OSError, match="free some space") as told:
        while written < 3000:
            store.upsert([Point(point(n).id, {}, {"text": text}) for n in range(written, written + 30)])
            written += 30
    assert told.value.errno == errno.ENOSPC
    assert 0 < written < 3000
    assert store.count(Where()) == written
    full = fill(disk, left=50 * 2**20)
    with pytest.raises(OSError, match="50 MB free, 128 MB needed"):
        store.delete(Where(ids=frozenset([point(0).id])))
    assert worker_of(disk / "library") == worker
    store.close()
    assert ends(worker)
    store = EdgeStore(disk / "library")  # what is there can still be searched
    [hits] = store.query([ListQuery("text", text[:1], 5)])
    assert len(hits) == 5
    full.unlink()
    store.delete(Where(ids=frozenset([point(0).id])))
    store.upsert([Point(point(written).id, {}, {"text": text[:1]})])
    assert store.count(Where()) == written
    store.close()


def test_a_disk_too_full_to_open_a_library(disk: Path) -> None:
    store = EdgeStore(disk / "library")
    store.declare(SCHEMA)
    store.upsert([point(1)])
    worker = worker_of(disk / "library")
    store.close()
    assert ends(worker)
    full = fill(disk, left=2**20)
    with pytest.raises(OSError, match="free some space") as told:
        EdgeStore(disk / "library")
    assert told.value.errno == errno.ENOSPC
    full.unlink()
    store = EdgeStore(disk / "library")
    assert store.count(Where()) == 1
    store.close()


def test_a_disk_filled_by_somebody_else_under_edges_hands(
    disk: Path, odd_worker: Callable[[str], None]
) -> None:
    """Between asking for room and writing: the worker dies of SIGBUS, its user gets the reason."""
    odd_worker("engine.TO_WRITE = engine.GROWTH = 0")
    store = EdgeStore(disk / "library")
    store.declare(SCHEMA)
    store.upsert([point(n) for n in range(10)])
    worker = worker_of(disk / "library")
    full = fill(disk, left=5 * 2**20)
    text = np.random.default_rng(0).standard_normal((5000, 64)).astype(np.float32)
    big = [Point(point(n).id, {}, {"text": text}) for n in range(10, 40)]
    with pytest.raises(OSError, match="free some space") as told:
        store.upsert(big)
    assert told.value.errno == errno.ENOSPC
    assert ends(worker)
    full.unlink()
    assert store.count(Where()) >= 10
    store.upsert(big)
    assert store.count(Where()) == 40
    store.close()
