"""A user's mistakes and a disk's: one clear line on stderr, exit code 2, nothing half written."""

import contextlib
import random
import resource
import signal
import unittest
from concurrent.futures import ThreadPoolExecutor

from support import *


class Refusals(Case):
    def all_refused(self, cases):
        """cases: (words the message must hold, arguments...)"""
        self.shared()
        with ThreadPoolExecutor(2) as pool:
            lines = list(pool.map(lambda case: seigh(*case[1:], cwd=self.tmp), cases))
        for case, done in zip(cases, lines):
            with self.subTest(case):
                self.check_refused(done, case[0])


class CommandLine(Refusals):
    def test_unknown_words(self):
        self.all_refused([
            (["name a command", "run, train, eigh, trace, diagonal, density, measure, recover, verify, overlap, dynamics, report, show, help", "seigh --help"],),
            (['unknown command "rum"', "run"], "rum", "x.toml"),
            ("unknown option --foo", "--foo"),
            (["unknown option --ressume", "seigh run --help"], "run", self.recipe, "--ressume"),
            ("unknown option --kk", "eigh", "--matrix", "a.npy", "--kk", "5"),
            ("unknown option --k", "run", self.recipe, "--k", "5"),
            ("RECIPE is missing.*seigh run recipes", "run"),
            ("RUN is required", "train"),
            ("PATH is required", "show"),
            ("run folder.*--matrix", "eigh"),
            ("not expected: more", "train", "a", "more"),
            ("threads", "run", self.recipe, "--threads", "lots"),
            ("threads", "run", self.recipe, "--threads", "-3"),
            ("threads", "run", self.recipe, "--threads", "2.5"),
            ("threads", "run", self.recipe, "--threads", "1000000"),
            ("cannot read nope.toml: No such file", "run", "nope.toml"),
            ("directory", "run", "."),
            ("no run.*seigh run RECIPE", "train", "nope"),
            ("no run", "eigh", "nope"),
            ("no run", "overlap", self.data),
            ("no run", "report", self.recipe),
            ("no run", "train", ""),
        ])

    def test_recipes(self):
        def recipe(text):
            path = self.tmp / f"r{len(list(self.tmp.iterdir()))}.toml"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            return "run", path, "--data", self.data, "--out", self.tmp / "never"
        self.all_refused([
            (["toml:2", 'unknown key "eigh.kk"', '"eigh.k"'], *recipe("[eigh]\nkk = 3\n")),
            (['"train.learning_rate"'], *recipe("[train]\nlerning_rate = 3\n")),
            ('unknown key "eig"', *recipe("[eig]\n")),
            (":1: ", *recipe("[eigh\nk = 3")),
            (":3: .*redefine", *recipe("[eigh]\nk = 3\nk = 4")),
            (":1: ", *recipe(bytes(range(256)))),
            ("integer", *recipe("seed = 1.5")),
            ("integer", *recipe("seed = 1979-05-27")),
            ("UTF-8|utf-8|:1:", *recipe(b'name = "\xff\xfe"')),
            ("plain name", *recipe('name = "a/b"')),
            ("plain name", *recipe('name = ".."')),
            ("plain name", *recipe('name = "a\\tb"')),
        ])
        self.assertFalse((self.tmp / "never").exists())

    def test_values(self):
        def set_(*settings):
            return ("run", self.recipe, "--data", self.data, "--out", self.tmp / "never",
                    *(word for setting in settings for word in ("--set", setting)))
        self.all_refused([
            ("expected KEY=VALUE", *set_("eigh.k")),
            ("expected KEY=VALUE", *set_("=3")),
            (['unknown key "eigh.q"', "nearest"], *set_("eigh.q=3")),
            ("eigh.k must be an integer", *set_("eigh.k=ten")),
            ("eigh.k must be an integer", *set_("eigh.k=")),
            ("eigh.vectors must be true or false", *set_("eigh.vectors=1")),
            ("at least eigh.k: products = 5, k = 10", *set_("eigh.products=5")),
            ("s = 400, D = 172", *set_("eigh.products=400")),
            ("seed must not be negative", *set_("seed=-1")),
            ("unknown loss .*cross_entropy", *set_("train.loss=hinge")),
            ("unknown activation .*tanh", *set_("model.activation=sine")),
            ("model.kind", *set_("model.kind=nothing")),
            ("width of 0", *set_("model.hidden=[0]")),
            ("hidden must be at most 1000000000", *set_("model.hidden=[9000000000000000000]")),
            ("learning_rate must be positive", *set_("train.learning_rate=nan")),
            ("step 999 lies outside", *set_("train.checkpoints=[0,999]")),
            ("not among train.checkpoints", *set_("curvature.steps=[7]")),
            ("not among curvature.steps", *set_("dense.steps=[0]")),
            ("too many", *set_("train.steps=1000000000", "train.checkpoints=1")),
            ("train.steps", *set_("train.steps=1000000000000")),
            ("image_size", *set_("data.image_size=0")),
            ("random_masks", *set_("overlap.random_masks=1")),
            ("float32", *set_("eigh.dtype=float16")),
        ])
        self.assertFalse((self.tmp / "never").exists())

    def test_refused_by_the_data_then_corrected(self):
        """A run that never had a result does not occupy its folder."""
        begin = "run", self.recipe, "--out", self.tmp / "run", "--set", "curvature.steps=[20]", "--data"
        self.refused(*begin, self.tmp / "nowhere", says=["data set mnist is not here", "--data"])
        self.refused(*begin, self.data, "--set", "train.batch_size=501", says="batch_size.*501")
        self.refused(*begin, self.data, "--set", "curvature.samples=5000", says="curvature.samples.*fewer")
        self.refused(*begin, self.data, "--set", "data.validation_samples=600", says="validation")
        self.assertFalse((self.tmp / "run/checkpoints").exists())
        self.refused(*begin, self.data, "--set", "train.learning_rate=1e30", says="lower train.learning_rate")
        shutil.rmtree(self.tmp / "run")
        self.ok(*begin, self.data)

    def test_memory(self):
        self.refused("run", self.recipe, "--data", self.data, "--out", self.tmp / "run", "--set", "model.hidden=[1000000,1000000]",
                     says="not enough memory.*smaller")

    def test_data_files(self):
        names = {"images": "train-images-idx3-ubyte", "labels": "train-labels-idx1-ubyte", "test": "t10k-images-idx3-ubyte"}
        good = {key: (self.data / name).read_bytes() for key, name in names.items()}
        cases = [
            ("wrong magic number", "images", b"\0\0\x09\x03" + good["images"][4:], "not an IDX file"),
            ("text", "images", b"<html>404 not found</html>", "not an IDX file"),
            ("empty", "labels", b"", "truncated"),
            ("truncated header", "images", good["images"][:9], "truncated"),
            ("truncated data", "images", good["images"][:-1], "truncated"),
            ("trailing", "test", good["test"] + b"x", "more than"),
            ("huge size", "images", good["images"][:4] + b"\xff" * 12 + good["images"][16:], "truncated|too large"),
            ("mixed up", "images", good["labels"], "rank|mixed"),
            ("too few labels", "labels", b"\0\0\x08\x01\0\0\0\x05" + bytes(5), "600 images but.* 5 labels"),
            ("label 10", "labels", good["labels"][:8] + b"\x0a" + good["labels"][9:], "label 10"),
            ("bad gzip", "images", b"\x1f\x8b" + b"nonsense" * 9, "gzip|truncated|IDX"),
        ]
        commands = []
        for what, key, content, says in cases:
            data = Path(shutil.copytree(self.data, self.tmp / what))
            (data / names[key]).write_bytes(content)
            commands.append(([says, re.escape(str(data))], "run", self.recipe, "--data", data, "--out", self.tmp / f"run {what}"))
        self.all_refused(commands)
        (data / names["labels"]).unlink()
        self.refused("run", self.recipe, "--data", data, "--out", self.tmp / "run", says="lacks train-labels.*--data")


class Matrices(Refusals):
    def test_refused(self):
        a, _ = low_rank(40, 5)
        path = self.tmp / "a.npy"
        np.save(path, a)
        whole = path.read_bytes()

        def npy(array, name):
            np.save(self.tmp / name, array, allow_pickle=True)
            return self.tmp / name
        asymmetric, bad = a.copy(), a.copy()
        asymmetric[0, 1] += 1
        bad[3, 3] = np.nan
        (self.tmp / "short.npy").write_bytes(whole[:1000])
        (self.tmp / "empty.npy").write_bytes(b"")
        (self.tmp / "text.npy").write_text("1 2\n2 1\n" * 20)
        (self.tmp / "a.csv").write_text("1,2\n2,1\n")
        with h5py.File(self.tmp / "a.h5", "w") as file:
            file["h"], file["g"], file["name"] = a, a[0], "text"
        with h5py.File(self.tmp / "none.h5", "w"):
            pass
        (self.tmp / "short.h5").write_bytes((self.tmp / "a.h5").read_bytes()[:2500])
        h5 = self.tmp / "a.h5"
        cases = [
            ("k = 41.*40 x 40", path, "--k", 41), ("k = 5", path, "--k", 5, "--products", 3), ("krylov, not for seigh", path, "--k", 5, "--tol", 0.1, "--method", "seigh"), ("tolerance", path, "--k", 5, "--tol", 2), ("error", path, "--k", 5, "--error", -1), ("no eigenvectors|HDF5|a.csv", path, "--k", 5, "--start", self.tmp / "a.csv"), ("select", path, "--k", 5, "--select", "best"), ("s = 41, D = 40", path, "--k", 5, "--products", 41, "--method", "seigh"),
            ("--k 20", path), ("--k must", path, "--k", -1), ("--k", path, "--k", "x"), ("--products must", path, "--k", 5, "--products", -1),
            ("seed", path, "--k", 5, "--seed", -1), ("probes", path, "--k", 5, "--probes", -1),
            ("seigh.*dense", path, "--k", 5, "--method", "lanczos"), ("RUN", path, "run", "--k", 5),
            ("k.* 41", path, "--k", 41, "--method", "dense"), ("--dataset", path, "--k", 5, "--dataset", "h"),
            ("square.*2, 40", npy(a[:2], "r.npy"), "--k", 1), ("square", npy(a[0], "v.npy"), "--k", 1),
            ("square", npy(np.float64(3), "s.npy"), "--k", 1), ("empty|positive", npy(np.zeros((0, 0)), "z.npy"), "--k", 1),
            ("not symmetric.*symmetrise", npy(asymmetric, "asymmetric.npy"), "--k", 1), ("NaN", npy(bad, "bad.npy"), "--k", 1),
            ("infinity", npy(np.diag([1, np.inf]), "inf.npy"), "--k", 1), ("overflow", npy(np.eye(3) * 1e300, "huge.npy"), "--k", 1),
            ("not Hermitian", npy(a + 1j * np.triu(a, 1), "c.npy"), "--k", 1), ("dtype", npy(a.astype("f2"), "h.npy"), "--k", 1),
            ("dtype", npy(np.array([{}]), "o.npy"), "--k", 1), ("dtype", npy(a.astype(">f8"), "be.npy"), "--k", 1),
            ("truncated", self.tmp / "short.npy", "--k", 1), ("truncated", self.tmp / "empty.npy", "--k", 1),
            ("not a .npy file", self.tmp / "text.npy", "--k", 1), (r"\.npy or \.h5", self.tmp / "a.csv", "--k", 1),
            ("No such file", self.tmp / "missing.npy", "--k", 1), ("no such file", self.tmp / "missing.h5", "--k", 1),
            ("3 data sets.*--dataset", h5, "--k", 1), ("zz.*missing", h5, "--k", 1, "--dataset", "zz"),
            ("neither", h5, "--k", 1, "--dataset", "name"), ("square", h5, "--k", 1, "--dataset", "g"),
            ("no data set", self.tmp / "none.h5", "--k", 1), ("truncated", self.tmp / "short.h5", "--k", 1),
            ("cannot write", path, "--k", 1, "--out", "/proc/none/x.h5"), ("cannot write", path, "--k", 1, "--out", "/dev/null"),
            ("cannot write", path, "--k", 1, "--out", self.tmp), ("cannot write", path, "--k", 1, "--out", self.tmp / "a.csv/x.h5"),
            ("matrix itself", h5, "--k", 1, "--dataset", "h", "--out", h5),
        ]
        before = h5.read_bytes()
        self.all_refused([(says, "eigh", "--matrix", matrix, *more) for says, matrix, *more in cases])
        self.assertEqual(h5.read_bytes(), before)
        self.assertEqual([p.name for p in self.tmp.iterdir() if "seigh" in p.name or "tmp" in p.name], [])


class Show(Refusals):
    def test_nonsense(self):
        def file(name, content):
            (self.tmp / name).write_bytes(content if isinstance(content, bytes) else content.encode())
            return name
        page = '<script type="application/json" id="data">%s</script>'
        header = struct.pack("<Q", 2)
        cases = [
            ("no such file", "nope"), ("no such file", "nope.h5"), ("holds no run .no recipe.toml", "."),
            ("show knows", file("a.txt", "x")), ("not an HDF5 file", file("a.h5", "x" * 3000)), ("a.h5", file("a.h5", "")),
            ("npy", file("a.npy", "x" * 300)), ("safetensors", file("a.safetensors", "x" * 300)),
            ("truncated", file("b.safetensors", "x")), ("safetensors", file("c.safetensors", header + b"[]")),
            ("no report page", file("a.html", "hello")), ("damaged", file("b.html", page % "{")), ("damaged", file("c.html", page % "[]")),
            ("damaged", file("d.html", page % '{"title":"x","settings":[["a"]],"headline":[]}')),
            ("numbers", self.shared() / "run/report.html", "--numbers", "-1"),
        ]
        self.all_refused([(says, "show", *arguments) for says, *arguments in cases])

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([SEIGH, "show", self.shared() / "run/recipe.toml"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1))

    def test_random_damage_never_crashes(self):
        rng = random.Random(5)
        run = self.shared() / "run"
        jobs = []
        for source in (run / "eigen/step_000020_train_hessian_dense.h5", run / "overlap/step_000020_train_hessian_dense.h5",
                       run / "checkpoints/step_000020.safetensors", run / "report.html"):
            for i in range(9):
                content = bytearray(source.read_bytes())
                if i < 3:
                    content = content[:rng.randrange(len(content))]
                else:
                    for _ in range(6):
                        content[rng.randrange(min(len(content), 2500))] = rng.randrange(256)
                path = self.tmp / f"{len(jobs)}{source.suffix}"
                path.write_bytes(content)
                jobs.append(path)
        with ThreadPoolExecutor(2) as pool:
            for path, done in zip(jobs, pool.map(lambda p: seigh("show", p, timeout=900), jobs)):
                with self.subTest(path.name):
                    self.assertIn(done.returncode, (0, 2), done.stderr)
                    self.assertEqual(done.stderr.count("\n"), 1 if done.returncode else 0, done.stderr)


class Folders(Case):
    def resume(self, run):
        return "run", run / "recipe.toml", "--data", self.data, "--out", run, "--resume"

    def test_another_recipe_and_foreign_folders(self):
        run = self.run_copy()
        begin = "run", self.recipe, "--data", self.data, "--out"
        before = snapshot(run)
        self.refused(*begin, run, "--set", "name=tiny", "--set", "seed=8", says=["another recipe", "seed: 7 / 8", "--resume", "--out"])
        self.refused(*begin, run, "--set", "name=tiny", says=["already holds", "--resume"])
        self.assertEqual(snapshot(run), before)
        foreign = self.tmp / "foreign"
        foreign.mkdir()
        (foreign / "thesis.tex").write_text("x")
        self.refused(*begin, foreign, says="not empty.*--out")
        self.assertEqual([p.name for p in foreign.iterdir()], ["thesis.tex"])
        self.refused(*begin, foreign / "thesis.tex", says="thesis.tex")
        self.refused(*begin, foreign / "thesis.tex/deeper", says="--out")
        self.refused(*begin, "/proc/none", says="/proc/none.*--out")
        # Somebody's own recipe is no run, and is not overwritten.
        mine = self.tmp / "mine"
        mine.mkdir()
        (mine / "recipe.toml").write_text("# precious\n" + RECIPE)
        self.refused(*begin, mine, "--set", "seed=9", says="another recipe")
        self.refused(*begin, mine, "--set", "seed=9", "--resume", says=["another recipe", "no run was made by", "--out"])
        self.refused("run", mine / "recipe.toml", "--data", self.tmp, "--out", mine, "--resume", says="data set")
        self.assertIn("precious", (mine / "recipe.toml").read_text())

    def test_no_permission(self):
        # Root, too, obeys permissions without these capabilities.
        drop = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all") if os.geteuid() == 0 else ()
        run = self.run_copy()
        self.tmp.chmod(0o500)
        self.addCleanup(self.tmp.chmod, 0o700)
        self.refused("run", self.recipe, "--data", self.data, "--out", self.tmp / "new", says=["Permission", "--out"], prefix=drop)
        (run / "checkpoints").chmod(0)
        self.addCleanup((run / "checkpoints").chmod, 0o700)
        self.refused("report", run, says="Permission", prefix=drop)

    def test_damaged_files_of_a_run(self):
        run = self.shared() / "run"
        rng = random.Random(1)
        for name in ("checkpoints/step_000010.safetensors", "eigen/step_000020_train_hessian_seigh.h5",
                     "eigen/step_000020_test_hessian_dense.h5", "overlap/step_000010_test_hessian_seigh.h5"):
            size = (run / name).stat().st_size
            for keep in (0, rng.randrange(1, size), size - 1):
                with self.subTest(name, keep=keep):
                    copy = self.run_copy(f"run{keep}{Path(name).stem}")
                    os.truncate(copy / name, keep)
                    line = self.refused(*self.resume(copy), says=["delete", "--resume"])
                    self.assertIn(name, line)
            (copy / name).unlink()  # as the message says
            self.ok(*self.resume(copy), "--threads", 1)
            self.assertEqual(snapshot(copy), snapshot(run))

    def test_foreign_content_under_our_names(self):
        run = self.run_copy()
        eigen, overlap = run / "eigen/step_000020_train_hessian_seigh.h5", run / "overlap/step_000020_train_hessian_seigh.h5"
        shutil.copy(run / "checkpoints/step_000000.safetensors", run / "checkpoints/step_000010.safetensors")
        self.refused(*self.resume(run), says="holds step 0, not 10")
        run = self.run_copy("run2")
        with changed(run / eigen.relative_to(self.tmp / "run")) as file:
            del file["eigenvalues"]
            file["eigenvalues"] = 3.0
        self.refused("report", run, says="eigenvalues have shape")
        run = self.run_copy("run3")
        with changed(run / overlap.relative_to(self.tmp / "run")) as file:
            del file["magnitude"]
            file["magnitude"] = np.zeros(0)
        self.refused("report", run, says="has shape")
        run = self.run_copy("run4")
        (run / "eigen/step_000020_train_hessian_seigh.h5").unlink()
        (run / "eigen/step_000020_train_hessian_seigh.h5").mkdir()
        self.refused(*self.resume(run), says="step_000020_train_hessian_seigh.h5")

    def test_damaged_recipe_of_a_run(self):
        run = self.run_copy()
        text = (run / "recipe.toml").read_text()
        for content in ("[eigh", text.replace("k = 10", "k = ten"), text + "\n[extra]\nx = 1\n"):
            (run / "recipe.toml").write_text(content)
            self.refused("report", run, says="recipe.toml:.*mend")
            self.refused("run", self.recipe, "--out", run, "--resume", says="recipe.toml:.*mend")

    def test_report_page_is_mended(self):
        run = self.run_copy()
        for content in (b"", b"nonsense", (run / "report.html").read_bytes()[:-500]):
            (run / "report.html").write_bytes(content)
            self.ok("report", run)
            self.ok("show", run / "report.html")


class Disk(Case):
    @contextlib.contextmanager
    def disk(self, bytes_, folder):
        """A disk of `bytes_` at `folder`; yields (arguments for subprocess, grow, read_only)."""
        folder.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={bytes_}", "tmpfs", folder], capture_output=True).returncode == 0
        if mounted:
            try:
                yield {}, lambda options: subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
            finally:
                subprocess.run(["umount", "-l", folder], check=True)
        else:  # without the right to mount: files that may not grow
            def limit():
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_ // 8, resource.RLIM_INFINITY))
            more = {"preexec_fn": limit}
            yield more, lambda options: more.clear()

    def test_full_disk(self):
        refused = 0
        for kilobytes in (4, 40, 72, 140, 200, 280):
            with self.subTest(kilobytes=kilobytes), self.disk(kilobytes * 1024, self.tmp / f"disk{kilobytes}") as (more, remount):
                run = self.tmp / f"disk{kilobytes}/run"
                begin = "run", self.recipe, "--data", self.data, "--out", run, "--set", "name=tiny", "--threads", 1
                self.refused(*begin, says=["cannot", "space left|full|too large", "--out"], **more)
                refused += 1
                for path in run.rglob("*"):  # whatever is there is whole
                    self.assertNotIn(".tmp-", path.name)
                    if path.suffix == ".safetensors":
                        read_safetensors(path)
                    elif path.suffix == ".h5":
                        h5py.File(path).close()
                remount("size=20m")
                self.ok(*begin, "--resume", **more)
                self.assertEqual(snapshot(run), snapshot(self.shared() / "run"))
        self.assertEqual(refused, 6)

    def test_full_disk_for_a_matrix(self):
        np.save(self.tmp / "a.npy", np.diag(1.0 / np.arange(1, 201)))
        with self.disk(16384, self.tmp / "disk") as (more, remount):
            out = self.tmp / "disk/out.h5"
            self.refused("eigh", "--matrix", self.tmp / "a.npy", "--k", 60, "--vectors", "--out", out, says="space|large", **more)
            self.assertEqual(list((self.tmp / "disk").iterdir()), [])

    def test_read_only_disk(self):
        with self.disk(20 << 20, self.tmp / "disk") as (more, remount):
            run = Path(shutil.copytree(self.shared() / "run", self.tmp / "disk/run"))
            target = self.tmp / "disk/new"
            if more:
                target = Path("/proc/none")  # without the right to mount
            else:
                remount("ro")
                for command in ("train", "report"):
                    self.refused(command, run, "--data", self.data, says="Read-only")
                self.ok("show", run / "report.html")
            self.refused("run", self.recipe, "--data", self.data, "--out", target, says="--out")
            np.save(self.tmp / "a.npy", np.eye(9))
            self.refused("eigh", "--matrix", self.tmp / "a.npy", "--k", 2, "--out", target / "x.h5", says="cannot write")


if __name__ == "__main__":
    unittest.main()
