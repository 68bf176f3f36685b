# Pictures that end the process that decodes or scores them: noted on the disk, tried apart, made a
# bad row.
from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from captum_infomask._process import quiet
from captum_infomask.dataset_run.data.data_pictures import DataPictures, Decoded, decode_picture
from captum_infomask.dataset_run.data.reading import regular

_NO_MEMORY = 77  # the exit code that says so
_TOO_LITTLE = "there was too little memory for it"
_DIGITS = 20  # of a place in a note


class InFlight:
    """Decodes a batch, and has a note on the disk of the picture that is being decoded.

    The note outlives the process. Whoever decodes the batch next finds in it which pictures were
    in flight when a process ended, and tries these in a process of their own: a picture that ends
    that one too is bad. A process that ended for another reason, as when a run is killed, costs
    its picture nothing.

    Args:
        folder: The run's folder.
        first: The place of the batch's first picture.
        pictures: The data set.
        preprocess: From a picture to its tensor.
        shape: (C, H, W) of every tensor.
    """

    def __init__(
        self,
        folder: Path,
        first: int,
        pictures: DataPictures,
        preprocess: Callable[[Image.Image], Tensor],
        shape: tuple[int, ...],
    ) -> None:
        self._note = folder / f".decoding-{first}"
        self._pictures = pictures
        self._how = (preprocess, shape)

    @contextmanager
    def noted(self, *, all_apart: bool) -> Iterator[Callable[[int], Decoded]]:
        """What decodes a picture by its place, while there is a note."""
        suspects = _places(self._note)
        known = b"".join(b"%*d\n" % (_DIGITS, k) for k in sorted(suspects))
        note = _opened(self._note)

        def decoded(k: int) -> Decoded:
            if note is not None:
                with suppress(OSError):  # no space: then there is no note
                    os.pwrite(note, b"%*d\n" % (_DIGITS, k), len(known))
            if k not in suspects and not all_apart:
                with suppress(MemoryError):
                    return decode_picture(self._pictures, k, *self._how)
            return decode_apart(self._pictures, k, *self._how)

        try:
            if note is not None:
                with suppress(OSError):
                    os.pwrite(note, known, 0)
            yield decoded
        finally:  # which a killed process does not reach
            if note is not None:
                with suppress(OSError):
                    os.ftruncate(note, len(known))
                os.close(note)
                if not suspects:
                    self._note.unlink(missing_ok=True)


def _places(note: Path) -> set[int]:
    """The places in a note; none where there is no note that can be read."""
    try:
        return {int(line) for line in Path(regular(str(note))).read_bytes().split()}
    except (OSError, ValueError):
        return set()


@contextmanager
def in_network(folder: Path, first: int) -> Iterator[int]:
    """How many processes have ended while this batch was in the network; noted meanwhile.

    Args:
        folder: The run's folder.
        first: The place of the batch's first picture.
    """
    note, deaths = folder / f".scoring-{first}", 0
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    with suppress(OSError), os.fdopen(os.open(note, flags, 0o644), "ab") as begun:
        begun.write(b".")
        deaths = begun.tell() - 1
    try:
        yield deaths
    finally:  # which a killed process does not reach
        with suppress(OSError):
            note.unlink()


def ends_process(call: Callable[[], object]) -> str:
    """How a call ends a process of its own; empty where it does not, whatever it raises."""

    def tried() -> None:
        with suppress(Exception):
            call()

    return apart(tried)[1]


def _opened(note: Path) -> int | None:
    """An empty note; None where none can be made."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
        return os.open(note, flags, 0o644)
    except OSError:
        return None


def decode_apart(
    pictures: DataPictures,
    k: int,
    preprocess: Callable[[Image.Image], Tensor],
    shape: tuple[int, ...],
) -> Decoded:
    """As ``decode``, in a process of its own, whose end is the picture's error."""
    found, why = apart(lambda: decode_picture(pictures, k, preprocess, shape))
    return Decoded(k, None, None, f"It could not be decoded: twice {why}.") if why else found


def apart(call: Callable[[], Any]) -> tuple[Any, str]:
    """What a call returns in a process of its own, and why there is nothing, if so."""
    here, there = os.pipe()
    try:
        with quiet("This process .* is multi-threaded"):  # it leaves what other threads hold alone
            child = os.fork()
    except OSError:
        os.close(here)
        os.close(there)
        return None, _TOO_LITTLE
    if child == 0:
        _send(there, call)
    os.close(there)
    try:
        with os.fdopen(here, "rb") as pipe:
            answer = pipe.read()
    except BaseException:  # an interrupt, which the child may not have heard
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0 and answer:
        return pickle.loads(answer), ""
    if code == _NO_MEMORY:
        return None, _TOO_LITTLE
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return None, f"the process that tried ended ({how}), as it does where memory is short"


def _send(there: int, call: Callable[[], Any]) -> None:
    """In the child: write what is found, and end."""
    code = 1
    try:
        torch.set_num_threads(1)  # others have not come along
        with suppress(OSError):  # of all processes the system should end this one
            Path("/proc/self/oom_score_adj").write_text("1000")
        try:
            answer = pickle.dumps(call())
        except MemoryError:
            code = _NO_MEMORY
        else:
            with os.fdopen(there, "wb") as pipe:
                pipe.write(answer)
            code = 0
    finally:
        os._exit(code)
