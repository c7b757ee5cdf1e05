"""Recipes: whole experiments with everything a run folder gives, of networks in Python too."""

import copy
import hashlib
import importlib.util
import inspect
import os
import sys

import numpy as np
import torch
from torch.nn import functional as F

from seigh import _core, _units
from seigh._context import Context, core_of
from seigh._data import Batches, Samples, read_data
from seigh._losses import takes_model
from seigh._source import Source, beneath, check_evaluation, choose_parameters
from seigh._tree import floats_to, leaves, rows_of, tree_map

_LOSSES = {"cross_entropy": F.cross_entropy, "mean_squared_error": F.mse_loss, "binary_cross_entropy": F.binary_cross_entropy_with_logits}


class Problem:
    """A module, its loss and its data of every split, as a run needs them (run/foreign.h). Checkpoints hold all trainable
    parameters, in the order of named_parameters(), and the floating buffers."""

    def __init__(self, module, loss, data, description, weight=None, reduction="mean"):
        self._module = beneath(module)
        check_evaluation(self._module)
        self._loss, self._data, self._description, self._weight, self._reduction = loss, data, description, weight, reduction
        self._chosen = choose_parameters(self._module, None)
        self._buffer_names = [name for name, b in self._module.named_buffers() if b.is_floating_point()]
        self._splits = {}

    def description(self):
        return self._description

    def parameters(self):
        return [(name, list(p.shape), *layout) for (name, p), layout in zip(self._chosen, _units.layouts(self._module, self._chosen))]

    def hidden_units(self):
        return _units.hidden_units(self._module, self._chosen)

    def buffers(self):
        named = dict(self._module.named_buffers())
        return [(name, list(named[name].shape)) for name in self._buffer_names]

    def _split(self, split):
        if split not in self._splits:
            given = self._data(split)
            if given is None:
                raise ValueError(f"there are no data of the split {split!r}; name others in curvature.splits")
            first = self._chosen[0][1]
            self._splits[split], notes = read_data(given, first.dtype, first.device, not takes_model(self._loss))
            for note in notes:
                print(f"seigh: {note}", file=sys.stderr)
        return self._splits[split]

    def samples(self, split):
        return self._split(split).count

    def checkpoint(self, path):
        module = self._module
        if path:
            module = copy.deepcopy(module)
            load_state(module, path)
        wide = torch.float64 if self._chosen[0][1].dtype == torch.float64 else torch.float32
        byname, buffers = dict(module.named_parameters()), dict(module.named_buffers())
        flat = torch.cat([byname[name].detach().reshape(-1).to("cpu", wide) for name, _ in self._chosen])
        where = f"{path} holds" if path else "the model has"
        if not torch.isfinite(flat).all():
            raise ValueError(f"{where} parameters that are NaN or infinite")
        kept = [buffers[name].detach().to("cpu", torch.float64 if buffers[name].dtype == torch.float64 else torch.float32).clone()
                for name in self._buffer_names]
        return flat, kept

    def loss(self, parameters, buffers):
        dtype = "float64" if parameters.dtype == torch.float64 else "float32"
        split = "train"
        try:
            self._split(split)
        except (KeyError, ValueError):  # there are test data alone
            split = "test"
        source = self.source(parameters, buffers, split, min(1000, self.samples(split)), dtype)
        with torch.no_grad():
            return sum(float(source.loss(source.leaves(), b, e)) for b, e in source.ranges()) / source.targets(0, source.samples)

    def _cut(self, split, samples):
        """The first samples of a split, as data."""
        whole = self._split(split)
        if isinstance(whole, Samples):
            return tree_map(lambda t: t[:samples], whole.x), whole.y[:samples]
        kept, left = [], samples
        for item in whole.items:
            rows = rows_of(item)
            kept.append(item if rows <= left else tree_map(lambda t: t[:left] if t.ndim > 0 else t, item))
            left -= min(rows, left)
            if left == 0:
                break
        return kept

    def source(self, parameters, buffers, split, samples, dtype_name):
        module = copy.deepcopy(self._module).to(getattr(torch, dtype_name))
        byname, named = dict(module.named_parameters()), dict(module.named_buffers())
        with torch.no_grad():
            at = 0
            for name, _ in self._chosen:
                p = byname[name]
                p.copy_(parameters[at:at + p.numel()].reshape(p.shape))
                at += p.numel()
            for name, value in zip(self._buffer_names, buffers):
                named[name].copy_(value)
        loss = self._loss
        if isinstance(loss, torch.nn.Module):
            loss = copy.deepcopy(loss).to(getattr(torch, dtype_name))
        data = self._cut(split, samples)
        data = floats_to(data, getattr(torch, dtype_name))
        return Source(module, loss, data, weight=self._weight, reduction=self._reduction)

    def digest(self, split, samples):
        """Numbers that differ where the data do: of every tensor its entries, a row for a sample where that fits."""
        cut = self._cut(split, samples)
        tensors = [t.detach().reshape(-1).double().cpu() for t in leaves(cut)]
        x = torch.cat(tensors) if tensors else torch.zeros(1)
        return x.reshape(1, -1), torch.tensor([[float(len(tensors)), float(x.numel())]])


def load_state(module, path):
    """Puts the parameters and buffers of a state_dict file into `module`: safetensors, or what torch.save() wrote, read by its safe loader."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file; model.weights names the parameters of every step")
    with open(path, "rb") as file:
        begin = file.read(2)
    if begin == b"PK" or path.endswith((".pt", ".pth", ".bin")):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(f"{path} cannot be read by torch's safe loader: {str(error).splitlines()[0]}; save the state_dict alone: "
                             "torch.save(model.state_dict(), path)") from None
        for key in ("state_dict", "model_state_dict", "model"):
            if isinstance(state, dict) and isinstance(state.get(key), dict):
                state = state[key]
    else:
        state = _core.read_tensors(path)
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds {type(state).__name__}, not a state_dict: torch.save(model.state_dict(), path)")
    expected = module.state_dict()
    # What compiled or parallel modules, and frameworks, put before the names.
    for prefix in ("_orig_mod.", "module.", "model."):
        if state and all(key.startswith(prefix) for key in state) and not any(key.startswith(prefix) for key in expected):
            state = {key[len(prefix):]: value for key, value in state.items()}
    state = {key: value for key, value in state.items() if not key.startswith("optimizer.")}
    missing = [name for name, _ in module.named_parameters() if name not in state]
    if missing:
        raise ValueError(f"{path} has no parameter {missing[0]!r} of the model" + (f", nor {len(missing) - 1} others" if len(missing) > 1 else ""))
    for key, value in expected.items():
        if key in state and tuple(state[key].shape) != tuple(value.shape):
            raise ValueError(f"{path}: {key} has shape {list(state[key].shape)}, in the model it has {list(value.shape)}")
    module.load_state_dict({key: value for key, value in state.items() if key in expected}, strict=False)


def _attribute(reference, key):
    """The object that "FILE.py:NAME" names."""
    path, _, name = reference.rpartition(":")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{key}: {path}: no such file")
    with open(path, "rb") as file:
        source = file.read()
    # By its content too: a file that was edited since is other code.
    loaded = "_seigh_code_" + hashlib.sha1(os.path.realpath(path).encode() + b"\0" + source).hexdigest()
    module = sys.modules.get(loaded)
    if module is None:
        spec = importlib.util.spec_from_file_location(loaded, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[loaded] = module
        sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
        try:
            exec(compile(source, path, "exec"), module.__dict__)
        except BaseException:
            del sys.modules[loaded]
            raise
        finally:
            sys.path.pop(0)
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{key}: {path} has no {name}")
        found = getattr(found, part)
    return found


def make_problem(keys):
    """The problem that a recipe's keys name; runs their code."""
    make = _attribute(keys["model"], "model.python")
    module = make() if not isinstance(make, torch.nn.Module) else make
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"model.python: {keys['model']} gives {type(module).__name__}, not a torch.nn.Module")
    given = _attribute(keys["data"], "data.python")
    takes_split = callable(given) and len(inspect.signature(given).parameters) > 0

    def data(split):
        if takes_split:
            return given(split)
        if split != "train":
            raise ValueError(f"data.python: {keys['data']} takes no split, so there is \"train\" alone; write FUNCTION(split)")
        return given() if callable(given) else given

    name = keys["loss"]
    if name in _LOSSES:
        loss, smoothing = _LOSSES[name], keys["label_smoothing"]
        if smoothing > 0:
            loss = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    else:
        loss = _attribute(name, "train.loss")
        if isinstance(loss, type) and issubclass(loss, torch.nn.Module):
            loss = loss()
    weight = getattr(loss, "weight_of_batch", None)
    return Problem(module, loss, data, f"{type(beneath(module)).__name__}, {os.path.basename(keys['model'])}", weight)


def run(recipe, *, out=None, set=(), resume=False, data=None, context=None):
    """Does a whole recipe: train or take weights, decompose, overlap, report; as `seigh run` does. Prints each result as it is known.
    Of a recipe with a [sweep] all its runs, in one folder, and prints their summary at the end (docs/sweeps.md).

    Args:
        recipe: path of the TOML file (`seigh run --keys` describes every key).
        out: run folder; None: runs/<name of the recipe>.
        set: overrides, "KEY=VALUE" each, or a dictionary.
        resume: goes on with what is in the folder.
        data: folder of the data set; None: $SEIGH_DATA, then the usual places.
    Returns:
        The run folder, a path.
    Raises:
        ValueError: the recipe, with its line; of a sweep also, at the end, that runs failed. OSError: files.
    """
    words = [f"{key}={_toml(value)}" for key, value in set.items()] if isinstance(set, dict) else list(set)
    folder = _core.run(None, os.fspath(recipe), words, os.fspath(out or ""), resume, os.fspath(data or ""), make_problem,
                       print if context is None or context.speaks else _silent, core_of(context))
    if context is not None:
        context.wait()  # for the one that writes
    return folder


def _silent(line):
    pass


def _toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


def report(folder, context=None, *, out=None, figures=None):
    """Writes report.html from what a run folder holds, and returns its path; or one page of several runs; or figures for print. Runs no code of
    the folder's.

    Args:
        folder: the run folder, or a list of several, which are only looked at; for figures also that of a sweep, or of a synthetic study.
        out: the page of several runs; None: report.html here.
        figures: a folder, made if need be. No page is written but all figures of docs/figures.md that there are data for, each as SVG and
            PDF, and nothing in `folder`. Prints a line for each, and for each kind left out, why.
    Returns:
        The path of the page, or a list of those of the figures' files.
    Raises:
        ValueError: nothing can be drawn yet, with what to run; figures of several folders; a seigh that was built without cairo. OSError: files.
    """
    several = not isinstance(folder, (str, os.PathLike))
    if figures is None and (several or out is not None):
        page = "report.html" if out is None else os.fspath(out)
        _core.joint_report([os.fspath(one) for one in folder] if several else [os.fspath(folder)], page, core_of(context))
        return os.path.abspath(page)
    if several:
        raise ValueError("figures are of one folder; name one run, or the folder of a sweep")
    if figures is None:
        return _core.report(os.fspath(folder), core_of(context))[0]
    if out is not None:
        raise ValueError("out= is of a page; figures= says where figures go")
    files, lines = _core.figures(os.fspath(folder), os.fspath(figures), core_of(context))
    for line in lines:
        print(line)
    return files


class Dynamics:
    """How masks and eigenspaces of a run's steps compare with each other.

    Attributes:
        maps: {name: float64 [sizes, steps, steps]}: "mask", the intersection over union of the masks of the k largest parameters; a split,
            the overlap of its top-k eigenspaces, (1/k) ‖UₛᵀUₜ‖²; two splits, "train_test", rows of the one against columns of the other; with
            another run "<split>_<matrix>_<the other's matrix>".
        steps: {name: (int64 [rows], int64 [columns])}.
        sizes, shares, chance: {name: [sizes]}: k, the share of all parameters it stands for, and what is expected of random masks or subspaces.
        crystallisation: a list of dictionaries what (a name), k, rho, reference (the step T), ceiling, similarity0 (of the first record
            with T), thresholds, steps, before: between which records similarity with T has come that far from chance to the ceiling, to stay.
            A step is None where it is later than the last record before T.
        gradients: {split: (steps [n], share [n, K])}: what of the gradient's square lies in the k leading eigenvectors' span.
        parameters: D. notes: what could not be compared. path: the file.
    """

    def __init__(self, found, path):
        self.maps, self.steps, self.sizes, self.shares, self.chance, self.crystallisation = {}, {}, {}, {}, {}, []
        for m in found["maps"]:
            name, rows = m["name"], np.array(m["steps"])
            self.maps[name] = m["values"].numpy()
            self.steps[name] = (rows, np.array(m["other_steps"]) if m["other_steps"] else rows)
            self.sizes[name], self.shares[name], self.chance[name] = (np.array(m[key]) for key in ("k", "rho", "chance"))
            self.crystallisation += m["crystallisation"]
        self.gradients = {split: (np.array(steps), share.numpy()) for split, steps, share in found["gradients"]}
        self.parameters, self.notes, self.path = found["parameters"], found["notes"].splitlines(), path

    def similarity(self, name, share):
        """The map of `name` at the share of parameters nearest to `share`: float64 [rows, columns]."""
        if name not in self.maps:
            raise KeyError(f"there are no maps of {name!r}, but of {', '.join(self.maps)}")
        return self.maps[name][np.abs(self.shares[name] - share).argmin()]

    def __repr__(self):
        sizes = ", ".join(f"{name} {' x '.join(str(len(s)) for s in steps)}" for name, steps in self.steps.items())
        return f"<seigh dynamics of {self.parameters} parameters: {sizes}>"


def dynamics(folder, other=None, *, context=None):
    """Similarities of all pairs of a run's steps, and when they settle; computed where dynamics.h5 is not of what the run folder holds now.
    Runs no code of the folder's.

    Args:
        folder: the run folder. other: another one of the same network and checkpoints, as of another `curvature.matrix`: this run's
            eigenspaces (rows) against that one's (columns).
    Returns:
        `Dynamics`.
    Raises:
        ValueError: fewer than two steps; runs of different networks or checkpoints. OSError: files.
    """
    found, path = _core.dynamics(os.fspath(folder), "" if other is None else os.fspath(other), core_of(context))
    return Dynamics(found, path)
