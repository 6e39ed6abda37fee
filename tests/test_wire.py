"""Messages between our own processes arrive as they were sent, and carry nothing else."""

from __future__ import annotations

import contextlib
import datetime
import pickle
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

from pagelens import wire


@dataclass(frozen=True, slots=True)
class Dot:
    x: float
    label: str | None = None


@dataclass(frozen=True)
class Lone:
    name: str


class Pair(NamedTuple):
    left: Any
    right: Any


FORMAT = wire.Format(Dot, Lone, Pair)


@pytest.mark.parametrize(
    "message",
    [
        None,
        [True, False, 0, -1, 2**63, 1.5, float("inf"), "", "ä𝔘\0", b"\x00\xff"],
        {"a": {"b": [1, [2, (3, ())]]}, 7: "seven"},
        (1, [2, (3, frozenset({4, "5"}))]),
        [Dot(1.0, "x"), Lone("only"), Pair(Dot(2), [Pair(1, (2,)), {"deep": Dot(0.5)}])],
        frozenset([Dot(1.0), Pair(1, 2)]),
        {"~": "Dot", "x": 1},
        [[], [[]], {}],
    ],
    ids=lambda message: type(message).__name__,  # sets and objects print otherwise in every process
)
def test_round_trip(message: object) -> None:
    again = FORMAT.unpack(FORMAT.pack(message))
    assert again == message
    assert repr(again) == repr(message) or isinstance(message, frozenset)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u4", "i8", "?", "f2"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
def test_arrays(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.array(np.arange(np.prod(shape)).reshape(shape) % 7, dtype)
    for each in (array, np.asfortranarray(array), array[::-1] if array.ndim else array):
        again = FORMAT.unpack(FORMAT.pack([each]))[0]
        assert (again.dtype, again.shape) == (each.dtype, each.shape)
        np.testing.assert_array_equal(again, each)


def test_numbers_and_mappings_of_other_kinds_arrive_as_plain_ones() -> None:
    sent = [np.float32(0.5), np.int64(3), MappingProxyType({"a": np.bool_(True)})]
    assert FORMAT.unpack(FORMAT.pack(sent)) == [0.5, 3, {"a": True}]


@pytest.mark.parametrize(
    "value",
    [datetime.date(2024, 1, 2), Path("a"), {1, 2}, object(), Ellipsis, 1 + 2j],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused_by_its_sender(value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        FORMAT.pack({"here": [value]})


def test_a_record_that_was_not_named_is_refused() -> None:
    with pytest.raises(TypeError, match="Dot"):
        wire.Format(Lone).pack(Dot(1.0))
    with pytest.raises(ValueError, match="extension"):
        wire.Format().unpack(FORMAT.pack(Dot(1.0)))


def test_objects_in_arrays_are_refused() -> None:
    """Their bytes are addresses."""
    with pytest.raises(ValueError, match="(?i)object"):
        FORMAT.unpack(FORMAT.pack(np.array([object()])))


def test_data_cannot_pass_for_a_record() -> None:
    """What a document says about itself is data, whatever it looks like."""
    for value in ([0, 1.0, "x"], ["Dot", 1.0], {"~": "Dot"}, [None, 1.0]):
        assert type(FORMAT.unpack(FORMAT.pack(value))) is type(value)


def test_what_is_no_message_raises_and_runs_nothing() -> None:
    dice = random.Random(0)
    good = FORMAT.pack([Dot(1.0, "x"), Pair(1, np.zeros(3)), ("a", {"b": [1, 2]})])
    for _ in range(3000):
        bad = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            bad[dice.randrange(len(bad))] = dice.randrange(256)
        with contextlib.suppress(ValueError, TypeError):
            FORMAT.unpack(bytes(bad[: dice.randint(0, len(bad))]))
    for pickled in (pickle.dumps(["query", []], protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)):
        with pytest.raises(ValueError):
            FORMAT.unpack(pickled)


def test_a_helper_does_not_import_from_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "msgpack.py").write_text("raise SystemExit('the wrong module')\n")
    code = "import subprocess, pagelens.wire as w; print(w.start('pagelens.wire', stdout=-1).communicate())"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("(b'', None)", "")
