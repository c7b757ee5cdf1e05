"""Measurements on disk: killed, shared, damaged, on a full disk, within little memory."""

import atexit
import os
import random
import signal
import time
import unittest

from support import *

NAME = "step_000020_test_hessian_seigh"
not_sanitized = unittest.skipIf("SEIGH_SANITIZED" in os.environ, "a sanitizer's own memory is beyond the limits tested")


class Store(Case):
    def setUp(self):
        super().setUp()
        (self.tmp / "recipe.toml").write_text(STORE)

    def arguments(self, out, *more):
        return ["run", self.tmp / "recipe.toml", "--data", self.data, "--out", out, "--threads", "1", *more]

    @staticmethod
    @functools.cache
    def finished():
        """-> a folder with an undisturbed run whole/; to be copied, not changed."""
        folder = Path(tempfile.mkdtemp(prefix="seigh-cli-store-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        (folder / "recipe.toml").write_text(STORE)
        done = seigh("run", folder / "recipe.toml", "--data", Case.shared() / "data", "--out", folder / "whole", "--threads", "1",
                     "--set", "eigh.keep_measurements=true")
        assert done.returncode == 0, done.stderr
        return folder

    def undisturbed(self):
        return Path(shutil.copytree(self.finished() / "whole", self.tmp / "whole"))

    def trained(self, name="run"):
        """A run folder with checkpoints and nothing else."""
        if not (self.tmp / "whole").exists():
            self.undisturbed()
        run = self.tmp / name
        run.mkdir()
        shutil.copy(self.tmp / "whole/recipe.toml", run)
        shutil.copytree(self.tmp / "whole/checkpoints", run / "checkpoints")
        return run

    def shards(self, run):
        return sorted((run / "partial" / NAME).glob("columns_*.h5"))

    def same_sketch(self, run):
        mine, theirs = self.shards(run), self.shards(self.tmp / "whole")
        self.assertEqual([p.name for p in mine], [p.name for p in theirs])
        for a, b in zip(mine, theirs):
            self.assertEqual(a.read_bytes(), b.read_bytes(), a.name)

    def same_pairs(self, run):
        for folder in ("eigen", "overlap"):
            with h5py.File(run / folder / f"{NAME}.h5") as a, h5py.File(self.tmp / "whole" / folder / f"{NAME}.h5") as b:
                for key in b:
                    np.testing.assert_array_equal(a[key][()], b[key][()], key)

    def measure(self, run, *more):
        return ["measure", run, "--data", self.data, "--threads", "1", *more]

    def test_shards_are_hdf5(self):
        run = self.undisturbed()
        self.assertEqual(len(self.shards(run)), 40)
        with h5py.File(self.shards(run)[3]) as file:
            self.assertEqual(file["outer"].shape, (2, PARAMETERS))
            self.assertEqual(file["inner"].shape, (2, 80))
            self.assertEqual(file["outer"].dtype, np.float32)
        with h5py.File(self.shards(run)[30]) as file:
            self.assertEqual(file["outer"].shape, (0, PARAMETERS))  # only the first k columns are kept

    def test_sixteen_bits(self):
        """Half the bytes; 11 or 8 bits of every entry, which leading pairs do not notice. h5py gives bfloat16 as float32."""
        self.undisturbed()
        for storage, seen, ulp in (("float16", np.float16, 2.0 ** -11), ("bfloat16", np.float32, 2.0 ** -8)):
            half = self.tmp / storage
            self.ok(*self.arguments(half, "--set", "eigh.keep_measurements=true", "--set", f'eigh.storage="{storage}"'))
            with h5py.File(self.shards(half)[3]) as a, h5py.File(self.shards(self.tmp / "whole")[3]) as b:
                self.assertEqual(a["outer"].dtype, seen)
                self.assertEqual(a["outer"].id.get_storage_size(), 2 * a["outer"].size)
                y, exact = a["outer"][()].astype(np.float64) * a["scale"][()][:, None], b["outer"][()].astype(np.float64)
                np.testing.assert_allclose(y, exact, rtol=ulp, atol=2.0 ** -36 * np.abs(exact).max())
                self.assertGreater(np.abs(y - exact).max(), 0)
            with h5py.File(half / f"eigen/{NAME}.h5") as a, h5py.File(self.tmp / f"whole/eigen/{NAME}.h5") as b:
                np.testing.assert_allclose(a["eigenvalues"][:5], b["eigenvalues"][:5], rtol=0.01)
                self.assertLess(a.attrs["error_estimate"], 1.1 * b.attrs["error_estimate"])
            self.assertIn("sound", self.ok("verify", half, "--data", self.data, "--columns", 3).stdout)
        self.refused(*self.arguments(self.tmp / "x", "--set", 'eigh.storage="int4"'), says="float16")

    def test_ten_kills(self):
        run, rng = self.trained(), random.Random(5)
        kills = 0
        while kills < 10:
            before = len(self.shards(run))
            if before == 40:  # too fast for ten kills: once more from a few
                for shard in rng.sample(self.shards(run), 35):
                    shard.unlink()
                continue
            process = subprocess.Popen([SEIGH, *map(str, self.measure(run))], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       env=environment())
            while process.poll() is None and len(self.shards(run)) < before + rng.randrange(1, 4):
                time.sleep(0.0005)
            time.sleep(rng.uniform(0, 0.002))
            process.kill()
            process.communicate()
            kills += process.returncode == -signal.SIGKILL
        self.ok(*self.measure(run))
        self.same_sketch(run)
        self.ok("recover", run, "--data", self.data, "--threads", "1")
        self.ok("overlap", run, "--data", self.data, "--threads", "1")
        self.same_pairs(run)

    def test_two_processes_share(self):
        run = self.trained()
        both = [subprocess.Popen([SEIGH, *map(str, self.measure(run))], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 env=environment()) for _ in range(2)]
        for process in both:
            _, error = process.communicate(timeout=900)
            self.assertEqual(process.returncode, 0, error)
        self.same_sketch(run)

    def test_waiting_threads_sleep(self):
        """Two processes on the same cores: what waits must not spin. The program starts itself with the setting, under its own name,
        unless the user has one."""
        run = self.trained()
        for chosen in ({}, {"OMP_WAIT_POLICY": "passive"}):
            process = subprocess.Popen([SEIGH, *map(str, self.measure(run))], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                       env=environment() | chosen)
            seen = set()
            while process.poll() is None:
                try:
                    seen.add((Path(f"/proc/{process.pid}/comm").read_text().strip(),
                              "GOMP_SPINCOUNT=1000" in Path(f"/proc/{process.pid}/environ").read_text().split("\0")))
                except OSError:  # it has ended
                    pass
            output, error = process.communicate(timeout=900)
            self.assertEqual(process.returncode, 0, error)
            self.assertEqual(("seigh", True) in seen, not chosen, seen)
            self.assertNotIn("exe", {name for name, _ in seen})

    def test_parts_joined_by_copying(self):
        one, two = self.trained("one"), self.trained("two")
        self.ok(*self.measure(one, "--shard", "1/2"))
        self.ok(*self.measure(two, "--shard", "2/2"))
        self.assertEqual(len(self.shards(one)), 20)
        done = self.ok("recover", one, "--data", self.data)
        self.assertIn("40 products of 80 planned: a smaller sketch", done.stdout)
        with h5py.File(one / f"eigen/{NAME}.h5") as file:
            self.assertEqual(file.attrs["s"], 40)
            few = file.attrs["error_estimate"]
        for path in self.shards(two):
            shutil.copy(path, one / "partial" / NAME)
        self.ok("recover", one, "--data", self.data, "--threads", "1")
        self.ok("overlap", one, "--data", self.data, "--threads", "1")
        self.same_pairs(one)
        with h5py.File(one / f"eigen/{NAME}.h5") as file:
            self.assertLess(file.attrs["error_estimate"], few)
        for bad in ("0/2", "3/2", "x", "1/2/3", "1"):
            self.refused(*self.measure(one, "--shard", bad), says="--shard")

    def test_recovered_pairs_are_refined_as_a_runs_are(self):
        """Measured by fast products, held against products in float32."""
        self.ok(*self.arguments(self.tmp / "run", "--set", 'curvature.precision="bf16"', "--set", "eigh.keep_measurements=true"))
        path = self.tmp / f"run/eigen/{NAME}.h5"

        def pairs():
            with h5py.File(path) as file:
                return {name: file[name][:] for name in ("eigenvalues", "residuals")}

        ran = pairs()
        with h5py.File(self.undisturbed() / f"eigen/{NAME}.h5") as file:
            self.assertGreater(abs(file["residuals"][:] - ran["residuals"]).max(), 1e-4 * file["eigenvalues"][0])
        path.unlink()
        self.ok("recover", self.tmp / "run", "--data", self.data, "--threads", "1")
        for name, values in pairs().items():
            np.testing.assert_allclose(values, ran[name], rtol=1e-5, err_msg=name)

    def test_a_flipped_byte_is_found_and_mended(self):
        run = self.trained()
        self.ok(*self.measure(run))
        self.assertIn("sound", self.ok("verify", run, "--data", self.data, "--columns", 2).stdout)
        victim = self.shards(run)[7]
        content = bytearray(victim.read_bytes())
        with h5py.File(victim) as file:
            content[file["outer"].id.get_offset() + 21] ^= 64
        victim.write_bytes(content)
        torn = self.shards(run)[9]
        torn.write_bytes(torn.read_bytes()[:-50])
        done = seigh("verify", run, "--data", self.data)
        self.check_refused(done, "2 of the measurements are damaged")
        self.assertIn("columns_000007.h5", done.stdout)
        self.assertIn("columns_000009.h5", done.stdout)
        self.refused("verify", run, "--data", self.data, "--repair", says="removed")
        self.assertFalse(victim.exists() or torn.exists())
        self.ok(*self.measure(run))
        self.same_sketch(run)
        self.assertIn("sound", self.ok("verify", run, "--columns", 0).stdout)  # without data

    def test_damage_is_mended_on_resume(self):
        """Of a power cut or a bad disk: what continues reads what is there through, and measures again what it does not trust."""
        run = self.trained()
        self.ok(*self.measure(run))
        shards = self.shards(run)
        shards[5].write_bytes(shards[5].read_bytes()[:-50])
        content = bytearray(shards[30].read_bytes())
        with h5py.File(shards[30]) as file:
            content[file["inner"].id.get_offset() + 21] ^= 1
        shards[30].write_bytes(content)
        self.refused("recover", run, "--data", self.data, says=["columns_0000(05|30).h5", "verify .*--repair"])
        done = self.ok(*self.arguments(run, "--resume", "--set", "eigh.keep_measurements=true"))
        for number in ("05", "30"):
            self.assertRegex(done.stderr, f"note: .*columns_0000{number}.h5.*measured again")
        self.same_sketch(run)
        self.same_pairs(run)

    def test_full_disk(self):
        """A disk with room for a third of the shards: what is measured stays, the rest follows once there is room."""
        self.undisturbed()
        run = self.trained()
        disk = run / "partial"
        disk.mkdir()
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", disk]).returncode != 0:
            self.fail("needs the right to mount a tmpfs (root)")
        try:
            self.refused(*self.measure(run), says="No space left|of disk in|full|free")
            held = len(self.shards(run))
            self.assertGreater(held, 2)
            self.assertLess(held, 40)
            self.ok("verify", run, "--data", self.data)
            subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
            self.ok(*self.measure(run))
            self.same_sketch(run)
        finally:
            subprocess.run(["umount", disk], check=True)

    @not_sanitized
    def test_full_disk_under_a_basis(self):
        """krylov's basis on a disk that is too small from the start, and on one that fills up on the way."""
        disk = self.tmp / "disk"
        disk.mkdir()
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk]).returncode != 0:
            self.fail("needs the right to mount a tmpfs (root)")
        big = ("--set", "data.image_size=8", "--set", "model.hidden=[1500]", "--set", "eigh.method=krylov", "--set", "eigh.k=200",
               "--set", "eigh.products=400", "--set", "eigh.block=0", "--set", "eigh.vectors=false")
        try:
            run = disk / "run"
            arguments = ["--memory", "400M", *self.arguments(run, *big)]
            self.refused(*arguments, says="of disk in")
            self.refused("--memory", "4G", *arguments[2:], "--resume", says="of disk in")  # in memory, but kept there
            subprocess.run(["mount", "-o", "remount,size=260m", disk], check=True)
            filler = disk / "filler"
            filler.write_bytes(bytes(1 << 20))
            process = subprocess.Popen([SEIGH, *map(str, [*arguments, "--resume"])], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       text=True, env=environment())
            state = run / "partial" / NAME.replace("seigh", "krylov")
            while process.poll() is None and len(list(state.glob("basis_*.h5"))) < 8:
                time.sleep(0.001)
            with open(filler, "ab") as file:
                try:
                    while process.poll() is None:
                        file.write(bytes(1 << 16))
                        file.flush()
                except OSError:
                    pass
            output, error = process.communicate(timeout=900)
            self.assertEqual(process.returncode, 2, error)
            self.assertRegex(error.splitlines()[-1], "No space left")
            held = len(list(state.glob("basis_*.h5")))
            self.assertGreater(held, 7)
            filler.unlink()
            # Room for fewer columns than the products make: it restarts.
            process = subprocess.Popen([SEIGH, *map(str, [*arguments, "--resume"])], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       text=True, env=environment())
            restarted = False
            while process.poll() is None:
                restarted |= any(state.glob("basis_1_*.h5"))
                time.sleep(0.001)
            output, error = process.communicate(timeout=900)
            self.assertEqual(process.returncode, 0, error)
            self.assertTrue(restarted)
            self.assertFalse(state.exists())
        finally:
            subprocess.run(["umount", disk], check=True)

    @not_sanitized
    def test_memory_is_what_was_allowed(self):
        """The kernel enforces it (RLIMIT_DATA counts every private writable page that is mapped, used or not). Within the same limit
        four times the measurements pass, 450 MB in all; with them in memory the same run is refused."""
        # Stacks and the libraries' data, which the ceiling counts only where they are touched; OpenBLAS's buffers are mapped
        # for every thread, two of 128 MiB where MKL takes 40 (apps/seigh/memory_limits.cc).
        libraries = subprocess.run(["ldd", SEIGH], stdout=subprocess.PIPE, text=True, check=True).stdout
        openblas = any("openblas" in os.path.realpath(path) for path in re.findall(r"=> (/\S+)", libraries))
        others = (180 + (432 if openblas else 0)) << 20
        limited = ("prlimit", f"--data={(600 << 20) + others}")
        def run(out, k, products, width, method, ceiling, vectors="false"):
            arguments = [*ceiling, *self.arguments(self.tmp / out)]
            for override in ("data.image_size=8", f"model.hidden=[{width}]", f"eigh.k={k}", f"eigh.products={products}", "eigh.block=0",
                             "curvature.samples=10", f"eigh.vectors={vectors}", 'eigh.test_matrix="sparse"', f'eigh.method="{method}"'):
                arguments += ["--set", override]
            return seigh(*arguments, prefix=limited, timeout=900)
        for out, k, width in (("small", 250, 1500), ("large", 500, 3000)):
            done = run(out, k, k * 5 // 4, width, "seigh", ["--memory", "600M"])
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertLess(float(re.search(r"peak memory (\S+) GB", done.stderr).group(1)) * 1e9, 600 << 20, out)
        self.check_refused(run("held", 500, 1000, 3000, "hmt", []), ["eigenpairs of 225010 parameters take", "ulimit -d"])
        # A basis of 380 MB on disk, of which 230 MB would be allowed in memory, and 180 MB of eigenvectors written and read again.
        done = run("basis", 200, 400, 3000, "krylov", ["--memory", "600M"], "true")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("its basis on disk", (self.tmp / "basis/log.jsonl").read_text())
        with h5py.File(self.tmp / "basis/eigen/step_000020_test_hessian_krylov.h5") as file:
            u = file["eigenvectors"][()].astype(np.float64)
            self.assertLess(np.abs(u @ u.T - np.eye(200)).max(), 1e-5)

    def test_other_methods_have_no_measurements(self):
        self.ok(*self.arguments(self.tmp / "k", "--set", "eigh.method=krylov"))
        for command in ("measure", "recover", "verify"):
            self.refused(command, self.tmp / "k", "--data", self.data, says="krylov")


if __name__ == "__main__":
    unittest.main()
