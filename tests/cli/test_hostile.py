"""Files with a wrong bit, files that ask for too much, and run folders from somebody who means harm: refused in one line, in a
time that goes with the size of the file, or of no consequence."""

import random
import time
import unittest
import zlib
from concurrent.futures import ThreadPoolExecutor

from support import *

SHARDS = RECIPE.replace("steps = [10, 20]", 'steps = [20]\nsplits = ["test"]').replace("steps = [20]\n[overlap]", "steps = []\n[overlap]")


def flip(path, bit):
    content = bytearray(Path(path).read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    Path(path).write_bytes(content)


class Bits(Case):
    """Of each kind of file, some bits drawn at random and those that libhdf5 is known to die of."""

    def trial(self, make, name, command, same, bit):
        run = make(f"{Path(name).stem}_{bit}")
        file = next(run.glob(name))
        flip(file, bit % (8 * file.stat().st_size))
        done = seigh(*command(run), timeout=120)
        if done.returncode == 0:
            same(run)
            return "same"
        line = self.check_refused(done)
        self.assertIn(file.name, line)
        return "refused"

    def trials(self, make, name, command, same, count=8):
        rng = random.Random(name)
        probe = make("probe_" + Path(name).stem)
        content = next(probe.glob(name)).read_bytes()
        bits = [rng.randrange(8 * len(content)) for _ in range(count - 2)]
        bits += [rng.randrange(8 * 512), 8 * (len(content) - 1)]
        self.assertNotIn(b"GCOL", content)  # the heap of strings of variable length
        with ThreadPoolExecutor(2) as pool:
            outcomes = list(pool.map(lambda bit: self.trial(make, name, command, same, bit), bits))
        return outcomes

    def resume(self, run):
        return "run", run / "recipe.toml", "--data", self.data, "--out", run, "--resume", "--threads", 1

    def test_results(self):
        whole = snapshot(self.shared() / "run")
        for name in ("checkpoints/step_000010.safetensors", "eigen/step_000020_train_hessian_seigh.h5",
                     "overlap/step_000010_test_hessian_seigh.h5"):
            outcomes = self.trials(self.run_copy, name, self.resume, lambda run: self.assertEqual(snapshot(run), whole))
            self.assertEqual(outcomes, ["refused"] * len(outcomes), name)

    def measured(self):
        """-> a function that makes copies of a run whose measurements are there and nothing made of them."""
        run = self.tmp / "measured"
        (self.tmp / "recipe.toml").write_text(SHARDS)
        self.ok("run", self.tmp / "recipe.toml", "--data", self.data, "--out", run, "--threads", 1, "--set", "eigh.keep_measurements=true")
        for file in [*run.glob("eigen/*"), *run.glob("overlap/*"), run / "report.html"]:
            file.unlink()
        return lambda name: Path(shutil.copytree(run, self.tmp / name))

    def test_measurements(self):
        make = self.measured()
        whole = make("whole")
        self.ok(*self.resume(whole))
        values = [h5py.File(path)["eigenvalues"][()] for path in sorted(whole.glob("eigen/*.h5"))]

        def same(run):
            for expected, path in zip(values, sorted(run.glob("eigen/*.h5"))):
                with h5py.File(path) as file:
                    np.testing.assert_array_equal(file["eigenvalues"][()], expected)
        outcomes = self.trials(make, "partial/*/plan.h5", self.resume, same)
        self.assertEqual(outcomes, ["refused"] * len(outcomes))
        # A damaged shard is measured again, and the user told.
        outcomes = self.trials(make, "partial/*/columns_000000.h5", self.resume, same)
        self.assertEqual(outcomes, ["same"] * len(outcomes))

    def test_checksums_are_those_described(self):
        """docs/file_format.md, held against an implementation of its own."""
        for path in [*self.shared().glob("run/*/*.h5"), *self.shared().glob("run/*/*.safetensors")]:
            before = path.read_bytes()
            copy = self.tmp / path.name
            copy.write_bytes(before)
            seal_again(copy)
            if path.suffix == ".safetensors":
                self.assertEqual(copy.read_bytes(), before)
            self.ok("show", copy)


class Sizes(Case):
    def refused_quickly(self, *arguments, seconds=20, **more):
        begin = time.monotonic()
        line = self.refused(*arguments, **more)
        self.assertLess(time.monotonic() - begin, seconds, line)

    def test_hdf5(self):
        with h5py.File(self.tmp / "bomb.h5", "w") as file:  # 8 TB of nothing
            file.create_dataset("h", (1 << 20, 1 << 20), chunks=(1 << 10, 1 << 10), dtype="f8", compression="gzip")
        self.assertLess((self.tmp / "bomb.h5").stat().st_size, 10_000)
        self.refused_quickly("eigh", "--matrix", self.tmp / "bomb.h5", "--k", 1, says="too large")
        self.refused_quickly("show", self.tmp / "bomb.h5", says="too large")
        self.refused_quickly("--memory", "2G", "show", self.tmp / "bomb.h5", says="too large|too low")
        a, _ = low_rank(20, 5)
        with h5py.File(self.tmp / "attributes.h5", "w") as file:
            file["h"] = a
            for i in range(20):
                file.attrs[f"text {i}"] = "x" * 1000
        path = self.tmp / "attributes.h5"
        content = bytearray(path.read_bytes())
        for at in range(len(content)):  # wherever strings of variable length lie: damage there that hangs or kills libhdf5
            if content[at:at + 4] == b"GCOL":
                content[at + 24] ^= 8
                content[at + 8:at + 16] = b"\xff" * 8
        path.write_bytes(content)
        self.ok("eigh", "--matrix", path, "--k", 1, "--out", self.tmp / "out.h5", timeout=60)
        self.ok("show", path, timeout=60)

    def test_gzip(self):
        data = Path(shutil.copytree(self.data, self.tmp / "data"))
        (data / "train-images-idx3-ubyte").unlink()
        header = struct.pack(">BBBBIII", 0, 0, 8, 3, 1 << 22, 1 << 10, 1 << 10)  # 4 TB
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        packed = packer.compress(header) + packer.compress(bytes(100 << 20)) + packer.flush()
        (data / "train-images-idx3-ubyte.gz").write_bytes(packed)
        begin = "run", self.recipe, "--data", data, "--out", self.tmp / "run"
        self.refused_quickly(*begin, says="sizes promise")
        shape = 1 << 20, 10, 10  # what it holds
        header = struct.pack(">BBBBIII", 0, 0, 8, 3, *shape)
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        (data / "train-images-idx3-ubyte.gz").write_bytes(packer.compress(header) + packer.compress(bytes(100 << 20)) + packer.flush())
        self.refused_quickly("--memory", "700M", *begin, says="too large|too low|memory")

    def test_nested(self):
        def file(name, content):
            (self.tmp / name).write_text(content)
            return self.tmp / name
        page = '<script type="application/json" id="data">%s</script>'
        self.refused_quickly("show", file("a.html", page % ("[" * 50_000_000)), says="levels")
        deep = "a" + ".a" * 100_000
        for text in (f"{deep} = 1", f"[{deep}]", "x = " + "[" * 100_000, "x = " + "{a=" * 100_000, "x" * 3_000_000 + " = 1",
                     "data." + "y" * 3_000_000 + " = 1", '"' + "z." * 1_000_000 + '" = 1', "x" * 10_000_000):
            self.refused_quickly("run", file("r.toml", text), "--out", self.tmp / "run", says="r.toml")
        self.refused_quickly("run", "/dev/zero", "--out", self.tmp / "run", says="bytes")
        self.refused_quickly("run", self.recipe, "--out", self.tmp / "run", "--set", f"{deep[:20_000]}=1", says="parts")
        header = '{"w":' * 300_000
        (self.tmp / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
        self.refused_quickly("show", self.tmp / "w.safetensors", says="w.safetensors")
        self.refused_quickly("run", self.recipe, "--data", self.data, "--out", self.tmp / "run", "--set", "overlap.random_masks=100000000",
                             says="random_masks")

    def test_huge_numbers(self):
        """2^62 and 2^63 - 1 for every integer: done with, or refused in one line."""
        keys = re.findall(r"^(\S+)  \((integers?),", self.ok("run", "--keys").stdout, re.M)
        self.assertGreater(len(keys), 25)
        jobs = []
        for key, kind in keys:
            for n in (2 ** 62, 2 ** 63 - 1, -2 ** 63):
                value = f"[{n}]" if kind == "integers" else n
                jobs.append(("run", self.recipe, "--data", self.tmp, "--out", self.tmp / "run", "--dry-run", "--set", f"{key}={value}"))
        a, _ = low_rank(30, 5)
        np.save(self.tmp / "a.npy", a)
        options = {"--k": (), "--products": ("--k", 3), "--seed": ("--k", 3), "--probes": ("--k", 3), "--block": ("--k", 3)}
        for option, more in options.items():
            for n in (2 ** 62, 2 ** 63 - 1, -2 ** 63):
                jobs.append(("eigh", "--matrix", self.tmp / "a.npy", "--out", self.tmp / "o.h5", *more, option, n))
        jobs += [("verify", self.shared() / "run", "--columns", 2 ** 63 - 1), ("show", self.tmp / "a.npy", "--numbers", 2 ** 63 - 1),
                 ("measure", self.shared() / "run", "--shard", f"1/{2 ** 63 - 1}"), ("--threads", 2 ** 62, "show", self.tmp / "a.npy"),
                 ("--memory", 2 ** 63 - 1, "show", self.tmp / "a.npy")]
        with ThreadPoolExecutor(2) as pool:
            for arguments, done in zip(jobs, pool.map(lambda job: seigh(*job, timeout=60), jobs)):
                with self.subTest(" ".join(map(str, arguments[-2:]))):
                    if done.returncode != 0:
                        self.check_refused(done)
        self.assertFalse((self.tmp / "run").exists())


class Folders(Case):
    """Run folders as somebody may send them."""

    def resume(self, run):
        return "run", run / "recipe.toml", "--data", self.data, "--out", run, "--resume", "--threads", 1

    def test_links_are_not_written_through(self):
        for name in (".lock", "log.jsonl", "checkpoints", "eigen", "overlap", "partial", "old", "old/1", "partial/x", "partial/x/claims"):
            run, mine = self.run_copy("run " + name.replace("/", " ")), self.tmp / f"mine {name.replace('/', ' ')}"
            place = run / name
            if place.is_dir():
                shutil.rmtree(place)
            place.unlink(missing_ok=True)
            place.parent.mkdir(exist_ok=True, parents=True)
            if name in (".lock", "log.jsonl", "partial/x/claims"):
                mine.write_text("precious")
            else:
                mine.mkdir()
            place.symlink_to(mine)
            line = self.refused(*self.resume(run), "--set", "eigh.k=8", says="symbolic link")
            self.assertIn(name, line)
            self.assertEqual(mine.read_text() if mine.is_file() else list(mine.iterdir()), "precious" if mine.is_file() else [])

    def test_links_in_place_of_files_are_replaced(self):
        run, mine = self.run_copy(), self.tmp / "mine"
        mine.write_text("precious")
        for name in ("report.html", "overlap/step_000020_train_hessian_seigh.h5"):
            (run / name).unlink()
        (run / "report.html").symlink_to(mine)
        self.ok(*self.resume(run))
        self.assertEqual(mine.read_text(), "precious")
        self.assertFalse((run / "report.html").is_symlink())

    def test_names_are_shown_escaped(self):
        run = self.run_copy()
        bad = os.fsencode(run / "checkpoints") + b"/step_000099.safetensors"
        (run / "checkpoints/step_000010.safetensors").rename(os.fsdecode(bad))
        odd = self.tmp / "a\x1b[31m\nb\udcff.npy"
        odd.write_bytes(b"nonsense")
        done = subprocess.run([SEIGH, "show", odd], capture_output=True, env=environment())
        self.assertEqual(done.returncode, 2)
        self.assertIn(rb"a\x1b[31m\nb\xff.npy", done.stderr)
        self.assertEqual(done.stderr.count(b"\n"), 1)
        self.assertNotIn(b"\x1b", done.stderr)
        text = json.dumps({"__metadata__": {"k\x1b": "v\x1b]0;x\x07"}, "w\x9b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
                          ensure_ascii=False).encode()
        (self.tmp / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
        with h5py.File(self.tmp / "w.h5", "w") as file:
            file["w\x1b[2J"] = np.zeros(3)
        (self.tmp / "w.jsonl").write_text('{"a": "\x1b[2J"}\n')
        for name in ("w.safetensors", "w.h5", "w.jsonl"):
            shown = self.ok("show", self.tmp / name).stdout
            self.assertNotRegex(shown, "[\x1b\x07\x9b]")
            self.assertIn(r"\x1b", shown)

    def test_hdf5_stays_in_its_file(self):
        a, _ = low_rank(12, 4)
        with h5py.File(self.tmp / "secret.h5", "w") as file:
            file["h"] = a
        a.tofile(self.tmp / "secret.raw")
        layout = h5py.VirtualLayout((12, 12), "f8")
        layout[:] = h5py.VirtualSource(str(self.tmp / "secret.h5"), "h", (12, 12))
        with h5py.File(self.tmp / "a.h5", "w") as file:
            file["link"] = h5py.ExternalLink(str(self.tmp / "secret.h5"), "/h")
            file["soft"] = h5py.SoftLink("/link")
            file.create_virtual_dataset("virtual", layout)
            file.create_dataset("raw", (12, 12), "f8", external=[(str(self.tmp / "secret.raw"), 0, h5py.h5f.UNLIMITED)])
            file["good"] = a
            file["near"] = h5py.SoftLink("/good")
        with h5py.File(self.tmp / "a.h5") as file:  # h5py follows them all
            for name in file:
                np.testing.assert_array_equal(file[name][()], a)
        for name in ("link", "soft", "virtual", "raw"):
            self.refused("eigh", "--matrix", self.tmp / "a.h5", "--dataset", name, "--k", 2, "--out", self.tmp / "out.h5", says="other files|another file")
        for name in ("good", "near"):
            self.ok("eigh", "--matrix", self.tmp / "a.h5", "--dataset", name, "--k", 2, "--out", self.tmp / "out.h5")


class Processes(Case):
    def test_locks_that_fail_are_errors(self):
        """A file system without locks is not another process at work: else nothing would be measured, and that called done."""
        source = self.tmp / "locks.c"
        source.write_text("""
            #define _GNU_SOURCE
            #include <dlfcn.h>
            #include <errno.h>
            #include <fcntl.h>
            #include <stdarg.h>
            #include <stdlib.h>
            static int refuse(const char* which) {
              const char* chosen = getenv(which);
              if (chosen) errno = atoi(chosen);
              return chosen != 0;
            }
            int flock(int fd, int operation) {
              int (*real)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "flock");
              return refuse("TEST_FLOCK") ? -1 : real(fd, operation);
            }
            static int control(const char* name, int fd, int command, void* argument) {
              int (*real)(int, int, ...) = (int (*)(int, int, ...))dlsym(RTLD_NEXT, name);
              return command == F_OFD_SETLK && refuse("TEST_FCNTL") ? -1 : real(fd, command, argument);
            }
            int fcntl(int fd, int command, ...) {
              va_list list; va_start(list, command); void* argument = va_arg(list, void*); va_end(list);
              return control("fcntl", fd, command, argument);
            }
            int fcntl64(int fd, int command, ...) {
              va_list list; va_start(list, command); void* argument = va_arg(list, void*); va_end(list);
              return control("fcntl64", fd, command, argument);
            }
            """)
        library = self.tmp / "locks.so"
        if shutil.which("cc") is None or "SEIGH_SANITIZED" in os.environ:
            self.skipTest("needs a C compiler, and no sanitizer")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        (self.tmp / "recipe.toml").write_text(SHARDS)
        run = self.tmp / "run"
        self.ok("run", self.tmp / "recipe.toml", "--data", self.data, "--out", run, "--threads", 1)
        for file in [*run.glob("eigen/*"), *run.glob("overlap/*")]:
            file.unlink()
        measure = "measure", run, "--data", self.data, "--threads", 1
        for number, name in ((37, "No locks available"), (22, "Invalid argument"), (9, "Bad file descriptor")):
            for which in ("TEST_FLOCK", "TEST_FCNTL"):
                done = subprocess.run(list(map(str, (SEIGH, *measure))), capture_output=True, text=True,
                                      env=environment() | {"LD_PRELOAD": str(library), which: str(number)})
                self.check_refused(done, says=["cannot lock", name])
        done = subprocess.run(list(map(str, (SEIGH, *measure))), capture_output=True, text=True,
                              env=environment() | {"LD_PRELOAD": str(library), "TEST_FLOCK": "11"})
        self.check_refused(done, says="another seigh is working")  # the process that wrote its number has ended
        self.ok(*measure)

    def test_what_is_finished_leaves_nothing_behind(self):
        """A process killed between its result and tidying up."""
        (self.tmp / "recipe.toml").write_text(SHARDS)
        run = self.tmp / "run"
        arguments = "run", self.tmp / "recipe.toml", "--data", self.data, "--out", run, "--threads", 1
        self.ok(*arguments, "--set", "eigh.keep_measurements=true")
        self.assertTrue((run / "partial").exists())
        self.ok(*arguments, "--resume")
        self.assertFalse((run / "partial").exists())
        krylov = self.tmp / "krylov"
        self.ok("run", self.tmp / "recipe.toml", "--data", self.data, "--out", krylov, "--set", "eigh.method=krylov")
        left = krylov / "partial/step_000020_test_hessian_krylov"
        left.mkdir(parents=True)
        (left / "basis_0_0.h5").write_bytes(b"x")
        shutil.copy(krylov / "recipe.toml", left)
        self.ok("run", self.tmp / "recipe.toml", "--data", self.data, "--out", krylov, "--set", "eigh.method=krylov", "--resume")
        self.assertFalse((krylov / "partial").exists())

    def test_other_data_are_refused(self):
        (self.tmp / "recipe.toml").write_text(SHARDS)
        run = self.tmp / "run"
        arguments = "run", self.tmp / "recipe.toml", "--out", run
        self.ok(*arguments, "--threads", 1, "--data", self.data, "--set", "eigh.keep_measurements=true")
        for file in [*run.glob("eigen/*"), *run.glob("overlap/*")]:
            file.unlink()
        for path in list(run.glob("partial/*/columns_*.h5"))[1:]:
            path.unlink()
        other = write_data(self.tmp / "other", seed=1)
        for command in (("run", *arguments[1:], "--resume"), ("measure", run), ("recover", run), ("verify", run)):
            done = seigh(*command, "--data", other)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertRegex(done.stderr.splitlines()[-1], "^seigh: .*plan.h5 is of another matrix: its samples were others; .*delete")
        self.ok(*arguments, "--threads", 2, "--data", self.data, "--resume")  # sums in another order are the same matrix


if __name__ == "__main__":
    unittest.main()
