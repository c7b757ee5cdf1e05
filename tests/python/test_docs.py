"""The pages of the package: docs/python.md and docs/coming-from.md run as a reader would run them, docs/api.md is what the docstrings
say, and the stubs have the names, parameters and defaults that there are."""

import ast
import contextlib
import importlib.util
import inspect
import io
import os
import re
import subprocess
import sys
import tempfile
import types

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch comes: else small products wait for cores that others use
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", MPLBACKEND="Agg")
from support import *

for peer in ("curvlinops", "hessian_eigenthings", "matplotlib", "pyhessian", "scipy", "transformers"):
    if importlib.util.find_spec(peer) is None:
        raise SystemExit(f"test_docs runs pages that need {peer}, which is not there: scripts/install-deps installs it (scripts/peers.txt)")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def text_of(*parts):
    with open(os.path.join(ROOT, *parts), encoding="utf-8") as file:
        return file.read()


class Block:
    """A fenced block of a page: its language, the number of its first line, its text, and what it needs to be run."""

    def __init__(self, language, line, needs):
        self.language, self.line, self.needs, self.text = language, line, needs, ""

    @property
    def file(self):
        """Of a block whose first line is the name of a file, that name."""
        found = re.match(r"# ([\w-]+\.(?:py|toml))\n", self.text)
        return found and found[1]


def blocks_of(page):
    found, block, before = [], None, ""
    for number, line in enumerate(text_of("docs", page).splitlines(keepends=True), 1):
        if block is not None:
            if line.rstrip() == "```":
                block, before = None, ""
            else:
                block.text += line
        elif line.startswith("```"):
            needs = re.fullmatch(r"<!-- not run: needs (\w+) -->", before)
            block = Block(line[3:].strip(), number + 1, needs and needs[1])
            found.append(block)
        elif line.strip():
            before = line.strip()
    if block is not None:
        raise ValueError(f"{page}: the block of line {block.line} does not end")
    return found


class Pages(Case):
    def run_page(self, page):
        """Runs the blocks one after the other in one namespace and an empty folder; gives the namespace and what was printed. What a
        block needs beyond the peers may be missing; then it is only compiled."""
        warnings.resetwarnings()
        warnings.simplefilter("error", seigh.SeighWarning)  # pages say where there is one
        module, printed, before = types.ModuleType("__main__"), io.StringIO(), os.getcwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                for block in blocks_of(page):
                    if block.file:
                        with open(block.file, "w", encoding="utf-8") as file:
                            file.write(block.text)
                    elif block.language == "python":
                        # errors name the line of the page
                        code = compile("\n" * (block.line - 1) + block.text, os.path.join(ROOT, "docs", page), "exec")
                        if block.needs is None or importlib.util.find_spec(block.needs):
                            with contextlib.redirect_stdout(printed):
                                exec(code, module.__dict__)
                files = sorted(os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names)
            finally:
                os.chdir(before)
        return module, printed.getvalue(), files

    def test_tutorial(self):
        page, printed, files = self.run_page("python.md")
        for name in ("pairs.h5", "spectrum.png", "runs/own-loop/report.html", "runs/net/report.html"):
            self.assertIn(name, files)
        # What the page shows of what is printed.
        for line in ("<seigh.Hessian 1604 x 1604, float32, 6 parameter tensors>", "certified; error", "= chance", "call refresh()",
                     "a second derivative is wrong; products are differences"):
            self.assertIn(line, printed)
        self.assertEqual(page.exact.certified, 10)
        self.assertLess(page.sketch.certified, 10)
        self.assertEqual(page.last.parameter_names, ["5.weight", "5.bias"])
        self.assertEqual(page.weights.parameter_names, ["0.weight", "3.weight", "3.bias"])
        self.assertLess(len(page.most), 50)
        self.assertLess(page.most.error, 0.4)
        self.assertLess(float(page.lowest.eigenvalues.max()), 0)
        self.assertTrue(page.log.tasks)

    def test_coming_from(self):
        self.run_page("coming-from.md")

    def test_links(self):
        """Files and headings that pages refer to are there."""
        anchors = lambda text: {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in re.findall(r"^#+ (.*)$", text, re.M)}
        for page in ("python.md", "coming-from.md", "api.md"):
            for target in re.findall(r"\]\(([^)\s]+)\)", text_of("docs", page)):
                if "://" in target:
                    continue
                file, _, anchor = target.partition("#")
                with self.subTest(page=page, target=target):
                    self.assertTrue(os.path.exists(os.path.join(ROOT, "docs", file)))
                    if anchor:
                        self.assertIn(anchor, anchors(text_of("docs", file or page)))

    def test_api_page(self):
        done = subprocess.run([sys.executable, os.path.join(ROOT, "scripts", "api-page"), "--check"], capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)})
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))


def parameters_of_stub(function):
    """[(name, kind, whether there is a default, the default)] of a function in a stub."""
    a = function.args
    plain = a.posonlyargs + a.args
    defaults = [None] * (len(plain) - len(a.defaults)) + a.defaults
    found = [(p.arg, "positional", d) for p, d in zip(plain, defaults)]
    found += [(a.vararg.arg, "*", None)] if a.vararg else []
    found += [(p.arg, "keyword", d) for p, d in zip(a.kwonlyargs, a.kw_defaults)]
    found += [(a.kwarg.arg, "**", None)] if a.kwarg else []
    return [(name, kind, default is not None, None if default is None else ast.literal_eval(default)) for name, kind, default in found]


KINDS = {inspect.Parameter.POSITIONAL_ONLY: "positional", inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
         inspect.Parameter.KEYWORD_ONLY: "keyword", inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def parameters_of(function):
    return [(p.name, KINDS[p.kind], p.default is not p.empty, None if p.default is p.empty else p.default)
            for p in inspect.signature(function).parameters.values()]


def defined(body):
    """{name: [its definitions]} of a module or class of a stub; of `a: int` the annotation."""
    found = {}
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.AnnAssign):
            found.setdefault(node.target.id, []).append(node)
    return found


class Stubs(Case):
    """Every public name, and no other, is in the stubs and on a page."""

    # Their constructors are nobody's business: functions make them.
    RESULTS = ("EigenPairs", "Overlap", "Trace", "Diagonal", "Density", "Dynamics")

    @classmethod
    def setUpClass(cls):
        cls.modules = {"": seigh, **{name: getattr(seigh, name) for name in seigh.__all__ if inspect.ismodule(getattr(seigh, name))}}
        cls.trees = {name: defined(ast.parse(text_of("python", "seigh", (name or "__init__") + ".pyi")).body) for name in cls.modules}
        cls.pages = text_of("docs", "api.md") + text_of("docs", "python.md")
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        matrix = seigh.Hessian(model, F.cross_entropy, (torch.randn(6, 3), torch.arange(6) % 2))
        pairs, mask = seigh.eigh(matrix, k=2), seigh.masks.magnitude(model)
        cls.made = [matrix, pairs, mask, seigh.overlap(pairs, mask), seigh.trace(matrix), seigh.diagonal(matrix), seigh.density(matrix), seigh.Context(),
                seigh.Progress(), seigh.Dynamics({"maps": [], "gradients": [], "parameters": 5, "notes": ""}, "dynamics.h5")]

    def public(self, name):
        """{name: function or class} of a module."""
        module = self.modules[name]
        names = module.__all__ if name == "" else [key for key, value in vars(module).items()
                                                   if not key.startswith("_") and getattr(value, "__module__", "") == module.__name__]
        return {key: getattr(module, key) for key in names if not inspect.ismodule(getattr(module, key))}

    def test_names_of_modules(self):
        for name in self.modules:
            in_stub = {key for key in self.trees[name] if not key.startswith("_")}
            self.assertEqual(in_stub, set(self.public(name)), name or "seigh")
            for key in self.public(name):
                full = ".".join(filter(None, ["seigh", name, key]))
                self.assertIn(f"\n### {full}\n", self.pages)
        listed = re.search(r"__all__ = (\[.*?\])", text_of("python", "seigh", "__init__.pyi"), re.S)[1]
        self.assertEqual(ast.literal_eval(listed), seigh.__all__)
        self.assertTrue(all(name in seigh.__all__ for name in self.modules if name))

    def test_functions(self):
        for name in self.modules:
            for key, function in self.public(name).items():
                if inspect.isfunction(function):
                    self.same(function, self.trees[name][key], key)

    def same(self, function, stubs, name):
        """As many as there are overloads, each with the parameters of the function, all of them with types."""
        for stub in stubs:
            with self.subTest(name):
                self.assertIsInstance(stub, ast.FunctionDef)
                self.assertEqual(parameters_of_stub(stub), parameters_of(function))
                self.assertIsNotNone(stub.returns)
                arguments = stub.args.posonlyargs + stub.args.args + stub.args.kwonlyargs
                self.assertTrue(all(a.annotation is not None for a in arguments if a.arg != "self"))

    def test_classes(self):
        classes = [(key, thing, self.trees[name]) for name in self.modules for key, thing in self.public(name).items() if inspect.isclass(thing)]
        self.assertGreater(len(classes), 10)
        for key, cls, tree in classes:
            with self.subTest(key):
                ours = [base for base in cls.__mro__ if base.__module__.startswith("seigh")]
                real = {name for base in ours for name in vars(base)} | set(vars(next((thing for thing in self.made if isinstance(thing, ours[-1])), cls)))
                real = {name for name in real if not name.startswith("_")}
                stub = {}
                for base in reversed(ours):
                    (node,) = tree[key if base is cls else base.__name__]
                    stub.update(defined(node.body))
                self.assertEqual({name for name in stub if not name.startswith("_")}, real)
                for name, nodes in stub.items():
                    if not name.startswith("_"):
                        self.assertTrue(re.search(rf"\b{name}\b", self.pages), f"{name} of {key} is on no page")
                    value = inspect.getattr_static(cls, name, None)
                    if isinstance(value, property):
                        self.assertEqual([d.id for d in nodes[0].decorator_list], ["property"])
                        self.assertIsNotNone(nodes[0].returns)
                    elif inspect.isfunction(value):
                        self.same(value, nodes, f"{key}.{name}")
                    else:
                        self.assertIsInstance(nodes[0], ast.AnnAssign)
                if cls.__name__ not in self.RESULTS and "__init__" in vars(cls):
                    self.assertIn("__init__", stub)


if __name__ == "__main__":
    unittest.main()
