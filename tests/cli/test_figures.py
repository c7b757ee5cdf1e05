"""seigh report --figures: which figures there are, files that others can read, and what is drawn, against the numbers in result files."""

import base64
import re
import shutil
import unittest
import xml.etree.ElementTree as ET
import zlib

import test_pruning
import test_synthetic
from support import *

ALL = ["concentration", "eigenspace-maps", "mask-iou-maps", "overlap", "overlap-exact"]
INK, GRID, SOFT = (.110, .141, .188), (.894, .910, .929), (.353, .396, .451)
BLUE, GREEN = (0, .447, .698), (0, .514, .373)
VIRIDIS = np.array([[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50],
                    [253, 231, 37]])


def strokes(svg):
    """Lines of straight pieces: [(colour, width, [points of a piece, ...])], in the order of drawing."""
    found = []
    for element in ET.parse(svg).iter("{http://www.w3.org/2000/svg}path"):
        style, d = element.get("style", ""), element.get("d", "")
        stroke = re.search(r"stroke:rgb\(([\d.]+)%,([\d.]+)%,([\d.]+)%\)", style)
        if not stroke or "C" in d:
            continue
        assert element.get("transform") is None
        pieces = [[tuple(map(float, p.split())) for p in re.split("L", piece)] for piece in re.split("M", d.replace("Z", ""))[1:]]
        found.append((tuple(float(v) / 100 for v in stroke.groups()), float(re.search(r"stroke-width:([\d.]+)", style)[1]), pieces))
    return found


def of_colour(found, colour, width):
    return [pieces for c, w, pieces in found if w == width and np.abs(np.subtract(c, colour)).max() < 2e-3]


def affine(numbers, points):
    """-> slope, offset of the axis on which these numbers are at these points, which must all lie on it."""
    slope, offset = np.polyfit(numbers, points, 1)
    np.testing.assert_allclose(slope * np.array(numbers) + offset, points, atol=0.02)
    return slope, offset


def images(svg):
    """Embedded pictures: uint8 [rows, columns, 3], unpacked by the description of PNG."""
    for element in ET.parse(svg).iter("{http://www.w3.org/2000/svg}image"):
        content = base64.b64decode(element.get("{http://www.w3.org/1999/xlink}href").split(",")[1])
        at, packed = 8, b""
        while at < len(content):
            length, kind = int.from_bytes(content[at:at + 4], "big"), content[at + 4:at + 8]
            data = content[at + 8:at + 8 + length]
            if kind == b"IHDR":
                width, height, depth, colours = *struct.unpack(">II", data[:8]), data[8], data[9]
                assert (depth, colours) == (8, 2)
            packed += data if kind == b"IDAT" else b""
            at += 12 + length
        lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + 3 * width)
        above, rows = np.zeros(3 * width, int), []
        for line in lines:
            filtered, row = int(line[0]), line[1:].astype(int)
            if filtered == 2:
                row = (row + above) % 256
            elif filtered:
                for i in range(3 * width):
                    a, b, c = (row[i - 3] if i > 2 else 0), above[i], (above[i - 3] if i > 2 else 0)
                    paeth = min((a, b, c), key=lambda v: abs(a + b - c - v))
                    row[i] = (row[i] + {1: a, 3: (a + b) // 2, 4: paeth}[filtered]) % 256
            rows.append(row)
            above = row
        yield np.array(rows).reshape(height, width, 3)


class Figures(Case):
    def figures(self, folder, name="figures"):
        """-> the folder with them, what was said of those written and of those left out."""
        to = self.tmp / name
        lines = self.ok("report", folder, "--figures", to).stdout.splitlines()
        written = [line for line in lines if not line.startswith("left out: ")]
        self.assertEqual(sorted(line.split(".svg, .pdf: ")[0] for line in written), sorted({str(p.with_suffix("")) for p in to.iterdir()}))
        return to, written, lines[len(written):]

    def check_files(self, to, names):
        self.assertEqual(sorted(p.name for p in to.iterdir()), sorted(f"{name}.{kind}" for name in names for kind in ("svg", "pdf")))
        for name in names:
            root = ET.parse(to / f"{name}.svg").getroot()
            self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
            self.assertIn(root.get("width"), ("504pt", "245pt"))  # 7 or 3.4 inches
            left, top, width, height = map(float, root.get("viewBox").split())
            self.assertLess(height, 11 * 72)
            content = (to / f"{name}.pdf").read_bytes()
            self.assertTrue(content.startswith(b"%PDF"))
            self.assertEqual(len(re.findall(rb"/Type /Page\b", content)), 1)
            box = [float(v) for v in re.search(rb"/MediaBox \[ ([^]]*)\]", content)[1].split()]
            np.testing.assert_allclose(box, [0, 0, width, height], atol=1)
            self.assertIn(b"DejaVu", content)  # letters, not their outlines
            self.assertNotIn(str(self.tmp).encode(), content)

    def test_of_a_run(self):
        run = self.run_copy()
        before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
        to, written, left_out = self.figures(run)
        self.check_files(to, ALL)
        self.assertEqual(len(written), len(ALL))
        self.assertEqual(len(left_out), 2)
        self.assertRegex(left_out[0], r"^left out: pruning: .*--set prune\.scores=")
        self.assertRegex(left_out[1], r"^left out: metrics .*synthetic-grassmann")
        self.assertEqual({p: p.read_bytes() for p in run.rglob("*") if p.is_file()}, before)
        # The same bytes again, wherever they are written; what was there is replaced.
        again, _, _ = self.figures(run, "again")
        for path in to.iterdir():
            self.assertEqual((again / path.name).read_bytes(), path.read_bytes(), path.name)
            path.write_text("old")
        self.figures(run)
        self.assertEqual([p.name for p in to.iterdir() if p.read_bytes() != (again / p.name).read_bytes()], [])

    def test_curves_by_k(self):
        to, _, _ = self.figures(self.shared() / "run")
        found = strokes(to / "overlap.svg")
        axes = None
        # The first of the two steps is darkest in both panels, which are drawn one after the other.
        drawn = of_colour(found, VIRIDIS[0] / 255, 1.1)
        self.assertEqual(len(drawn), 2)
        for split, pieces in zip(("train", "test"), drawn):
            with h5py.File(self.shared() / f"run/overlap/step_000010_{split}_hessian_seigh.h5") as file:
                ratio = file["magnitude"][()] / file["chance"][()]
            shown = np.flatnonzero(ratio > 0)  # an axis of logarithms
            points = np.array([p for piece in pieces for p in piece])
            self.assertEqual(len(points), len(shown))
            affine(np.log(shown + 1), points[:, 0])
            y = affine(np.log(ratio[shown]), points[:, 1])
            # Both panels have one y axis, and its lines are at round numbers, the dotted one at 1.
            axes = axes or y
            np.testing.assert_allclose(y, axes, rtol=1e-3)
            rows = [piece[0] for piece in of_colour(found, GRID, 0.6) if piece[0][0][1] > points[:, 1].min() - 20]
            values = {float(f"{np.exp((line[0][1] - y[1]) / y[0]):.4g}") for line in rows}
            self.assertGreater(len(values), 1)
            for value in values:
                self.assertEqual(float(f"{value:.2g}"), value)
        one = [piece[0][0][1] for piece in of_colour(found, INK, 0.8)]
        np.testing.assert_allclose(one, axes[1], atol=0.05)

    def test_curves_by_step(self):
        to, _, _ = self.figures(self.shared() / "run")
        found = strokes(to / "overlap-exact.svg")
        for i, split in enumerate(("train", "test")):
            values = []
            for step, method in ((10, "seigh"), (20, "seigh"), (20, "dense")):
                with h5py.File(self.shared() / f"run/overlap/step_{step:06}_{split}_hessian_{method}.h5") as file:
                    values.append(file["magnitude"][9])
                    chance = file["chance"][9]
            curve = of_colour(found, BLUE, 1.5)[i][0]
            dotted = of_colour(found, INK, 0.9)[i][0]
            self.assertEqual([p[0] for p in curve], [p[0] for p in dotted])
            diamond = np.mean(of_colour(found, GREEN, 0.7)[i][0][:4], axis=0)
            self.assertAlmostEqual(diamond[0], curve[1][0], delta=0.01)
            affine(np.log([*values, chance]), [curve[0][1], curve[1][1], diamond[1], dotted[0][1]])

    def test_maps(self):
        """Cells in the colours of their values, the first row at the bottom."""
        to, _, _ = self.figures(self.shared() / "run")
        with h5py.File(self.shared() / "run/dynamics.h5") as file:
            values = [*file["mask_similarity"][()]], [m for n in ("train", "test", "train_test") for m in file[f"{n}_similarity"][()]]
        for name, maps in zip(("mask-iou-maps", "eigenspace-maps"), values):
            drawn = list(images(to / f"{name}.svg"))
            self.assertEqual(len(drawn), len(maps) + 1)  # the last is the bar
            for picture, wanted in zip(drawn, maps):
                n, m = wanted.shape
                cells = picture[picture.shape[0] // (2 * n)::picture.shape[0] // n, picture.shape[1] // (2 * m)::picture.shape[1] // m]
                colours = [[[np.interp(8 * v, np.arange(9), VIRIDIS[:, c]) for c in range(3)] for v in row] for row in wanted[::-1]]
                np.testing.assert_allclose(cells[:n, :m], colours, atol=1.01)

    def test_concentration(self):
        to, _, _ = self.figures(self.shared() / "run")
        found = strokes(to / "concentration.svg")
        with h5py.File(self.shared() / "run/eigen/step_000020_train_hessian_dense.h5") as file:
            squares, norm = file["eigenvalues"][()] ** 2, file.attrs["frobenius_estimate"] ** 2
        exact = squares[:10].sum() / norm
        diamonds = [np.mean(pieces[0][:4], axis=0) for c, w, pieces in found if w == 0.7 and len(pieces[0]) >= 4]
        curves = {}
        for step in (10, 20):
            with h5py.File(self.shared() / f"run/eigen/step_{step:06}_train_hessian_seigh.h5") as file:
                curves[step] = min((file["eigenvalues"][()] ** 2).sum() / file.attrs["frobenius_estimate"] ** 2, 1)  # a share
        k10 = next(pieces[0] for c, w, pieces in found if w == 1.1 and np.abs(np.subtract(c, (.835, .369, 0))).max() < 2e-3)
        slope = (k10[1][1] - k10[0][1]) / (curves[20] - curves[10])
        self.assertTrue(any(abs(d[1] - k10[1][1] - slope * (exact - curves[20])) < 0.05 for d in diamonds))

    def test_pruning(self):
        recipe = self.tmp / "recipe.toml"
        recipe.write_text(test_pruning.PRUNED)
        self.ok("run", recipe, "--data", self.data, "--out", self.tmp / "run", "--threads", "1", "--set", "prune.by_layer_controls=true")
        to, written, left_out = self.figures(self.tmp / "run")
        self.check_files(to, ["concentration", "eigenspace-maps", "mask-iou-maps", "overlap", "overlap-nulls", "pruning"])
        self.assertTrue(any("exact beside" in line and "dense.steps" in line for line in left_out))
        rows = test_pruning.rows_of(self.tmp / "run")
        accuracy = {r["sparsity"]: r["accuracy"] for r in rows if r["score"] == "magnitude" and not r["control"]}
        whole = next(r["accuracy"] for r in rows if r["score"] == "none")
        found = strokes(to / "pruning.svg")
        curve, rule = of_colour(found, BLUE, 1.1)[0][0], of_colour(found, INK, 0.8)[0][0]
        self.assertLess(curve[0][0], curve[1][0])  # .5, then .8: more pruned is to the right
        affine([accuracy[.5], accuracy[.8], whole], [curve[0][1], curve[1][1], rule[0][1]])

    def test_synthetic(self):
        recipe = self.tmp / "recipe.toml"
        recipe.write_text(test_synthetic.RECIPE)
        self.ok("run", recipe, "--out", self.tmp / "study")
        to, _, left_out = self.figures(self.tmp / "study")
        self.check_files(to, ["synthetic-by-dimension", "synthetic-by-ratio"])
        self.assertEqual(len(left_out), 1)
        # Medians of all metrics; ratios are .05 and .4, the dark one and the light one.
        with h5py.File(self.tmp / "study/synthetic.h5") as file:
            medians = file["quantiles"][..., 2]
            cells = list(zip(file["dimension"][()], file["ratio"][()]))
        drawn = of_colour(strokes(to / "synthetic-by-dimension.svg"), VIRIDIS[0] / 255, 1.0)
        order = [(kind, metric) for metric in range(8) for kind in range(3) if np.isfinite(medians[kind, metric]).all()]
        self.assertEqual(len(drawn), len(order) + 1)  # and the legend
        where = [cells.index((16, .05)), cells.index((64, .05))]
        heights = []
        for (kind, metric), pieces in zip(order, drawn):
            a, b = medians[kind, metric][where]
            heights.append((b - a, pieces[0][1][1] - pieces[0][0][1]))
        slope = np.array(heights)[:, 1] @ np.array(heights)[:, 0] / (np.array(heights)[:, 0] ** 2).sum()
        self.assertLess(slope, 0)
        np.testing.assert_allclose(np.array(heights)[:, 1], slope * np.array(heights)[:, 0], atol=0.02)

    def test_of_a_sweep(self):
        self.ok("run", self.recipe, "--data", self.data, "--out", self.tmp / "sweep", "--threads", "1", "--set", "dense.steps=[]", "--set",
                "sweep.seeds=2", "--set", "sweep.key=train.learning_rate", "--set", "sweep.values=[0.1, 0.5]")
        to, _, left_out = self.figures(self.tmp / "sweep")
        self.check_files(to, ["sweep-by-step", "sweep-overlap"])
        self.assertRegex(left_out[0], "name one of the sweep's folders")
        run = next(p for p in (self.tmp / "sweep").iterdir() if p.is_dir())
        self.check_files(self.figures(run, "one")[0], [*(name for name in ALL if name != "overlap-exact"), "overlap-nulls"])

    def test_of_a_run_under_way(self):
        """Only what there are data for; with nothing, one line that says what to run."""
        run = self.run_copy()
        for name in ("overlap", "dynamics.h5"):
            path = run / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        to, _, left_out = self.figures(run)
        self.check_files(to, ["concentration"])
        self.assertTrue(any("seigh dynamics" in line for line in left_out))
        self.assertTrue(any("seigh overlap" in line for line in left_out))
        shutil.rmtree(run / "eigen")
        self.refused("report", run, "--figures", self.tmp / "none", says=["nothing to draw yet", "seigh dynamics", "seigh run RECIPE --resume"])
        self.assertFalse((self.tmp / "none").exists())

    def test_wrong_use(self):
        run = self.shared() / "run"
        file = self.tmp / "file"
        file.write_text("mine")
        self.refused("report", run, "--figures", file, says=["is no folder", "--figures"])
        self.refused("report", run, "--figures", file / "below", says=["--figures"])
        self.assertEqual(file.read_text(), "mine")
        (self.tmp / "taken/concentration.pdf").mkdir(parents=True)
        self.refused("report", run, "--figures", self.tmp / "taken", says="concentration.pdf: a folder or special file")
        self.refused("report", run, "--figures", "/proc/figures", says=["cannot write", "--figures"])
        self.refused("report", run, "--figures", self.tmp / "a", "--out", self.tmp / "page.html", says="leave one of them out")
        self.refused("report", run, run, "--figures", self.tmp / "a", says="one folder")
        self.refused("report", self.tmp / "nothing", "--figures", self.tmp / "a", says="nothing")
        damaged = self.run_copy()
        path = next((damaged / "overlap").iterdir())
        content = bytearray(path.read_bytes())
        content[-9] ^= 1
        path.write_bytes(content)
        self.refused("report", damaged, "--figures", self.tmp / "a", says=path.name)
        if os.path.exists("/dev/full"):
            (self.tmp / "full").mkdir()
            os.symlink("/dev/full", self.tmp / "full/concentration.svg")
            self.refused("report", run, "--figures", self.tmp / "full", says="concentration.svg")


def draws():
    folder = Path(tempfile.mkdtemp(prefix="seigh-cli-"))
    try:
        return "without cairo" not in seigh("report", folder, "--figures", folder).stderr
    finally:
        shutil.rmtree(folder)


class Without(Case):
    @unittest.skipIf(draws(), "this program draws")
    def test_one_line(self):
        self.refused("report", self.shared() / "run", "--figures", self.tmp / "a", says=["without cairo", "libcairo2-dev"])


if not draws():
    del Figures

if __name__ == "__main__":
    unittest.main()
