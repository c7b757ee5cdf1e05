"""What a computation may use, and whom it tells how far it is."""

import sys
import time

import torch

from seigh import _core
from seigh._distributed import Group


class Progress:
    """Draws the progress of a task in one line, with its rate and the time left: on a terminal, in a notebook, or into any
    stream. Tasks of less than `after` seconds are not drawn. Subclass it, or give any object with the same four methods, to
    draw elsewhere: begin(task, total, unit), advance(count), end(), note(text)."""

    def __init__(self, stream=None, after=1.0):
        self._stream, self._after = stream, after
        self._task, self._width, self._told = None, 0, set()

    def begin(self, task, total, unit):
        self._task, self._total, self._unit, self._done = task, total, unit, 0
        self._began = time.monotonic()

    def advance(self, count):
        self._done += count
        elapsed = time.monotonic() - self._began
        if elapsed < self._after or self._done == 0:
            return
        left = elapsed / self._done * max(self._total - self._done, 0)
        share = self._done / self._total if self._total else 1
        bar = "█" * round(20 * min(share, 1))
        self._write(f"{self._task}: {share:4.0%} |{bar:<20}| {self._done}/{self._total} {self._unit} "
                    f"[{_clock(elapsed)}<{_clock(left)}, {self._done / elapsed:.3g}/s]")

    def end(self):
        if self._width:
            print(file=self._stream or sys.stderr, flush=True)
        self._width = 0

    def note(self, text):
        if text in self._told:  # by each of several calls
            return
        self._told.add(text)
        self.end()
        print(f"seigh: {text}", file=self._stream or sys.stderr, flush=True)

    def _write(self, line):
        print("\r" + line.ljust(self._width), end="", file=self._stream or sys.stderr, flush=True)
        self._width = len(line)


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def _watched():
    """Whether somebody looks at stderr: a terminal or a notebook."""
    if "ipykernel" in sys.modules:
        return True
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


class Context:
    """What a computation may use. The default serves: no argument need be given anywhere.

    Args:
        memory: ceiling of what this process may hold, bytes or "8G" (GiB), "8GB" (10⁹ bytes), "512M"; None: three quarters of what is
            available are used as needed.
        threads: of torch, BLAS and seigh's own loops; None: as many as torch uses (torch.get_num_threads()).
        device_memory: ceiling of what tensors on the model's device may hold, where that is not the CPU, as `memory`; None: nine tenths of what
            is free there.
        progress: None draws a line on a terminal or in a notebook, True always, False never; or an object with the methods of
            `Progress`. Of a group, the first process's alone.
        group: a torch.distributed process group whose processes share the work, True for all there are; None: this process alone. All
            of them must then make the same calls in the same order with the same arguments; `eigh` and what else computes with products
            share those out, and each process gets the whole result. The memory ceilings are each process's.
    Raises:
        ValueError: a number of threads or a ceiling out of range; a group without torch.distributed.init_process_group(). MemoryError: a
            ceiling below what the process holds already.

    Products and what is made of them are computed where the model is.
    """

    def __init__(self, memory=None, threads=None, device_memory=None, progress=None, group=None):
        if threads is not None and not 1 <= int(threads) <= 4096:
            raise ValueError(f"threads must lie between 1 and 4096, not {threads}")
        def bytes_of(ceiling):
            return 0 if ceiling is None else _core.parse_bytes(ceiling) if isinstance(ceiling, str) else int(ceiling)

        if progress is None:
            progress = Progress() if _watched() else None
        elif progress is True:
            progress = Progress()
        elif progress is False:
            progress = None
        self._group = None if group is None or group is False else Group(group)
        if not self.speaks:
            progress = None
        self._core = _core.Context(bytes_of(memory), bytes_of(device_memory), torch.get_num_threads() if threads is None else int(threads), progress,
                                   self._group)

    def _of_device(self, device):
        """The extension's context for work on a device: processes that share it have equal parts of it. For all of a group together."""
        if self._group is None:
            return self._core
        return self._core.sharing(str(device), self._group.sharing(device))

    def _together(self, work):
        """What work() gives, once all processes of the group have done it; what it raises in one of them is raised in all."""
        if self._group is None:
            return work()
        failure = result = None
        try:
            result = work()
        except Exception as error:
            failure = error
        failures = self._group.gathered(None if failure is None else f"{type(failure).__name__}: {failure}")
        if failure is not None:
            raise failure
        for rank, text in enumerate(failures):
            if text is not None:
                raise RuntimeError(f"process {rank}: {text}")
        return result

    @property
    def threads(self):
        """Threads of torch, BLAS and seigh's own loops."""
        return self._core.threads

    @property
    def speaks(self):
        """Whether this process says what all of a group have to say."""
        return self._group is None or self._group.rank == 0

    def wait(self):
        """Returns when all processes of the group have come here."""
        if self._group is not None:
            self._group.wait()

    @property
    def available(self):
        """Bytes that may still be taken."""
        return self._core.available()

    def __repr__(self):
        ceiling = self._core.ceiling()
        return f"seigh.Context({'no ceiling' if ceiling == 0 else _core.format_bytes(ceiling)}, {self.threads} threads)"


_default = None


def core_of(context):
    """The extension's context of a Context; of None the default one, which follows torch's number of threads."""
    global _default
    if context is not None:
        return context._core
    if _default is None or _default.threads != torch.get_num_threads():
        _default = Context()
    return _default._core
