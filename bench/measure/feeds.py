"""Examples that processes read as steps take them, and ahead of these: from a disk, or from memory.

What is read is what would have been held, in the order that a trial has of its own, so that every reading is the same
to the last bit. What lies on a disk need not fit in memory; whole numbers become values on the device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from bench.contracts import OutOfMemory
from bench.errors import DataError
from bench.examples import Data, Examples, Pixels, Split
from bench.measure.environment import cores
from bench.measure.memory import out_of_memory_named

# One process reads so much at once, and is asked for two of them ahead: what is read is handed over in shared memory,
# of which containers often have 64 MiB in all.
_READ_BYTES = 2**21
# So much of what steps take lies on the device at once; the trials of a cohort train on it in turn before more is read.
_PIECE_BYTES = 2**28
_MOST_READERS = 8


class Source(Protocol):
    """Inputs by their numbers, as a tensor has them: what a process reads from."""

    def __getitem__(self, numbers: Tensor, /) -> Tensor:
        """Those of the numbers [n], as they are stored: [n, *shape] on the CPU. Raises DataError, in a sentence that
        names the file, where one cannot be read.
        """


@dataclass(frozen=True, eq=False)
class Streamed:
    """Keeps the contract of `examples.Examples` wherever its source lies: on a disk, or in memory.

    numbers: which of the source's are these examples, int64 [n].  targets: [n, ...], in memory.  reconstructs: whether
    each example is what itself should be recognised as, and not its target.  device, dtype: of what it gives.
    """

    source: Source
    numbers: Tensor
    targets: Tensor
    pixels: Pixels | None = None
    reconstructs: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32

    @cached_property
    def _one(self) -> Tensor:
        """An example as it is stored."""
        return self.source[self.numbers[:1]][0]

    @property
    def example_shape(self) -> tuple[int, ...]:
        return tuple(self._one.shape)

    @property
    def target_shape(self) -> tuple[int, ...]:
        return self.example_shape if self.reconstructs else tuple(self.targets.shape[1:])

    def __len__(self) -> int:
        return len(self.numbers)

    def to(self, device: torch.device, dtype: torch.dtype) -> Streamed:
        return replace(self, device=device, dtype=dtype)

    def first(self, count: int) -> Split:
        return self.take(torch.arange(min(count, len(self))))

    def take(self, rows: Tensor) -> Split:
        rows = rows.cpu()
        if len(rows) <= self._within(_READ_BYTES):  # no more than one process would be asked for
            return self._split(self.source[self.numbers[rows]], rows).whole()
        (split,) = self.batches([rows])
        return split.whole()

    def in_order(self, at_once: int) -> Iterator[Split]:
        return map(Split.whole, self.batches(torch.arange(len(self)).split(at_once)))

    def select(self, rows: Tensor) -> Streamed:
        return replace(self, numbers=self.numbers[rows], targets=self.targets[rows])

    def relabelled(self, targets: Tensor) -> Streamed:
        return replace(self, targets=targets)

    def reconstructed(self) -> Streamed:
        return replace(self, reconstructs=True)

    def pieces(self, rows: Tensor) -> Iterator[tuple[Split, Tensor]]:
        some = rows.split(max(1, self._within(_PIECE_BYTES) // rows[0].numel()))
        for own, split in zip(some, self.batches(each.flatten() for each in some), strict=True):
            yield split, torch.arange(own.numel(), device=self.device).view_as(own)

    def batches(self, rows: Iterable[Tensor]) -> Generator[Split]:
        """The examples of each row of numbers [n], as they are stored, on the device; there may be rows without end,
        and those to come are read meanwhile. One reading at a time: where another was begun, this one cannot go on, and
        raises RuntimeError.
        """
        asked: deque[Tensor] = deque()
        at_once = self._within(_READ_BYTES)

        def reads() -> Iterator[list[int]]:
            for row in rows:
                asked.append(row)
                yield from (part.tolist() for part in self.numbers[row].split(at_once))

        parts: list[Tensor] = []
        for part in self._readers.read(reads()):
            # A copy on a CPU too: what is read is handed over in shared memory, of which there may be little.
            parts.append(part.to(self.device, non_blocking=True, copy=True))
            if sum(map(len, parts)) == len(asked[0]):
                yield self._split(torch.cat(parts), asked.popleft())
                parts = []

    def held(self) -> Split:
        """All of them, in memory on the device; raises DataError where they do not fit."""
        chunks = torch.arange(len(self)).split(self._within(_PIECE_BYTES))
        try:
            with out_of_memory_named(awaited=False):
                one = self._split(self._one.unsqueeze(0), torch.arange(1)).inputs
                inputs = one.new_empty(len(self), *self.example_shape)
                for rows, split in zip(chunks, self.batches(chunks), strict=True):
                    inputs[rows] = split.inputs
                return self._split(inputs, torch.arange(len(self)))
        except OutOfMemory:
            raise DataError(
                f"{len(self):,} examples of {self._one.nbytes:,} bytes do not fit in the memory of {self.device}; with "
                "input: loader they are read as they are needed"
            ) from None
        finally:
            self.close()

    def close(self) -> None:
        """Ends the processes that read; more of them are started where more is to be read."""
        self.__dict__.pop("_readers", None)

    @cached_property
    def _readers(self) -> _Readers:
        return _Readers(self.source, self.device)

    def _within(self, size: int) -> int:
        """How many examples fit within so many bytes, at least one."""
        return max(1, size // max(1, self._one.nbytes))

    def _split(self, inputs: Tensor, rows: Tensor) -> Split:
        targets = inputs if self.reconstructs else self.targets[rows]
        return Split(inputs, targets, self.pixels).to(self.device, self.dtype)


def streamed(examples: Examples) -> Examples:
    """Examples that are read as they are needed, wherever they lie now."""
    if not isinstance(examples, Split):
        return examples
    itself = examples.targets is examples.inputs
    return Streamed(examples.inputs, torch.arange(len(examples)), examples.targets, examples.pixels, itself)


def held(examples: Examples) -> Examples:
    """Examples that lie in memory, on the device they were sent to."""
    return examples.held() if isinstance(examples, Streamed) else examples


@contextmanager
def reading(data: Data) -> Iterator[None]:
    """While examples of the data are read; afterwards no process reads any."""
    try:
        yield
    finally:
        for each in (data.train, data.validation, data.test):
            if isinstance(each, Streamed):
                each.close()


def lost_reader(error: Exception) -> str | None:
    """What an error says of a process that reads and was ended; None where it is another error."""
    # torch has no exception of its own for that, and raises it wherever the program stands.
    told = str(error).strip()
    return told.splitlines()[0] if isinstance(error, RuntimeError) and "DataLoader worker (pid" in told else None


class _Readers:
    """Processes that read ahead of what is taken, for as long as this is kept."""

    def __init__(self, source: Source, device: torch.device) -> None:
        self._asked = _Asked()
        self._loader: DataLoader[Tensor | DataError] = DataLoader(
            _Reads(source),
            batch_sampler=self._asked,
            num_workers=_number(device),
            collate_fn=_as_it_is,
            pin_memory=device.type == "cuda",
            persistent_workers=True,
            generator=torch.Generator(),  # or it would draw from a trial's own random numbers
        )

    def read(self, asked: Iterator[list[int]]) -> Iterator[Tensor]:
        """What is asked for, in that order."""
        self._asked.numbers = asked
        for part in self._loader:
            if isinstance(part, DataError):
                # A new one, which no frame keeps: else this one, and its readers, would stay.
                raise DataError(str(part))
            yield part
            if self._asked.numbers is not asked:
                raise RuntimeError("read again before it was read to its end")


def _number(device: torch.device) -> int:
    """How many processes read for one that trains, which keeps a core: on a GPU, its share of the machine's cores."""
    its = torch.get_num_threads()
    if device.type == "cuda":
        its = cores() // max(1, torch.cuda.device_count())
    return min(_MOST_READERS, max(1, its - 1))


class _Asked(Sampler[list[int]]):
    """The numbers of each batch, in the words of a DataLoader."""

    def __init__(self) -> None:
        self.numbers: Iterator[list[int]] = iter(())

    def __iter__(self) -> Iterator[list[int]]:
        return self.numbers


class _Reads(Dataset[Tensor]):
    """A source in the words of a DataLoader, which reads a batch in one call. What cannot be read is handed over as it
    is: raised in a worker, its sentence would be lost in that worker's traceback.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def __getitems__(self, numbers: list[int]) -> Tensor | DataError:
        try:
            return self._source[torch.tensor(numbers)]
        except DataError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch
