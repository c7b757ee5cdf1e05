"""Along training: checkpoints, eigenpairs and overlap from within the user's own loop."""

import copy
import os

from seigh import _core
from seigh._context import core_of
from seigh._distributed import first_process
from seigh._run import Problem, _toml
from seigh._source import beneath


class Recorder:
    """Keeps checkpoints of a network in a run folder while it is trained, each with its eigenpairs and its overlap, in the format that
    `seigh show`, `report` and recipes understand.

        recorder = seigh.Recorder(model, loss, data, every=100, k=50)
        for step, (x, y) in enumerate(batches):
            recorder(step)
            ...                       # the user's own step
        recorder.finish(step + 1)     # the last state, and report.html

    The network is put into evaluation mode for as long as its curvature is taken, and back into what it was. Among several processes of
    torch.distributed (data-parallel training) the first one records, or all of them together by `context=seigh.Context(group=True)`; the data are then the same in all.

    Args:
        model, loss, data: as of `seigh.Hessian`. data may be a dictionary {"train": ..., "test": ...}.
        every: which steps are recorded: every n-th, from 0; or a collection of steps.
        k: eigenpairs; 0: checkpoints alone.
        out: the run folder, which must not hold another run. name: of the report; default the folder's.
        more: further keys of a recipe, {"eigh.method": "krylov"} (`seigh run --keys`).
        weight, reduction: as of `seigh.Hessian`.
        context: limits, and a group of processes (`Context`).
    """

    def __init__(self, model, loss, data, *, every=1, k=10, out="runs/recorded", name=None, more=None, weight=None, reduction="mean", context=None):
        self._model, self._loss, self._every, self._k, self._out = beneath(model), loss, every, k, os.fspath(out)
        self._data = data if isinstance(data, dict) and set(data) <= {"train", "test"} else {"train": data}
        self._more, self._weight, self._reduction, self._context = dict(more or {}), weight, reduction, context
        self._name = name or os.path.basename(os.path.normpath(self._out))
        self._steps, self._problem, self._lines = [], None, []
        together = context is not None and context._group is not None
        self._records = together or first_process()
        self._speaks = context.speaks if together else self._records
        if self._records and _core.holds_run(self._out):
            raise ValueError(f"{self._out} holds a run already; choose another folder with out=, or remove it")
        if together:
            context.wait()  # before one begins

    def __call__(self, step):
        """Records step number `step` if it is due; says so by True."""
        due = step % self._every == 0 if isinstance(self._every, int) else step in self._every
        if due:
            self.record(step)
        return due

    def once(self, step):
        """Records step number `step` if it is due and later than the last one recorded, as where gradients are accumulated over several batches."""
        return (not self._steps or step > self._steps[-1]) and self(step)

    def record(self, step):
        """Records the network as it is, as that of `step`: an ascending number."""
        if self._steps and step <= self._steps[-1]:
            raise ValueError(f"step {step} is not after step {self._steps[-1]}, the last one recorded")
        if not self._records:
            self._steps.append(step)
            return
        modes = [(part, part.training) for part in self._model.modules()]
        self._model.eval()
        try:
            if self._problem is None:
                self._problem = Problem(self._model, self._loss, self._data.get, type(self._model).__name__, self._weight, self._reduction)
            self._run(self._steps + [step])
            self._steps.append(step)
        finally:
            for part, training in modes:
                part.training = training

    def _run(self, steps):
        keys = {"name": self._name, "model.python": os.path.join(os.getcwd(), "recorded.py:model"), "data.python": os.path.join(os.getcwd(), "recorded.py:data"),
                "curvature.splits": list(self._data), "train.steps": steps[-1], "train.checkpoints": steps}
        keys["eigh.k"] = max(self._k, 1)
        keys.update(self._more)
        words = [f"{key}={_toml(value)}" for key, value in keys.items()]
        _core.run("", "Recorder", words, self._out, bool(self._steps), "", lambda keys: self._problem, self._line, core_of(self._context), self._k > 0)

    def _line(self, text):
        if text not in self._lines:
            self._lines.append(text)
            if self._speaks:
                print(text)

    def finish(self, step=None):
        """Records the network at `step`, if one is given and was not recorded, and returns the path of report.html."""
        if step is not None and (not self._steps or step > self._steps[-1]):
            self.record(step)
        if self._context is not None:
            self._context.wait()  # for the one that writes
        return os.path.join(self._out, "report.html")
