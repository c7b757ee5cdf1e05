"""What the command-line tests share: the program, tiny data sets and recipes, and readers of its files that share no
code with it."""

import atexit
import contextlib
import functools
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

import h5py
import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SEIGH = os.environ.get("SEIGH", str(ROOT / "build/release/bin/seigh"))

# D = 16*6 + 6 + 6*10 + 10 = 172 parameters: a run takes about a second, most of it the start of the program.
RECIPE = """\
seed = 7
[data]
image_size = 4
validation_samples = 100
[model]
hidden = [6]
[train]
steps = 20
batch_size = 50
learning_rate = 0.5
checkpoints = 10
[curvature]
samples = 100
steps = [10, 20]
[eigh]
method = "seigh"
k = 10
products = 30
probes = 5
[dense]
steps = [20]
[overlap]
random_masks = 8
"""
PARAMETERS = 172
# 40 shards of two columns; a run takes a second or two.
STORE = (RECIPE.replace("steps = [10, 20]", 'steps = [20]\nsplits = ["test"]').replace("steps = [20]\n[overlap]", "steps = []\n[overlap]")
         .replace("k = 10", "k = 40\nblock = 2").replace("products = 30", "products = 80"))


def write_idx(path, array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + b"".join(struct.pack(">I", n) for n in array.shape)
    Path(path).write_bytes(header + array.astype(np.uint8).tobytes())


def write_data(folder, train=600, test=200, size=8, seed=0):
    """A data set in MNIST's form: ten blurred blobs and noise."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    centres = rng.uniform(1, size - 1, (10, 2, 2))
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1)
    for name, count in (("train", train), ("t10k", test)):
        labels = np.arange(count) % 10
        blobs = np.exp(-((grid[None, None] - centres[:, :, None, None]) ** 2).sum(-1) / 3).sum(1)  # [10, size, size]
        images = blobs[labels] * 160 + rng.uniform(0, 60, (count, size, size))
        order = rng.permutation(count)
        write_idx(folder / f"{name}-images-idx3-ubyte", np.clip(images[order], 0, 255))
        write_idx(folder / f"{name}-labels-idx1-ubyte", labels[order])
    return folder


def environment():
    env = {key: value for key, value in os.environ.items() if not key.startswith("SEIGH")}
    env.update(LC_ALL="C.UTF-8", COLUMNS="80")
    return env


def seigh(*arguments, cwd=None, timeout=900, prefix=(), **more):
    """Runs the program; the result has returncode, stdout, stderr."""
    return subprocess.run([*prefix, SEIGH, *map(str, arguments)], cwd=cwd, timeout=timeout, capture_output=True, text=True,
                          errors="replace", env=environment(), **more)


def read_safetensors(path):
    """-> ({name: array} in header order, metadata), straight from the format's description."""
    content = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8:8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert entry["dtype"] == "F32", entry
        data = np.frombuffer(content[8 + length:][begin:end], "<f4")
        tensors[name] = data.reshape(entry["shape"])
    return tensors, metadata


def crc64(content):
    """CRC-64 as .xz files have it, bit by bit from its polynomial."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0xC96C5795D7870F42 if byte & 1 else 0)
        table.append(byte)
    total = 2 ** 64 - 1
    for byte in content:
        total = (total >> 8) ^ table[(total ^ byte) & 255]
    return total ^ (2 ** 64 - 1)


def seal_again(path):
    """Gives a file of seigh's that the test has changed the checksums of what it holds now (docs/file_format.md)."""
    content = bytearray(Path(path).read_bytes())
    if Path(path).suffix == ".safetensors":
        (length,) = struct.unpack("<Q", content[:8])
        at = 8 + content[8:].index(b'"seal":"') + 8
        content[at + 16:at + 32] = b"%016x" % crc64(content[8 + length:])
        content[at:at + 16] = b"0" * 16
        content[at:at + 16] = b"%016x" % crc64(content[8:8 + length])
    else:
        # A change moves data sets, so everything becomes one rest; columns are found by the checksums beside them.
        text = b"seigh seal 1\nbytes %d\nrest %016x\n" % (len(content), crc64(content[512:]))
        text += b"seal %016x\n" % crc64(text)
        content[:512] = text.ljust(512, b"\0")
    Path(path).write_bytes(content)


@contextlib.contextmanager
def changed(path):
    """An HDF5 file of seigh's to be changed by the test."""
    with h5py.File(path, "r+") as file:
        yield file
    seal_again(path)


def attributes(file):
    """Those of an open HDF5 file; h5py gives strings of fixed length as bytes."""
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in file.attrs.items()}


def flat(tensors):
    return np.concatenate([t.ravel() for t in tensors.values()])


def snapshot(folder):
    """What must not depend on interruptions: every number of every finished file, but times, memory and the log."""
    folder = Path(folder)
    content = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.startswith("partial"):  # of what is not finished
            continue
        if path.suffix == ".safetensors" or path.name == "recipe.toml":
            content[name] = path.read_bytes()
        elif path.suffix == ".h5":
            with h5py.File(path) as file:
                content[name] = {key: (data[()].tobytes(), data.dtype, data.shape) for key, data in file.items()}
                content[name + " attributes"] = {key: value for key, value in file.attrs.items()
                                                 if key not in ("seconds", "peak_bytes", "made_from")}
        elif path.suffix == ".html":
            content[name] = True
    return content


def low_rank(n, rank, seed=0, dtype=np.float64):
    """A symmetric indefinite matrix and its eigenvalues by falling magnitude."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((n, rank)))
    values = 10.0 * 0.8 ** np.arange(rank) * np.where(np.arange(rank) % 3 == 1, -1, 1)
    a = (q * values) @ q.T
    return ((a + a.T) / 2).astype(dtype), values


def by_magnitude(values):
    return values[np.argsort(-np.abs(values), kind="stable")]


class Case(unittest.TestCase):
    """A scratch folder for each test, and for each class the data set and one finished run."""

    maxDiff = None

    def setUp(self):
        self.tmp = Path(tempfile.mkdtemp(prefix="seigh-cli-"))
        self.addCleanup(shutil.rmtree, self.tmp, ignore_errors=True)

    @staticmethod
    @functools.cache
    def shared():
        """-> a folder with recipe.toml, data/ and a finished run run/; to be copied, not changed."""
        folder = Path(tempfile.mkdtemp(prefix="seigh-cli-shared-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        write_data(folder / "data")
        (folder / "recipe.toml").write_text(RECIPE)
        done = seigh("run", folder / "recipe.toml", "--data", folder / "data", "--out", folder / "run", "--threads", "1",
                     "--set", "name=tiny")
        assert done.returncode == 0, done.stderr
        (folder / "stdout").write_text(done.stdout)
        return folder

    @property
    def recipe(self):
        return self.shared() / "recipe.toml"

    @property
    def data(self):
        return self.shared() / "data"

    def run_copy(self, name="run"):
        """A copy of the finished run that the test may damage."""
        return Path(shutil.copytree(self.shared() / "run", self.tmp / name))

    def ok(self, *arguments, **more):
        done = seigh(*arguments, **more)
        self.assertEqual(done.returncode, 0, f"seigh {' '.join(map(str, arguments))}\n{done.stderr}")
        return done

    def refused(self, *arguments, says=(), **more):
        """Exit code 2 and one line of plain words on stderr, among them `says` (regular expressions)."""
        return self.check_refused(seigh(*arguments, **more), says)

    def check_refused(self, done, says=()):
        what = f"{' '.join(done.args)}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        self.assertEqual(done.returncode, 2, what)
        # Not counted: progress, and what a sanitized build says of an allocation that is meant to fail.
        other = r".*: \d+ \S+ in .* s$|==\d+==WARNING: AddressSanitizer failed to allocate"
        lines = [line for line in done.stderr.splitlines() if not re.match(other, line)]
        self.assertEqual(len(lines), 1, what)
        line = lines[0]
        self.assertTrue(line.startswith("seigh: "), what)
        self.assertLess(len(line), 600, what)
        for noise in ("libtorch", "c10:", "std::", "nlohmann", "json.exception", "basic_", "enforce fail", "Exception raised",
                      "filesystem error", "vector::", "terminate"):
            self.assertNotIn(noise, line, what)
        for words in [says] if isinstance(says, str) else says:
            self.assertRegex(line, words)
        return line
