"""What others do with seigh: link it when it is installed, by find_package and by pkg-config, and have it within their own
project. The program is README.md's, as it stands there."""

import math
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = os.environ["SEIGH_BUILD"]
LIBTORCH = os.environ["SEIGH_LIBTORCH"]
CMAKE = os.environ["CMAKE"]
CXX = os.environ["CXX"]
README = (ROOT / "README.md").read_text()
SECTION = README[README.index("## As a library"):]


def block(language):
    return re.search(rf"```{language}\n(.*?)```", SECTION, re.S)[1]


class Case(unittest.TestCase):
    def run_in(self, folder, *command, fails=False, **environment):
        out = subprocess.run([str(word) for word in command], cwd=folder, env=os.environ | environment, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(out.returncode != 0, fails, f"{command}\n{out.stdout}")
        return out.stdout

    def configure(self, folder, *options, **more):
        """With the generator of seigh's own build, which the environment names."""
        return self.run_in(folder, CMAKE, "-S", ".", "-B", "build", f"-DCMAKE_MAKE_PROGRAM={os.environ['MAKE']}",
                           f"-DCMAKE_CXX_COMPILER={CXX}", *options, **more)


class Installed(Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="seigh-install-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.prefix = cls.folder / "prefix"
        subprocess.run([CMAKE, "--install", BUILD, "--prefix", cls.prefix], check=True, stdout=subprocess.DEVNULL)
        # Nothing may come from where it was first: what was installed can be moved.
        cls.prefix = cls.prefix.rename(cls.folder / "moved")

    def project(self, name):
        folder = self.folder / name
        folder.mkdir()
        (folder / "walk.cc").write_text(block("cpp"))
        (folder / "CMakeLists.txt").write_text(block("cmake"))
        return folder

    def check_walk(self, output):
        """The eigenvalues are known: 1 / (4 D sin^2((2 i - 1) pi / (2 (2 D + 1)))), i = 1, 2, ..."""
        lines = [re.fullmatch(r" *(\S+) \+- (\S+)  (.+)", line) for line in output.splitlines()]
        self.assertEqual(len(lines), 8, output)
        d = 10_000
        for i, line in enumerate(lines, 1):
            truth = 1 / (4 * d * math.sin((2 * i - 1) * math.pi / (2 * (2 * d + 1))) ** 2)
            self.assertLess(abs(float(line[1]) - truth), 5e-4 + 1.5 * float(line[2]), output)
            self.assertEqual(line[3], "certified", output)

    def test_find_package(self):
        folder = self.project("find_package")
        # Besides the program of README.md: all public headers, as they are installed.
        headers = sorted(str(p.relative_to(self.prefix / "include")) for p in (self.prefix / "include").rglob("*.h"))
        public = (ROOT / "cmake/PublicHeaders.cmake").read_text()
        wanted = re.findall(r"seigh/\w+/\w+\.h", public)
        if not list(self.prefix.rglob("seighMpiTargets.cmake")):
            wanted = [h for h in wanted if not h.startswith("seigh/mpi/")]
        self.assertEqual(headers, sorted(wanted))
        (folder / "headers.cc").write_text("".join(f"#include <{h}>\n" for h in headers) * 2)
        with open(folder / "CMakeLists.txt", "a") as file:
            file.write("add_library(headers OBJECT headers.cc)\ntarget_link_libraries(headers PRIVATE seigh::seigh)\n"
                       "target_compile_options(headers PRIVATE -O0 -Wall -Wextra -Werror)\n")
        self.configure(folder, f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.run_in(folder, CMAKE, "--build", "build")
        self.check_walk(self.run_in(folder, "build/walk"))

    def test_pkg_config(self):
        folder = self.project("pkg_config")
        where = next(self.prefix.rglob("seigh.pc")).parent
        self.assertIn("`c++ -std=c++20 walk.cc -o walk $(pkg-config --cflags --libs seigh)`", SECTION)
        self.run_in(folder, "sh", "-c", f"{CXX} -std=c++20 walk.cc -o walk $(pkg-config --cflags --libs seigh)",
                    PKG_CONFIG_PATH=str(where))
        self.check_walk(self.run_in(folder, "./walk"))

    def test_the_command(self):
        out = self.run_in(self.folder, self.prefix / "bin/seigh", "--version")
        self.assertRegex(out, r"\d+\.\d+\.\d+")

    def test_mpi_is_a_component(self):
        folder = self.project("component")
        (folder / "CMakeLists.txt").write_text(block("cmake").replace("REQUIRED)", "REQUIRED COMPONENTS mpi)")
                                               .replace("seigh::seigh", "seigh::mpi"))
        there = bool(list(self.prefix.rglob("seighMpiTargets.cmake")))
        self.configure(folder, f"-DCMAKE_PREFIX_PATH={self.prefix}", fails=not there)

    def test_another_libtorch(self):
        """Refused in one line: the two would not fit together."""
        folder = self.project("another_libtorch")
        config = next(self.prefix.rglob("seighConfig.cmake"))
        text = config.read_text()
        built = re.search(r'VERSION_EQUAL "([\d.]+)"', text)[1]
        other = self.folder / "built_with_another"
        shutil.copytree(config.parent, other)
        (other / "seighConfig.cmake").write_text(text.replace(f'VERSION_EQUAL "{built}"', 'VERSION_EQUAL "2.0.1"')
                                                 .replace(f"libtorch {built}", "libtorch 2.0.1"))
        out = self.configure(folder, f"-Dseigh_DIR={other}", fails=True)
        self.assertRegex(" ".join(out.split()), rf"seigh was built with libtorch 2\.0\.1, and the one in \S+ is {re.escape(built)}: ")
        out = self.configure(folder, f"-Dseigh_DIR={config.parent}", f"-DSEIGH_TORCH={self.folder}", fails=True)
        self.assertIn(f"No libtorch found in {self.folder}", " ".join(out.split()))


class Included(Case):
    def test_add_subdirectory(self):
        """seigh is then its library alone, and the settings around it stay as they are."""
        folder = Path(tempfile.mkdtemp(prefix="seigh-included-"))
        self.addCleanup(shutil.rmtree, folder)
        (folder / "main.cc").write_text("int main() {}\n")
        (folder / "CMakeLists.txt").write_text(f"""
cmake_minimum_required(VERSION 3.25)
project(outer LANGUAGES CXX)
function(settings file)
  get_cmake_property(names VARIABLES)
  set(text "")
  foreach(name IN LISTS names)
    if(name MATCHES "^(CMAKE_(CXX|C|EXE|SHARED|MODULE|STATIC)_.*(FLAGS|STANDARD|LAUNCHER|EXTENSIONS).*|CMAKE_.*_OUTPUT_DIRECTORY|CMAKE_BUILD_TYPE|CMAKE_MODULE_PATH|CMAKE_INSTALL_PREFIX|CMAKE_POSITION_INDEPENDENT_CODE|CMAKE_FIND_.*|CMAKE_INTERPROCEDURAL.*|BUILD_SHARED_LIBS|BUILD_TESTING)$" AND NOT name MATCHES "^CMAKE_C_")
      string(APPEND text "${{name}}=${{${{name}}}}\\n")
    endif()
  endforeach()
  file(WRITE ${{CMAKE_BINARY_DIR}}/${{file}} "${{text}}")
endfunction()
settings(before)
add_subdirectory({ROOT} seigh)
settings(after)
add_executable(outer main.cc)
target_link_libraries(outer PRIVATE seigh::seigh)
function(targets folder)
  get_property(here DIRECTORY ${{folder}} PROPERTY BUILDSYSTEM_TARGETS)
  get_property(inner DIRECTORY ${{folder}} PROPERTY SUBDIRECTORIES)
  get_property(tests DIRECTORY ${{folder}} PROPERTY TESTS)
  file(APPEND ${{CMAKE_BINARY_DIR}}/targets "${{here}};${{tests}};")
  foreach(folder IN LISTS inner)
    targets(${{folder}})
  endforeach()
endfunction()
targets(${{CMAKE_CURRENT_SOURCE_DIR}})
""")
        self.configure(folder, f"-DSEIGH_TORCH={LIBTORCH}")
        build = folder / "build"
        self.assertEqual((build / "before").read_text(), (build / "after").read_text())
        cache = dict(re.findall(r"^(\w+):\w+=(.*)$", (build / "CMakeCache.txt").read_text(), re.M))
        self.assertFalse({"BUILD_TESTING", "BUILD_SHARED_LIBS"} & set(cache))
        targets = {t for t in (build / "targets").read_text().split(";") if t}
        self.assertEqual(targets, {"outer", "seigh", "seigh_flags", "seigh_third_party", "seigh_sample_report"})


if __name__ == "__main__":
    unittest.main()
