"""Metrics between subspaces against dense computation, SciPy and their identities."""

import math

import scipy.linalg

from support import *

from seigh import metrics


def basis(d, k, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, k, generator=generator, dtype=torch.float64)).Q


def mask(d, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(d, generator=generator, dtype=torch.float64)
    return seigh.masks.Mask(scores, [[d]], ["p"], "random")


def canonical(of, k):
    return torch.eye(of.scores.numel(), dtype=torch.float64)[:, of.order(k)]


class Metrics(Case):
    def test_angles(self):
        for d, k in ((2, 1), (10, 1), (10, 4), (40, 15), (12, 12)):
            a, b, m = basis(d, k, 1), basis(d, k, 2), mask(d, 3)
            for first, second, dense_first, dense_second in ((a, b, a, b), (m, b, canonical(m, k), b), (a, m, a, canonical(m, k)),
                                                             (m, mask(d, 4), canonical(m, k), canonical(mask(d, 4), k)), (a.numpy(), b.numpy(), a, b)):
                found = metrics.principal_angles(first, second, k)
                expected = np.sort(scipy.linalg.subspace_angles(dense_first.numpy(), dense_second.numpy()))
                np.testing.assert_allclose(found.numpy(), expected, atol=1e-7)  # SciPy's own accuracy near 0 is no better
                self.assertTrue(bool((found.diff() >= -1e-12).all()))

    def test_tiny_and_right_angles(self):
        """To rounding, where cosines alone would give 1e-8."""
        d, k, tiny = 30, 3, 1e-11
        m = mask(d, 1)
        inside, outside = m.order(k), m.order(d)[k:2 * k]
        for angle in (tiny, 0.3, math.pi / 2 - tiny):
            b = torch.zeros(d, k, dtype=torch.float64)
            b[inside, range(k)] = math.cos(angle)
            b[outside, range(k)] = math.sin(angle)
            rotation = basis(k, k, 5)
            for first in (m, canonical(m, k)):
                np.testing.assert_allclose(metrics.principal_angles(first, b @ rotation, k).numpy(), [angle] * k, rtol=0, atol=1e-14)

    def test_different_dimensions(self):
        a, b, m = basis(12, 5, 1), basis(12, 3, 2), mask(12, 3)
        n = mask(12, 4)
        for first, second, k, dense_first, dense_second in (
            (a, b, (5, 3), a, b), (a, b, (2, 3), a[:, :2], b), (m, b, (7, 3), canonical(m, 7), b), (m, b, (2, 3), canonical(m, 2), b), (b, m, (3, 1), b, canonical(m, 1)),
            (m, n, (6, 4), canonical(m, 6), canonical(n, 4)), (m, b, (12, 3), torch.eye(12, dtype=torch.float64), b)):
            found = metrics.principal_angles(first, second, k)
            np.testing.assert_allclose(found.numpy(), np.sort(scipy.linalg.subspace_angles(dense_first.numpy(), dense_second.numpy())), atol=1e-7)
            every = metrics.compare(first, second, k)
            self.assertAlmostEqual(every["overlap"], float((dense_first.T @ dense_second).square().sum()) / min(k), places=12)
        # Within the other: all 0; a tiny angle is seen from either side.
        self.assertLess(float(metrics.principal_angles(a[:, :2], a, (2, 5)).max()), 1e-15)
        for k in ((2, 4), (4, 2)):
            inside = m.order(max(k))
            turned = torch.zeros(12, min(k), dtype=torch.float64)
            turned[inside[:min(k)], range(min(k))] = math.cos(1e-11)
            turned[m.order(12)[-1], 0] = math.sin(1e-11)
            turned[inside[0], 0] = math.cos(1e-11)
            turned[inside[1:min(k)], range(1, min(k))] = 1
            found = metrics.principal_angles(m, turned, (max(k), min(k)))
            np.testing.assert_allclose(found.numpy(), [0] * (min(k) - 1) + [1e-11], rtol=0, atol=1e-14)
        both = len(set(m.order(6).tolist()) & set(n.order(4).tolist()))
        self.assertAlmostEqual(metrics.compare(m, n, (6, 4))["iou"], both / (10 - both), places=12)

    def test_identities(self):
        a, b, m, n = basis(25, 6, 1), basis(25, 6, 2), mask(25, 3), mask(25, 4)
        for first, second, k in ((a, b, None), (m, a, 6), (m, n, 6), (a, a, None)):
            found = metrics.compare(first, second, k)
            self.assertAlmostEqual(1 - found["overlap"], found["projection_frobenius"]**2, places=12)
            self.assertTrue(all(-1e-12 <= value <= 1 + 1e-12 for value in found.values()))
        both = len(set(m.order(6).tolist()) & set(n.order(6).tolist()))
        found = metrics.compare(m, n, 6)
        self.assertAlmostEqual(found["overlap"], both / 6, places=12)
        self.assertAlmostEqual(found["iou"], both / (12 - both), places=12)
        angles = metrics.principal_angles(a, b).numpy()
        found = metrics.compare(a, b)
        for name, expected in {"geodesic": np.linalg.norm(angles) / (math.pi * math.sqrt(6) / 2), "chordal_2": np.max(2 * np.sin(angles / 2)) / math.sqrt(2),
                               "chordal_frobenius": np.linalg.norm(2 * np.sin(angles / 2)) / math.sqrt(12), "projection_2": np.max(np.sin(angles)),
                               "fubini_study": math.acos(np.prod(np.cos(angles))) / (math.pi / 2)}.items():
            self.assertAlmostEqual(found[name], expected, places=10, msg=name)

    def test_curves(self):
        a, b, m, n = basis(25, 8, 1), basis(25, 8, 2), mask(25, 3), mask(25, 4)
        for first, second in ((a, b), (m, a), (b, n), (m, n)):
            curve = metrics.overlap_curve(first, second, 8)
            for k in range(1, 9):
                self.assertAlmostEqual(float(curve[k - 1]), metrics.compare(first, second, k)["overlap"], places=10)

    def test_eigenspaces(self):
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        x, y = torch.randn(20, 4).double(), torch.arange(20) % 3
        hessian, ggn = (seigh.eigh(kind(model, F.cross_entropy, (x, y)), k=5, method="dense") for kind in (seigh.Hessian, seigh.GGN))
        magnitude = seigh.masks.magnitude(model)
        curves = seigh.overlap(hessian, magnitude, random_masks=2)
        self.close(metrics.overlap_curve(magnitude, hessian), curves.overlap, 1e-10)
        self.assertEqual(set(metrics.compare(hessian, ggn)), {"geodesic", "chordal_2", "chordal_frobenius", "projection_2", "projection_frobenius", "fubini_study", "overlap"})

    def test_what_an_overlap_is_a_product_of(self):
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
        x, y = torch.randn(40, 6).double(), torch.arange(40) % 3
        pairs, magnitude = seigh.eigh(seigh.Hessian(model, F.cross_entropy, (x, y)), k=20, method="dense"), seigh.masks.magnitude(model)
        found = seigh.overlap(pairs, magnitude)
        at = found.at(20)
        self.assertAlmostEqual(at["chance"] * at["layer"] * at["units"] * at["parameter"], at["overlap"], places=12)
        self.assertAlmostEqual(at["layer"] * at["chance"], float(found.by_layer_mean[19]), places=12)
        # The null by layers from leverages, by hand.
        leverage, order = pairs.eigenvectors.square().sum(1), magnitude.order(20)
        mean = sum(float(piece.mean()) * int(((order >= begin) & (order < begin + n)).sum())
                   for piece, begin, n in zip(leverage.split(magnitude.layers), np.cumsum([0] + magnitude.layers[:-1]), magnitude.layers)) / 20
        self.assertAlmostEqual(mean, float(found.by_layer_mean[19]), places=12)
        self.assertIn("x units", repr(found))
        # By tensor, and masks of other sizes.
        for one, piece, begin, n in zip(found.tensors, leverage.split(magnitude.layers), np.cumsum([0] + magnitude.layers[:-1]), magnitude.layers):
            mine = order[(order >= begin) & (order < begin + n)]
            self.assertEqual((one["parameters"], one["mask"]), (n, len(mine) / 20))
            self.assertAlmostEqual(one["space"], float(piece.sum()) / 20, places=12)
            if len(mine):
                self.assertAlmostEqual(one["within"], float(leverage[mine].mean()), places=12)
        m = int(found.mask_sizes[-1])
        self.assertEqual(m, round(len(leverage) / 2))
        self.assertAlmostEqual(float(found.by_size[-1, -1]), float(leverage[magnitude.order(m)].mean()), places=12)
        low, high, p = found.bands["layer"]
        self.assertTrue(((found.overlap < low) | (found.overlap > high)).any() == (p <= 0.05))
        # Masks of weights alone.
        weights = seigh.overlap(pairs, magnitude, among="*.weight", random_masks=5)
        kept = torch.cat([torch.full((n,), name.endswith("weight")) for name, n in zip(magnitude.names, magnitude.layers)])
        best = torch.where(kept, magnitude.scores.abs(), -1.0).argsort(descending=True)[:20]
        self.assertTrue(torch.equal(weights.mask, best))
        self.assertAlmostEqual(float(weights.chance[-1]), float(leverage[kept].mean()), places=12)
        self.assertEqual(weights.eligible, int(kept.sum()))
        with self.assertRaisesRegex(ValueError, "none of the tensors: 0.weight"):
            seigh.overlap(pairs, magnitude, among=["*.gamma"])

    def test_a_mask_from_a_file(self):
        """The overlap that a hand computation gives, of a ticket of zeros and ones by name and of scores as a vector."""
        import os
        import tempfile
        from safetensors.torch import save_file
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
        x, y = torch.randn(40, 6).double(), torch.arange(40) % 3
        pairs = seigh.eigh(seigh.Hessian(model, F.cross_entropy, (x, y)), k=15, method="dense")
        ticket = {name: (torch.rand(p.shape) < 0.15).to(torch.uint8) for name, p in model.named_parameters() if name != "2.bias"}
        m = int(sum(t.sum() for t in ticket.values()))
        flat = torch.cat([ticket[name].flatten() if name in ticket else torch.zeros(p.numel()) for name, p in model.named_parameters()]).bool()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "ticket.safetensors")
            save_file(ticket, path)
            mask = seigh.masks.load(model, path)
            self.assertTrue(torch.equal(torch.cat(list(mask.of(m).values())), flat))
            self.assertTrue(1 < m <= 15)
            by_hand = float(pairs.eigenvectors[flat][:, :m].square().sum()) / m
            self.assertAlmostEqual(seigh.overlap(pairs, mask).at(m)["overlap"], by_hand, places=10)
            vector = torch.randn(len(flat), dtype=torch.float64)
            np.save(os.path.join(folder, "scores.npy"), vector.numpy())
            scored = seigh.masks.load(model, os.path.join(folder, "scores.npy"))
            largest = vector.abs().argsort(descending=True)[:10]
            self.assertAlmostEqual(seigh.overlap(pairs, scored).at(10)["overlap"], float(pairs.eigenvectors[largest][:, :10].square().sum()) / 10, places=10)
            np.save(os.path.join(folder, "short.npy"), np.ones(5))
            for name, kind, says in (("short.npy", ValueError, "holds 5 numbers, the parameters 83"), ("nowhere.npy", FileNotFoundError, "nowhere")):
                with self.assertRaisesRegex(kind, says):
                    seigh.masks.load(model, os.path.join(folder, name))
            save_file({"other": torch.ones(3)}, path)
            with self.assertRaisesRegex(ValueError, "none of the parameters' names"):
                seigh.masks.load(model, path)

    def test_wrong_use(self):
        for call, kind, says in ((lambda: metrics.compare(mask(9, 1), mask(9, 2)), ValueError, "k="),
                                 (lambda: metrics.compare(basis(9, 3, 1), basis(8, 3, 1)), ValueError, "R.9 and R.8"),
                                 (lambda: metrics.compare(basis(9, 3, 1), basis(9, 2, 1)), ValueError, "k = 3 is more than the 2"),
                                 (lambda: metrics.compare(mask(9, 1), 2 * basis(9, 3, 1)), ValueError, "not orthonormal"),
                                 (lambda: metrics.compare("a", basis(9, 3, 1)), TypeError, "EigenPairs, a mask, or")):
            with self.assertRaisesRegex(kind, says):
                call()


if __name__ == "__main__":
    unittest.main()
