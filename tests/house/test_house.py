"""What the code keeps to by agreement, found out from its text and its objects: who includes whom (HACKING.md), which
headers are public, and no function of the standard library of which libtorch has a copy of its own."""

import glob
import os
import re
import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

# Room: the rooms it may include from, besides itself. HACKING.md, "Who may call whom", says it in words.
MAY = {
    "core": "",
    "io": "core",
    "linop": "core",
    "tall": "core io linop",
    "sketch": "core io linop tall",
    "eigen": "core io linop tall sketch",
    "spectrum": "core linop tall",
    "overlap": "core",
    "data": "core io",
    "nn": "core io data",
    "train": "core io data nn",
    "curvature": "core linop data nn",
    "recipe": "core io data nn train curvature eigen overlap",
    "results": "core io tall eigen spectrum overlap nn train recipe",
    "report": "core io eigen overlap nn recipe results",
    "run": "core io linop tall sketch eigen spectrum overlap data nn train curvature recipe results report",
    "mpi": "core",
}
# No .cc of their own includes them first, which would show that they compile on their own.
HEADERS_ALONE = {"seigh/core/error.h", "seigh/report/template.h"}

# The same code in every copy, and for ever: counts of references, a throw, and a name that is never called.
HARMLESS = {
    "std::__exception_ptr::exception_ptr::_M_addref()",
    "std::__exception_ptr::exception_ptr::_M_release()",
    "std::__throw_bad_array_new_length()",
    "std::ios_base_library_init()",
}


def sources(*folders):
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*") if p.suffix in (".h", ".cc"))


def name(path):
    return str(path.relative_to(ROOT))


def includes(path):
    """What a file includes, with its delimiters: '"seigh/core/error.h"', '<string>'."""
    return re.findall(r'^\s*#\s*include\s*(["<][^">]+[">])', path.read_text(), re.M)


def code(path):
    """A file without its comments."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(), flags=re.S)


def occurrences(pattern, *folders):
    return [f"{name(p)}: {m.group()}" for p in sources(*folders) for m in re.finditer(pattern, code(p))]


class Rooms(unittest.TestCase):
    def test_order(self):
        wrong = []
        for path in sources("seigh"):
            room = path.parent.name
            self.assertIn(room, MAY, f"{name(path)}: a new room must say in this test whom it may include")
            for include in includes(path):
                found = re.match(r'"seigh/(\w+)/', include)
                if found and found[1] != room and found[1] not in MAY[room].split():
                    wrong.append(f"{name(path)} includes {include}")
                if include.startswith('"') and not found:
                    wrong.append(f"{name(path)} includes {include}: from the root of the repository, please")
        self.assertEqual(wrong, [])

    def test_the_order_is_one(self):
        done = set()
        while len(done) < len(MAY):
            ready = {room for room, others in MAY.items() if room not in done and set(others.split()) <= done}
            self.assertTrue(ready, f"rooms that include each other: {set(MAY) - done}")
            done |= ready

    def test_solvers_know_no_networks(self):
        for room in ("linop", "tall", "sketch", "eigen", "spectrum", "overlap"):
            self.assertFalse({"data", "nn", "train", "curvature"} & set(MAY[room].split()), room)

    def test_mpi_is_of_one_room(self):
        wrong = [name(p) for p in sources("seigh", "apps") if p.parent.name != "mpi" and "<mpi.h>" in includes(p)]
        self.assertEqual(wrong, [])

    def test_cairo_is_of_one_file(self):
        wrong = [name(p) for p in sources("seigh", "apps", "python")
                 if name(p) != "seigh/report/drawing.cc" and any(i.startswith("<cairo") for i in includes(p))]
        self.assertEqual(wrong, [])

    def test_torchscript_is_of_two_files(self):
        wrong = [name(p) for p in sources("seigh", "apps")
                 if p.name not in ("script_module.cc", "forward_formulas.cc") and any(i.startswith(("<torch/script", "<torch/jit", "<torch/csrc/jit"))
                                                         for i in includes(p))]
        self.assertEqual(wrong, [])

    def test_what_is_used_is_passed_down(self):
        self.assertEqual(occurrences(r"\bworld\(\)", "seigh", "apps"), [])


class PublicHeaders(unittest.TestCase):
    public = set(re.findall(r"^ *(?:set\(\w+ )?(seigh/\S+\.h)", (ROOT / "cmake/PublicHeaders.cmake").read_text(), re.M))

    def test_include_only_public_ones(self):
        self.assertGreater(len(self.public), 40)
        wrong = []
        for header in sorted(self.public):
            for include in includes(ROOT / header):
                if include.startswith('"'):
                    good = include.strip('"') in self.public
                else:  # of the standard library, or libtorch's
                    good = re.fullmatch(r"<(\w+|(ATen|c10|torch)/\S+)>", include)
                if not good:
                    wrong.append(f"{header} includes {include}")
        self.assertEqual(wrong, [])

    def test_every_header_compiles_on_its_own(self):
        """Its own .cc includes it before anything else, so compiling that one shows it."""
        wrong = []
        for header in sources("seigh"):
            if header.suffix == ".h" and name(header) not in HEADERS_ALONE:
                own = header.with_suffix(".cc")
                if not own.exists() or includes(own)[0] != f'"{name(header)}"':
                    wrong.append(name(header))
        self.assertEqual(wrong, [])


class StandardLibrary(unittest.TestCase):
    """libtorch's wheels export copies of functions of the C++ standard library that an older compiler made. A program
    that leaves such a symbol undefined gets the copy that is loaded first; with std::filesystem's it crashed."""

    def symbols(self, *arguments):
        out = subprocess.run(["nm", *arguments], capture_output=True, text=True)
        self.assertEqual(out.returncode, 0, out.stderr)
        return {(kind, symbol.split("@")[0]) for kind, symbol in re.findall(r" ([A-Za-z]) (\S+)$", out.stdout, re.M)}

    def demangled(self, symbols):
        text = "\n".join(sorted(symbols))
        return subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout.split("\n")

    def undefined(self):
        """What the library and the command leave to others."""
        found = set()
        for file in os.environ["SEIGH_BUILT"].split(":"):
            dynamic = [] if file.endswith(".a") else ["-D"]
            found |= {symbol for kind, symbol in self.symbols("-u", *dynamic, file) if kind in "Uvw"}
        return found

    def test_no_filesystem(self):
        found = [s for s in self.demangled(self.undefined()) if re.search(r"\bstd::(experimental::)?filesystem\b", s)]
        self.assertEqual(found, [])
        self.assertEqual(occurrences(r"<filesystem>|std::filesystem", "seigh", "apps", "tests", "bench"), [])

    def test_nothing_that_libtorch_shadows(self):
        theirs = set()
        for library in glob.glob(os.environ["SEIGH_LIBTORCH"] + "/lib*.so*"):
            if re.match(r"lib(torch|torch_cpu|torch_cuda|c10|c10_cuda)\.so", os.path.basename(library)):
                theirs |= {s for kind, s in self.symbols("-D", "--defined-only", library) if kind in "TDBR"}
        self.assertTrue(theirs)
        of_std = {s for s in theirs & self.undefined() if re.match(r"_Z(N[KVrRO]*)?S[tabsiod]", s)}
        self.assertEqual(sorted(set(self.demangled(of_std)) - HARMLESS - {""}), [])


class Retired(unittest.TestCase):
    def test_names_that_libtorch_has_given_up(self):
        pattern = (r"\b(c10|at|torch)::(optional|nullopt|nullopt_t|make_optional|in_place|string_view|variant|"
                   r"invoke|apply|is_same_v|enable_if_t)\b|\bAT_(CHECK|ERROR|ASSERT|ASSERTM|INDEX_ERROR)\b|<c10/util/(Optional|variant)\.h>")
        self.assertEqual(occurrences(pattern, "seigh", "apps", "tests", "bench"), [])


if __name__ == "__main__":
    unittest.main()
