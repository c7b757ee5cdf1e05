"""Products of all kinds of modules, losses and data against dense matrices that PyTorch makes itself."""

from support import *
import torch.utils.checkpoint
from torch.nn.utils import parametrizations, rnn


class Classifier(nn.Module):
    def __init__(self, body, features, classes=3):
        super().__init__()
        self.body, self.head = body, nn.Linear(features, classes)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


def last(module):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            return self.inner(x)[0][:, -1]
    return Last()


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 4)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v)).mean(1)


def dense_ggn(outputs, loss, parameters):
    f = outputs()
    jacobian = torch.stack([flat(torch.autograd.grad(entry, parameters, retain_graph=True, allow_unused=True), parameters) for entry in f.flatten()])
    leaf = f.detach()
    h = torch.autograd.functional.hessian(lambda v: loss(v.reshape(leaf.shape)), leaf.flatten())
    return jacobian.T @ h @ jacobian


MODULES = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), (4,)),
    "mlp by autograd": (lambda: nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 3)), (4,)),
    "conv1d": (lambda: Classifier(nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.Tanh()), 24), (2, 6)),
    "conv2d": (lambda: Classifier(nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Softplus(), nn.AvgPool2d(2)), 4), (2, 4, 4)),
    "conv3d": (lambda: Classifier(nn.Sequential(nn.Conv3d(1, 2, 2), nn.Tanh()), 16), (1, 3, 3, 3)),
    "grouped": (lambda: Classifier(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2, padding=1), nn.Tanh()), 36), (4, 3, 3)),
    "dilated": (lambda: Classifier(nn.Sequential(nn.Conv2d(1, 2, 2, dilation=2), nn.Tanh()), 18), (1, 5, 5)),
    "transposed": (lambda: Classifier(nn.Sequential(nn.ConvTranspose2d(1, 2, 2, stride=2), nn.Tanh()), 32), (1, 2, 2)),
    "batch norm": (lambda: Classifier(nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Tanh()), 8), (1, 3, 3)),
    "layer norm": (lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 3)), (4,)),
    "rms norm": (lambda: nn.Sequential(nn.Linear(4, 5), nn.RMSNorm(5), nn.Tanh(), nn.Linear(5, 3)), (4,)),
    "lstm": (lambda: Classifier(last(nn.LSTM(2, 3, batch_first=True)), 3), (4, 2)),
    "gru": (lambda: Classifier(last(nn.GRU(2, 3, batch_first=True)), 3), (4, 2)),
    "attention": (lambda: Classifier(Attention(), 4), (3, 4)),
    "weight norm, written out": (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 5), dim=None), nn.Tanh(), nn.Linear(5, 3)), (4,)),
    "dropout in evaluation mode": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3)), (4,)),
}


class Modules(Case):
    def test_hessian_and_ggn(self):
        n = 7
        for name, (make, shape) in MODULES.items():
            with self.subTest(name):
                torch.manual_seed(1)
                model = make().double().eval()
                x, y = torch.randn(n, *shape, dtype=torch.float64), torch.arange(n) % 3
                parameters = list(model.parameters())
                h = dense(lambda: F.cross_entropy(model(x), y), parameters)
                state = copy.deepcopy(model.state_dict())
                v = torch.randn(len(h), 3, dtype=torch.float64)
                matrix = seigh.Hessian(model, F.cross_entropy, (x, y))
                self.close(matrix @ v, h @ v, 1e-9)
                batches = seigh.Hessian(model, lambda f, t: F.cross_entropy(f, t), [(x[:4], y[:4]), (x[4:], y[4:])])
                self.close(batches @ v, h @ v, 1e-9)
                single = seigh.Hessian(copy.deepcopy(model).float(), nn.CrossEntropyLoss(), (x.float(), y))
                self.close(single @ v.float(), h @ v, 1e-4)
                g = dense_ggn(lambda: model(x), lambda f: F.cross_entropy(f, y), parameters)
                self.close(seigh.GGN(model, F.cross_entropy, (x, y)) @ v, g @ v, 1e-9)
                self.assertTrue(all(p.grad is None for p in parameters))
                self.assertFalse(model.training)
                for key, value in model.state_dict().items():
                    self.assertTrue(torch.equal(value, state[key]), key)

    def test_batched(self):
        """By forward over reverse mode, where torch.func can."""
        cannot = {"weight norm, written out"}  # torch.func's own derivative of it has another shape
        for name, (make, shape) in MODULES.items():
            with self.subTest(name):
                torch.manual_seed(1)
                model = make().double().eval()
                x, y = torch.randn(7, *shape, dtype=torch.float64), torch.arange(7) % 3
                v = torch.randn(sum(p.numel() for p in model.parameters()), 5, dtype=torch.float64)
                if name in cannot:
                    with self.assertRaises(RuntimeError):
                        seigh.Hessian(model, F.cross_entropy, (x, y), products="batched") @ v
                    continue
                for kind in (seigh.Hessian, seigh.GGN, seigh.EmpiricalFisher, seigh.MCFisher):
                    expected = kind(model, F.cross_entropy, (x, y), products="graph") @ v
                    matrix = kind(model, F.cross_entropy, (x, y), products="batched", batch_size=4)
                    self.close(matrix @ v, expected, 1e-10)
                    self.assertTrue(matrix.way.startswith("batched"), matrix.way)
                    self.close(kind(model, F.cross_entropy, [(x[:4], y[:4]), (x[4:], y[4:])], products="batched") @ v[:, 0], expected[:, 0], 1e-10)

    def test_batched_of_all_kinds_of_losses(self):
        torch.manual_seed(1)

        class Tied(nn.Module):  # one tensor under two names, and a buffer
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
                self.second.weight = self.first.weight
                self.register_buffer("seen", torch.zeros(1))

            def forward(self, x, scale=1.0):
                self.seen += 1
                return self.second(torch.tanh(self.first(x))) * scale

        model = Tied().double()
        x, y = torch.randn(9, 4, dtype=torch.float64), torch.randn(9, 4, dtype=torch.float64)
        weights = torch.tensor([1.0, 2.0, 0.5, 1.0], dtype=torch.float64)
        cases = {
            "own": (lambda f, t: ((f - t).abs()**3 * weights).mean(), (x, y), {}),
            "named inputs": (F.mse_loss, [({"x": x, "scale": torch.full((9, 1), 0.5, dtype=torch.float64)}, y)], {}),
            "several inputs": (F.mse_loss, ((x, torch.full((9, 1), 0.5, dtype=torch.float64)), y), {}),
            "of model and batch": (lambda model, batch: (model(batch[0]) - batch[1]).square().mean(), [(x, y)], {}),
            "a sum": (nn.MSELoss(reduction="sum"), [(x[:4], y[:4]), (x[4:], y[4:])], {"reduction": "sum"}),
            "classes": (F.cross_entropy, (x, torch.arange(9) % 4), {"params": "second"}),
        }
        for name, (loss, data, more) in cases.items():
            with self.subTest(name):
                graph = seigh.Hessian(model, loss, data, products="graph", **more)
                v = torch.randn(graph.shape[0], 3, dtype=torch.float64)
                seen = model.seen.clone()
                self.close(seigh.Hessian(model, loss, data, products="batched", **more) @ v, graph @ v, 1e-10)
                self.assertTrue(torch.equal(model.seen, seen))
        class Own(torch.autograd.Function):  # for single vectors only
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x**2

            @staticmethod
            def backward(ctx, g):
                return 2 * ctx.saved_tensors[0] * g

        matrix = seigh.Hessian(model, lambda f, t: Own.apply(f - t).mean(), (x, y), products="batched", check=False)
        with self.assertRaisesRegex(RuntimeError, "setup_context"):
            matrix @ torch.ones(matrix.shape[0], dtype=torch.float64)
        own = lambda f, t: ((f - t).abs()**3 * weights).mean()
        v = torch.randn(matrix.shape[0], 3, dtype=torch.float64)
        self.close(seigh.GGN(model, own, (x, y), products="batched") @ v, seigh.GGN(model, own, (x, y), products="graph") @ v, 1e-10)

    def test_batched_or_not_at_all(self):
        """What reaches the loss past the parameters that a network is given is no wrong number."""
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        x, y = torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 3
        known = list(model.parameters())
        penalised = lambda f, t: F.cross_entropy(f, t) + sum((p**4).sum() for p in model.parameters())
        captured = lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]) + sum((p**4).sum() for p in known)

        class Listed(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)
                self.kept = [self.second.weight]

            def forward(self, x):
                return self.second(torch.tanh(self.first(x))) + torch.tanh(self.first(x)) @ self.kept[0].T

        class Halted(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)

            def forward(self, x):
                with torch.no_grad():
                    scale = self.first(x).abs().mean(1, keepdim=True)
                return self.second(torch.tanh(self.first(x))) * scale

        class Again(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)

            def forward(self, x):
                hidden = lambda t: torch.tanh(self.first(t))
                return self.second(torch.utils.checkpoint.checkpoint(hidden, x, use_reentrant=False))

        cases = {"loss over the model": (model, penalised, (x, y)), "captured": (model, captured, [(x, y)]), "listed": (Listed().double(), F.cross_entropy, (x, y)),
                 "no_grad": (Halted().double(), F.cross_entropy, (x, y)), "checkpoint": (Again().double(), F.cross_entropy, (x, y))}
        for name, (network, loss, data) in cases.items():
            with self.subTest(name), self.assertRaisesRegex(ValueError, 'use products = "graph"'):
                seigh.Hessian(network, loss, data, products="batched", check=False).way

    def test_batched_with_tensors_that_a_network_keeps(self):
        class Keeps(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer, self.kept = nn.Linear(4, 3), {}

            def forward(self, x):
                h = self.layer(x)
                if len(x) not in self.kept:
                    self.kept[len(x)] = torch.ones_like(h).cumsum(1)
                return torch.tanh(h) * self.kept[len(x)]

        torch.manual_seed(1)
        model, x, y = Keeps().double(), torch.randn(9, 4, dtype=torch.float64), torch.arange(9) % 3
        for size in (4, 2, 5):
            matrix = seigh.Hessian(model, F.cross_entropy, (x, y), products="batched", batch_size=size, check=False)
            v = torch.randn(matrix.shape[0], 3, dtype=torch.float64)
            self.close(matrix @ v, seigh.Hessian(model, F.cross_entropy, (x, y), products="graph", batch_size=size, check=False) @ v, 1e-10)
            self.close(matrix @ v, seigh.Hessian(model, F.cross_entropy, (x, y), products="graph", batch_size=size, check=False) @ v, 1e-10)

    def test_wrong_or_missing_second_derivatives_by_differences(self):
        """Truth by differences of the gradient at two steps, where PyTorch's own second derivative is wrong or missing."""
        class Bag(nn.Module):
            def __init__(self):
                super().__init__()
                self.bag, self.head = nn.EmbeddingBag(6, 4), nn.Linear(4, 3)

            def forward(self, x):
                return self.head(torch.tanh(self.bag(x)))

        cases = {
            "weight norm": (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3)), torch.randn(7, 4)),
            "hardsigmoid": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Hardsigmoid(), nn.Linear(5, 3)), torch.randn(7, 4)),
            "embedding bag": (Bag, torch.randint(0, 6, (7, 3))),
        }
        for name, (make, x) in cases.items():
            with self.subTest(name), warnings.catch_warnings():
                warnings.simplefilter("ignore", seigh.SeighWarning)
                model = make().double()
                x, y = x.double() if x.is_floating_point() else x, torch.arange(7) % 3
                matrix = seigh.Hessian(model, F.cross_entropy, (x, y))
                parameters = list(model.parameters())
                v = torch.randn(matrix.shape[0], dtype=torch.float64)
                found = matrix @ v
                self.assertTrue(matrix.by_differences)
                self.assertTrue(any("difference" in note for note in matrix.notes))
                pieces = matrix.as_dict(v).values()

                def gradient(h):
                    other = copy.deepcopy(model)
                    with torch.no_grad():
                        for p, piece in zip(other.parameters(), pieces):
                            p += h * piece
                    return flat(torch.autograd.grad(F.cross_entropy(other(x), y), list(other.parameters())), parameters)

                for h in (1e-4, 1e-5):
                    self.close(found, (gradient(h) - gradient(-h)) / (2 * h), 1e-6)

    def test_inputs_of_all_kinds(self):
        class Two(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)

            def forward(self, first, second=None):
                return torch.tanh(self.a(first) + self.b(second))[:, :3]

        model = Two().double()
        a, b, y = torch.randn(6, 3).double(), torch.randn(6, 2).double(), torch.arange(6) % 3
        h = dense(lambda: F.cross_entropy(model(a, b), y), list(model.parameters()))
        v = torch.randn(len(h), dtype=torch.float64)
        own = lambda model, batch: F.cross_entropy(model(batch["first"], batch["second"]), batch["y"])
        for name, matrix in {
            "tuple": seigh.Hessian(model, F.cross_entropy, ((a, b), y)),
            "dictionary": seigh.Hessian(model, F.cross_entropy, ({"first": a, "second": b}, y)),
            "batches of three": seigh.Hessian(model, F.cross_entropy, [(a[:2], b[:2], y[:2]), (a[2:], b[2:], y[2:])]),
            "batch with labels": seigh.Hessian(model, F.cross_entropy, [{"first": a, "second": b, "labels": y}]),
            "data set": seigh.Hessian(model, F.cross_entropy, torch.utils.data.TensorDataset(a, b, y)),
            "of model and batch": seigh.Hessian(model, own, [{"first": a[:2], "second": b[:2], "y": y[:2]}, {"first": a[2:], "second": b[2:], "y": y[2:]}],
                                                weight=lambda batch: len(batch["y"])),
            "one batch of model and batch": seigh.Hessian(model, own, {"first": a, "second": b, "y": y}),
        }.items():
            with self.subTest(name):
                self.close(matrix @ v, h @ v, 1e-9)

    def test_packed_sequences(self):
        class Packed(nn.Module):
            def __init__(self):
                super().__init__()
                self.gru, self.head = nn.GRU(2, 3), nn.Linear(3, 3)

            def forward(self, x):
                return self.head(self.gru(x)[1][0])

        model = Packed().double()
        x = rnn.pack_sequence([torch.randn(n, 2).double() for n in (4, 3, 1)])
        y = torch.tensor([0, 1, 2])
        h = dense(lambda: F.cross_entropy(model(x), y), list(model.parameters()))
        v = torch.randn(len(h), dtype=torch.float64)
        self.close(seigh.Hessian(model, F.cross_entropy, [(x, y)]) @ v, h @ v, 1e-9)

    def test_parameters(self):
        padded = nn.Sequential(nn.Embedding(5, 4, padding_idx=0), nn.Linear(4, 3)).double()
        x, y = torch.arange(10) % 5, torch.arange(10) % 3
        h = dense(lambda: F.cross_entropy(padded(x), y), list(padded.parameters()))
        self.assertTrue(bool((h[:4] == 0).all()))
        h[:, :4] = 0  # PyTorch gives the row of the padding no gradient: it stays as it is
        self.close(seigh.Hessian(padded, F.cross_entropy, (x, y)) @ torch.eye(len(h), dtype=torch.float64), h, 1e-9)
        model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 5, bias=False)).double()
        model[3].weight = model[0].weight  # tied
        model[1].bias.requires_grad_(False)
        x, y = torch.arange(10) % 5, torch.arange(10) % 5
        matrix = seigh.Hessian(model, F.cross_entropy, (x, y))
        self.assertEqual(matrix.parameter_names, ["0.weight", "1.weight"])
        h = dense(lambda: F.cross_entropy(model(x), y), [model[0].weight, model[1].weight])
        v = torch.randn(len(h), dtype=torch.float64)
        self.close(matrix @ v, h @ v, 1e-9)
        block = h[20:, 20:]
        for params in ("1.weight", ["1.*"], "1", lambda name, p: name.startswith("1"), [model[1].weight]):
            part = seigh.Hessian(model, F.cross_entropy, (x, y), params=params)
            self.close(part @ v[20:], block @ v[20:], 1e-9)
        self.assertEqual({name: tuple(t.shape) for name, t in matrix.as_dict(v).items()}, {"0.weight": (5, 4), "1.weight": (4, 4)})
        self.assertTrue(torch.equal(matrix.as_vector(matrix.as_dict(v)), v))

    def test_beneath_wrappers(self):
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        x, y = torch.randn(6, 4).double(), torch.arange(6) % 3
        h = dense(lambda: F.cross_entropy(model(x), y), list(model.parameters()))
        v = torch.randn(len(h), dtype=torch.float64)
        for wrapped in (torch.compile(model), nn.DataParallel(model)):
            self.close(seigh.Hessian(wrapped, F.cross_entropy, (x, y)) @ v, h @ v, 1e-9)

    def test_mixed_precision(self):
        model = nn.Sequential(nn.Linear(4, 5).to(torch.bfloat16), nn.Tanh(), nn.Linear(5, 3).to(torch.bfloat16))
        x, y = torch.randn(6, 4), torch.arange(6) % 3
        with self.assertWarnsRegex(seigh.SeighWarning, "copy in float32"):
            warnings.simplefilter("always", seigh.SeighWarning)
            matrix = seigh.Hessian(model, F.cross_entropy, (x, y))
            product = matrix @ torch.ones(matrix.shape[0])
        exact = copy.deepcopy(model).double()
        h = dense(lambda: F.cross_entropy(exact(x.double()), y), list(exact.parameters()))
        self.close(product, h.sum(1), 1e-5)

    def test_bfloat16(self):
        """In both ways; of torch's own layers too; and pairs are of the matrix in float32."""
        cannot = {"weight norm, written out", "lstm", "attention"}  # nor of the last two forward mode in bfloat16
        for name, (make, shape) in MODULES.items():
            with self.subTest(name):
                torch.manual_seed(1)
                model = make().float().eval()
                x, y = torch.randn(7, *shape), torch.arange(7) % 3
                v = torch.randn(sum(p.numel() for p in model.parameters()), 3)
                for kind in (seigh.Hessian, seigh.GGN):
                    expected = kind(model, F.cross_entropy, (x, y), products="graph", check=False) @ v
                    if name in cannot and kind is seigh.Hessian:
                        with self.assertRaises((RuntimeError, ValueError)):
                            kind(model, F.cross_entropy, (x, y), products="batched", precision="bf16") @ v
                    for products in ("graph",) if name in cannot else ("graph", "batched"):
                        matrix = kind(model, F.cross_entropy, (x, y), products=products, precision="bf16", check=False)
                        off = float((matrix @ v - expected).norm() / expected.norm())
                        self.assertGreater(off, 1e-4, f"{products}: no bfloat16")
                        self.assertLess(off, 0.3, products)
                        self.assertGreater(matrix.product_error, float((matrix @ v - expected).norm() / v.norm()) / 8)
        self.assertFalse(torch.is_autocast_enabled("cpu"))

    def test_bfloat16_is_refined(self):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        x, y = torch.randn(30, 4), torch.arange(30) % 3
        exact = copy.deepcopy(model).double()
        h = dense(lambda: F.cross_entropy(exact(x.double()), y), list(exact.parameters()))
        truth = torch.linalg.eigvalsh(h)
        for method in ("krylov", "seigh", "hmt", "nystrom"):
            pairs = seigh.eigh(seigh.Hessian(model, F.cross_entropy, (x, y), precision="bf16"), 5, method=method, products=0 if method == "krylov" else 20)
            values, vectors = torch.as_tensor(pairs.eigenvalues).double(), torch.as_tensor(pairs.eigenvectors).double()
            residuals = (h @ vectors - vectors * values).norm(dim=0)
            self.assertTrue((residuals <= torch.as_tensor(pairs.residuals)).all(), method)
            if method == "krylov":
                self.close(values, truth[truth.abs().argsort(descending=True)][:5], 2e-3)

    def test_lower_precision_within_is_measured_and_said(self):
        class Autocast(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))

            def forward(self, x):
                with torch.autocast("cpu", torch.bfloat16):
                    return self.inner(x).float()

        model, x, y = Autocast(), torch.randn(30, 4), torch.arange(30) % 3
        warnings.simplefilter("always", seigh.SeighWarning)
        with self.assertWarnsRegex(seigh.SeighWarning, "lower precision within"):
            matrix = seigh.Hessian(model, F.cross_entropy, (x, y))
            v = torch.randn(matrix.shape[0])
            found = matrix @ v
        exact = copy.deepcopy(model.inner).double()
        h = dense(lambda: F.cross_entropy(exact(x.double()), y), list(exact.parameters()))
        off = float((found - h @ v.double()).norm() / v.norm())
        self.assertLess(off, 8 * matrix.product_error)  # the factor that every bound allows for it
        self.assertGreater(off, matrix.product_error / 8)

    def test_attention_with_masks(self):
        """Boolean, added, causal and of some heads: the kernel that has second derivatives takes them all."""
        keep = torch.rand(2, 1, 4, 4) > 0.3
        keep |= torch.eye(4, dtype=torch.bool)

        class Masked(nn.Module):
            def __init__(self, mask, causal):
                super().__init__()
                self.q, self.k, self.v, self.mask, self.causal = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3), mask, causal

            def forward(self, x):
                return F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x), attn_mask=self.mask, is_causal=self.causal)

        x, y = torch.randn(2, 2, 4, 3).double(), torch.randn(2, 2, 4, 3).double()
        for mask, causal in ((keep, False), (torch.randn(4, 4).double(), False), (None, True), (keep[:1, 0], False)):
            model = Masked(mask, causal).double()
            h = dense(lambda: F.mse_loss(model(x), y), list(model.parameters()))
            u = torch.randn(len(h), dtype=torch.float64)
            self.close(seigh.Hessian(model, lambda f, t: F.mse_loss(f, t), [(x, y)]) @ u, h @ u, 1e-9)

    def test_float64_of_a_float32_model(self):
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        x, y = torch.randn(6, 4), torch.arange(6) % 3
        exact = copy.deepcopy(model).double()
        h = dense(lambda: F.cross_entropy(exact(x.double()), y), list(exact.parameters()))
        v = torch.randn(len(h), dtype=torch.float64)
        self.close(seigh.Hessian(model, F.cross_entropy, (x, y), dtype=torch.float64) @ v, h @ v, 1e-12)


class Losses(Case):
    def check(self, model, loss, x, y, truth=None, kinds=(seigh.Hessian, seigh.GGN), **more):
        """As tensors, in two unequal batches, and as one; in float64."""
        parameters = list(model.parameters())
        truth = truth or (lambda: loss(model(x), y))
        h = dense(truth, parameters)
        g = dense_ggn(lambda: model(x), lambda f: loss(f, y), parameters)
        v = torch.randn(len(h), dtype=torch.float64)
        n = len(y)
        for data in ((x, y), [(x[:n // 3], y[:n // 3]), (x[n // 3:], y[n // 3:])], [(x, y)]):
            for kind, exact in ((seigh.Hessian, h), (seigh.GGN, g)):
                if kind in kinds:
                    self.close(kind(model, loss, data, **more) @ v, exact @ v, 1e-8)

    def test_classes(self):
        model = nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 3)).double()
        x, y = torch.randn(12, 4).double(), torch.arange(12) % 3
        weight = torch.tensor([1.0, 5.0, 0.2]).double()
        for loss in (nn.CrossEntropyLoss(), F.cross_entropy, nn.CrossEntropyLoss(label_smoothing=0.1), nn.CrossEntropyLoss(weight=weight),
                     nn.CrossEntropyLoss(ignore_index=1), nn.CrossEntropyLoss(weight=weight, ignore_index=2), nn.MultiMarginLoss(p=2),
                     lambda f, t: F.nll_loss(f.log_softmax(1), t), lambda f, t: F.nll_loss(f.log_softmax(1), t, weight=weight)):
            with self.subTest(loss):
                if isinstance(loss, nn.MultiMarginLoss):  # no second derivative
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        matrix = seigh.Hessian(model, loss, (x, y))
                        matrix @ torch.ones(matrix.shape[0])
                        self.assertTrue(matrix.by_differences)
                    continue
                self.check(model, loss, x, y)

    def test_all_of_a_batch_ignored(self):
        model = nn.Linear(4, 3).double()
        x, y = torch.randn(12, 4).double(), torch.tensor([1] * 4 + [0, 2] * 4)
        self.check(model, nn.CrossEntropyLoss(ignore_index=1), x, y)

    def test_numbers(self):
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
        x, y = torch.randn(9, 4).double(), torch.randn(9, 2).double()
        for loss in (nn.MSELoss(), F.mse_loss, nn.SmoothL1Loss(), nn.HuberLoss(delta=0.5), lambda f, t: ((f - t)**4).mean()):
            with self.subTest(loss):
                self.check(model, loss, x, y)
        bits = (y > 0).double()
        for loss in (nn.BCEWithLogitsLoss(), F.binary_cross_entropy_with_logits, nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0, 3.0]).double())):
            with self.subTest(loss):
                self.check(model, loss, x, bits)
        single = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0)).double()
        self.check(single, nn.MSELoss(), x, y[:, 0])
        self.check(single, nn.BCEWithLogitsLoss(), x, bits[:, 0])

    def test_sums(self):
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        x, y = torch.randn(9, 4).double(), torch.arange(9) % 3
        for loss in (nn.CrossEntropyLoss(reduction="sum"), lambda f, t: F.cross_entropy(f, t, reduction="sum")):
            self.check(model, loss, x, y, reduction="sum")
        total = seigh.EmpiricalFisher(model, nn.CrossEntropyLoss(reduction="sum"), (x, y), reduction="sum")
        mean = seigh.EmpiricalFisher(model, nn.CrossEntropyLoss(), (x, y))
        v = torch.randn(mean.shape[0], dtype=torch.float64)
        self.close(total @ v, 9 * (mean @ v), 1e-12)

    def test_sequences_and_segmentation(self):
        class Tagger(nn.Module):
            def __init__(self):
                super().__init__()
                self.e, self.out = nn.Embedding(7, 4), nn.Linear(4, 3)

            def forward(self, x):
                return self.out(torch.tanh(self.e(x))).transpose(1, 2)

        x, y = torch.randint(0, 7, (6, 5)), torch.randint(0, 3, (6, 5))
        self.check(Tagger().double(), F.cross_entropy, x, y)
        self.check(Tagger().double(), nn.CrossEntropyLoss(ignore_index=0), x, y)
        self.check(Tagger().double(), lambda f, t: F.cross_entropy(f.transpose(1, 2).flatten(0, 1), t.flatten()), x, y)
        images, labels = torch.randn(5, 2, 4, 4).double(), torch.randint(0, 3, (5, 4, 4))
        self.check(nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 3, 1)).double(), F.cross_entropy, images, labels)

    def test_a_ratio_of_sums_takes_all_at_once(self):
        def dice(f, t):
            p = f.softmax(1)[:, 1]
            return 1 - 2 * (p * t).sum() / (p.sum() + t.sum())

        model = nn.Linear(4, 2).double()
        x, y = torch.randn(8, 4).double(), (torch.arange(8) % 2).double()
        h = dense(lambda: dice(model(x), y), list(model.parameters()))
        v = torch.randn(len(h), dtype=torch.float64)
        with self.assertWarnsRegex(seigh.SeighWarning, "taken at once"):
            warnings.simplefilter("always", seigh.SeighWarning)
            product = seigh.Hessian(model, dice, (x, y)) @ v
        self.close(product, h @ v, 1e-9)
        with self.assertRaisesRegex(ValueError, "no share of the loss of all"):
            seigh.Hessian(model, dice, [(x[:3], y[:3]), (x[3:], y[3:])])

    def test_fishers(self):
        model = nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 3)).double()
        x, y = torch.randn(10, 4).double(), torch.arange(10) % 3
        parameters = list(model.parameters())
        each = torch.stack([flat(torch.autograd.grad(F.cross_entropy(model(x[i:i + 1]), y[i:i + 1]), parameters), parameters) for i in range(10)])
        v = torch.randn(each.shape[1], dtype=torch.float64)
        for data in ((x, y), [(x[:3], y[:3]), (x[3:], y[3:])]):
            for loss in (F.cross_entropy, lambda f, t: F.cross_entropy(f, t)):
                self.close(seigh.EmpiricalFisher(model, loss, data) @ v, each.T @ (each @ v) / 10, 1e-10)
        # Its mean over 20000 draws is the GGN; the error falls with the root: 7e-3 of it here, five times that allowed.
        ggn = seigh.GGN(model, F.cross_entropy, (x, y)) @ v
        self.close(seigh.MCFisher(model, F.cross_entropy, (x, y), draws=20000) @ v, ggn, 0.05)
        with self.assertRaisesRegex(NotImplementedError, "distribution is known"):
            seigh.MCFisher(model, lambda f, t: F.cross_entropy(f, t), (x, y))

    def test_ctc_by_differences(self):
        model = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 4)).double()
        x, y = torch.randn(3, 8, 2).double(), torch.randint(1, 4, (3, 3))
        def ctc(model, batch):
            inputs, targets = batch
            f = model(inputs).log_softmax(2).transpose(0, 1)
            return F.ctc_loss(f, targets, torch.full((len(targets),), 8), torch.full((len(targets),), 3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", seigh.SeighWarning)
            matrix = seigh.Hessian(model, ctc, [(x, y)])
            v = torch.randn(matrix.shape[0], dtype=torch.float64)
            found = matrix @ v
        self.assertTrue(matrix.by_differences)
        parameters = list(model.parameters())
        def gradient(h):
            other = copy.deepcopy(model)
            with torch.no_grad():
                for p, piece in zip(other.parameters(), matrix.as_dict(v).values()):
                    p += h * piece
            return flat(torch.autograd.grad(ctc(other, (x, y)), list(other.parameters())), parameters)
        self.close(found, (gradient(1e-5) - gradient(-1e-5)) / 2e-5, 1e-6)


if __name__ == "__main__":
    unittest.main()
