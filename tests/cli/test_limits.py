"""Little memory, few threads: whatever the limit, the program does its work or says in one line that it cannot. It never
hangs, crashes or is aborted."""

import resource
import unittest

from support import *

KINDS = {"ulimit -v": resource.RLIMIT_AS, "ulimit -d": resource.RLIMIT_DATA}
OPENBLAS = next((str(p) for p in Path("/usr/lib").glob("*/libopenblas.so.0")), None)


@unittest.skipIf("SEIGH_SANITIZED" in os.environ, "a sanitizer's own memory is beyond any limit")
class Limits(Case):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        a = rng.standard_normal((400, 400))
        np.save(self.tmp / "a.npy", a + a.T)

    def under(self, kind, megabytes, *arguments, matrix="a.npy", **more):
        def limit():
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(KINDS[kind], (megabytes << 20, megabytes << 20))
        return seigh("eigh", "--matrix", self.tmp / matrix, "--k", 5, "--out", self.tmp / "out.h5", *arguments, preexec_fn=limit,
                     timeout=120, **more)

    def check(self, done, what):
        """-> whether it did its work."""
        text = f"{what}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        if done.returncode == 127:  # not the program's word: its libraries could not be loaded
            self.assertIn("error while loading shared libraries", done.stderr, text)
        elif done.returncode != 0:
            self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), text)
            self.assertRegex(done.stderr, "^seigh: .*(memory|threads).*(ulimit|--memory)", text)
        return done.returncode == 0

    def test_every_limit(self):
        outcomes = {}
        for kind, sizes in (("ulimit -v", (300, 400, 440, 480, 500, 520, 560, 620, 700, 900, 1500, 3000, 8000)),
                            ("ulimit -d", (20, 60, 100, 130, 160, 200, 250, 400, 1000, 8000))):
            for threads in (2, 12):
                for method in ("dense", "krylov"):
                    for megabytes in sizes:
                        what = kind, megabytes, threads, method
                        outcomes[what] = self.check(self.under(kind, megabytes, "--threads", threads, "--method", method), what)
        self.assertTrue(outcomes["ulimit -v", 8000, 12, "dense"])
        self.assertTrue(outcomes["ulimit -d", 8000, 12, "krylov"])
        self.assertFalse(outcomes["ulimit -v", 300, 2, "dense"])

    @unittest.skipIf(OPENBLAS is None, "without OpenBLAS")
    def test_openblas(self):
        """Loaded as it is with a libtorch that calls it: its constructor takes memory, and asks for ever where there is none."""
        for kind, sizes in (("ulimit -v", (500, 600, 700, 800, 1000, 4000)), ("ulimit -d", (100, 300, 500, 3000))):
            for megabytes in sizes:
                done = self.under(kind, megabytes, "--threads", 2, prefix=("env", f"LD_PRELOAD={OPENBLAS}"))
                done = self.check(done, (kind, megabytes))
        self.assertTrue(done)

    def test_reasons(self):
        """Too many threads; a matrix too large for the ceiling that follows from the limit."""
        done = self.under("ulimit -v", 3000, "--threads", 4000)
        self.assertRegex(done.stderr, "libraries take .* for 4000 threads; .*--threads")
        np.save(self.tmp / "b.npy", np.zeros((6000, 6000)))
        done = self.under("ulimit -v", 800, "--threads", 1, matrix="b.npy")
        self.assertFalse(self.check(done, "a large matrix"))
        self.assertRegex(done.stderr, "(ceiling of .* is too low|the libraries take).*ulimit -v")

    def test_no_more_processes(self):
        if os.geteuid() != 0:
            self.skipTest("only root can become the user whose processes are counted")
        self.tmp.chmod(0o755)
        copy = shutil.copy(SEIGH, self.tmp / "seigh")
        nobody = ("setpriv", "--reuid", "65534", "--clear-groups", "prlimit", "--nproc=3")
        try:
            done = subprocess.run([*nobody, copy, "eigh", "--matrix", self.tmp / "a.npy", "--k", "3", "--threads", "8",
                                   "--out", self.tmp / "o.h5"], capture_output=True, text=True, timeout=60, env=environment())
        except PermissionError:
            self.skipTest("the libraries are not for everybody to read")
        if "error while loading" in done.stderr or "ermission" in done.stderr:
            self.skipTest("the libraries are not for everybody to read")
        self.assertRegex(done.stderr, "^seigh: cannot start 8 threads: .*--threads")
        self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1))


if __name__ == "__main__":
    unittest.main()
