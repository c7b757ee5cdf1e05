"""Golden output. SEIGH_GOLDEN=write python3 test_help.py writes the golden files anew; look at the difference then."""

import re
import shlex
import unittest

from support import *

GOLDEN = HERE / "golden"
COMMANDS = ("run", "train", "eigh", "trace", "diagonal", "density", "overlap", "dynamics", "report", "show", "help")


class Golden(Case):
    def golden(self, name, text):
        path = GOLDEN / name
        if os.environ.get("SEIGH_GOLDEN") == "write":
            path.write_text(text)
        self.assertTrue(path.exists(), f"{path} is missing; SEIGH_GOLDEN=write makes it")
        self.assertEqual(path.read_text(), text)

    def show(self, path, *arguments):
        """Without times, paths and memory; numbers to 3 digits, since processors round differently."""
        text = self.ok("show", path, *arguments).stdout
        text = re.sub(r"^(seconds|peak_bytes|asymmetry|rounding)( +)\S+$", r"\1\2<varies>", text, flags=re.M)
        # What rounding decides, and with it the bounds of an exact decomposition.
        text = re.sub(r"^(/(?:angle|residuals|subspace_error) +\S+ +[\dx ]+?)  .*$", r"\1", text, flags=re.M)
        text = re.sub(r'"(seconds|peak_bytes|product_error)":[\d.e+-]+', r'"\1":0', text)
        text = re.sub(r'"time":"[^"]*"', '"time":"<time>"', text)
        text = text.replace(str(self.shared()), "<folder>")
        return re.sub(r"-?\d+\.\d+(e[+-]\d+)?", lambda m: f"{float(m[0]):.3g}", text)

    def help(self, *command):
        """Without what differs between versions of CLI11: a default is written INT=0 or INT [0], and where a description
        begins depends on the width of that."""
        text = self.ok(*command, "--help").stdout
        text = re.sub(r"^(  \S+ [A-Z]+(?::\{.*?\})?)=(\S+)", r"\1 [\2]", text, flags=re.M).replace("]  Needs:", "] Needs:")
        return re.sub(r"(?<=\S)(?: {2,}|\n {10,})(?=\S)", "  ", text)

    def test_help(self):
        self.golden("seigh.txt", self.help())
        for command in COMMANDS:
            self.golden(f"{command}.txt", self.help(command))
        self.golden("keys.txt", self.ok("run", "--keys").stdout)
        self.golden("keys_dense.txt", self.ok("run", "--keys", "dense").stdout)

    def test_help_as_a_command(self):
        for command in ((), *((c,) for c in (*COMMANDS, "measure", "recover", "verify"))):
            self.assertEqual(self.ok("help", *command).stdout, self.ok(*command, "--help").stdout)
        self.assertEqual(self.ok("help", "help").stdout, self.ok("help", "--help").stdout)
        self.refused("help", "rum", says='unknown command "rum"; the commands are run, ')
        self.refused("run", "--keys", "nonsense", says='no key has "nonsense".*the tables are curvature, data,')

    def test_version(self):
        self.assertRegex(self.ok("--version").stdout, r"^seigh \d+\.\d+\.\d+\S*\n$")

    def test_show(self):
        run = self.shared() / "run"
        # Of two vectors only the signless numbers are the same everywhere.
        self.golden("show_dense.txt", re.sub(r"^(/eigenvectors +\S+ +[\dx ]+?)  .*$", r"\1", self.show(run / "eigen/step_000020_train_hessian_dense.h5"), flags=re.M))
        self.golden("show_seigh.txt", re.sub(r"^(/eigenvectors +\S+ +[\dx ]+?)  .*$", r"\1", self.show(run / "eigen/step_000020_train_hessian_seigh.h5"), flags=re.M))
        self.golden("show_overlap.txt", self.show(run / "overlap/step_000020_train_hessian_dense.h5"))
        self.golden("show_checkpoint.txt", self.show(run / "checkpoints/step_000000.safetensors"))
        self.golden("show_recipe.txt", self.show(run / "recipe.toml"))
        self.golden("show_log.txt", self.show(run / "log.jsonl"))
        self.golden("show_report.txt", self.show(run / "report.html"))
        self.golden("show_run.txt", re.sub(r" +[\d.]+(e\+?\d+)? [KMG]iB", "  <size>", self.show(run)))
        np.save(self.tmp / "a.npy", np.arange(6.0).reshape(2, 3))
        self.golden("show_npy.txt", self.show(self.tmp / "a.npy", "--numbers", 4))

    def test_show_run_in_every_state(self):
        """Unfinished, damaged, in use, without the right to write: it looks and touches nothing."""
        run = self.run_copy()
        (run / "eigen/step_000010_test_hessian_seigh.h5").unlink()
        for path in (run / "overlap").iterdir():
            path.unlink()
        (run / "report.html").unlink()
        (run / "partial/step_000010_test_hessian_seigh").mkdir(parents=True)
        os.truncate(run / "checkpoints/step_000010.safetensors", 100)
        (run / ".lock").unlink()
        before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
        text = self.ok("show", run).stdout
        for says in ("decompositions  5 of 6, 1 under way", "overlap         0 of 6", "report          not yet",
                     "checkpoints/step_000010.safetensors .*truncated", "partial/step_000010_test_hessian_seigh .*unfinished"):
            self.assertRegex(text, says)
        self.assertEqual({p: p.stat().st_mtime_ns for p in run.rglob("*")}, before)
        bare = self.tmp / "bare"
        bare.mkdir()
        shutil.copy(self.recipe, bare)
        self.assertRegex(self.ok("show", bare).stdout, "checkpoints +0 of 3\ndecompositions +0 of 6")
        (run / "recipe.toml").write_text((run / "recipe.toml").read_text().replace("\nk = 10\n", "\nk = 6\n"))
        self.assertRegex(self.ok("show", run).stdout, r"dense.h5 .*\(of another recipe, eigh.k: 10 / 6\)")

    def test_eigh_matrix(self):
        n = np.arange(1, 61)
        np.save(self.tmp / "a.npy", np.diag(np.where(n % 2, 1.0, -1.0) / n**2))
        done = self.ok("eigh", "--matrix", "a.npy", "--k", 5, "--products", 20, "--method", "seigh", cwd=self.tmp)
        text = re.sub(r"\d+\.\d+ s,", "<seconds> s,", done.stdout)
        self.golden("eigh_matrix.txt", re.sub(r"-?\d+\.\d{4,}", lambda m: f"{float(m[0]):.6f}", text))
        done = self.ok("eigh", "--matrix", "a.npy", "--k", 5, "--products", 20, "--method", "krylov", cwd=self.tmp)
        text = re.sub(r"\d+\.\d+ s,", "<seconds> s,", done.stdout)
        self.golden("eigh_matrix_krylov.txt", re.sub(r"-?\d+\.\d{4,}", lambda m: f"{float(m[0]):.6f}", text))
        done = self.ok("eigh", "--matrix", "a.npy", "--k", 5, cwd=self.tmp)
        text = re.sub(r"\d+\.\d+ s,", "<seconds> s,", done.stdout)
        self.golden("eigh_matrix_dense.txt", re.sub(r"-?\d+\.\d{4,}", lambda m: f"{float(m[0]):.6f}", text))

    def test_examples_work(self):
        """Every example of every --help, in a folder that holds what they name, only smaller."""
        (self.tmp / "recipes").mkdir()
        # D = 16*8 + 8 + 8*10 + 10 = 226, so that the examples' k = 100 fits.
        recipe = RECIPE.replace("hidden = [6]", "hidden = [8]").replace("checkpoints = 10\n", "checkpoints = 100\n")
        recipe = recipe.replace("steps = 20\n", "steps = 100\n").replace("[10, 20]", "[100]").replace("steps = [20]", "steps = [100]")
        recipe = recipe.replace("s = 30", "s = 210")
        (self.tmp / "recipes/mnist-mini.toml").write_text(recipe)
        a, _ = low_rank(90, 30)
        np.save(self.tmp / "A.npy", a)
        with h5py.File(self.tmp / "A.h5", "w") as file:
            file["hessian"], file["gradient"] = a, a[0]
        examples = []
        for command in ((), *((c,) for c in COMMANDS)):
            text = self.ok(*command, "--help").stdout
            found = re.findall(r"^ {1,4}(seigh [^(].*)$", text, re.M)
            self.assertTrue(found, f"seigh {command} --help has no example")
            examples += found
        # The plain run first: the stages work on the folder it makes.
        examples = list(dict.fromkeys(examples))
        self.assertIn("seigh run recipes/mnist-mini.toml", examples)
        examples.sort(key=lambda e: e != "seigh run recipes/mnist-mini.toml")
        for example in examples:
            with self.subTest(example):
                arguments = shlex.split(example)[1:]
                needs_none = arguments[0] in ("show", "dynamics", "help") or "--help" in arguments or "--keys" in arguments or "--matrix" in arguments
                self.ok(*arguments, *([] if needs_none else ["--data", self.data]), cwd=self.tmp)


if __name__ == "__main__":
    unittest.main()
