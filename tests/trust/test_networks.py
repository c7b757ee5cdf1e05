"""Small networks and losses, exported as docs/your-network.md says: each is right within what the program says of its
error, or refused in one line that names the cause. The truth is the full Hessian in float64 by plain double backward of
the loss of all samples at once, itself checked by differences of the gradient; where that check fails (PyTorch has
second derivatives that are wrong or missing) the truth is those differences, column by column."""

import copy
import os
import sys
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch: these matrices are small, and threads would wait
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "cli"))
from support import *

torch.set_num_threads(1)
N = 24
EXPORTING = threading.Lock()  # torch.jit.script is for one thread


class Case_:
    """One network, its data and loss. `says` is a regular expression of the refusal, `notes` one of what the user is told."""

    def __init__(self, net, x=None, y=None, loss=F.cross_entropy, script_loss=None, says=None, notes=None, set_=(), threads=2, method="dense", double=False, built_in=None):
        self.net, self.x, self.y, self.loss, self.script_loss = net.double() if double else net, x, y, loss, script_loss
        self.says, self.notes, self.set, self.threads, self.method = says, notes, list(set_), threads, method
        self.built_in = built_in


# ---- the truth

def parameters_of(net):
    return [p for p in net.parameters() if p.requires_grad]


def gradient_at(net, case, shift=None, create_graph=False):
    """Of the loss of all samples, flat, at the parameters plus `shift`."""
    ps = parameters_of(net)
    if shift is not None:
        with torch.no_grad():
            for p, s in zip(ps, torch.split(shift, [p.numel() for p in ps])):
                p.add_(s.view_as(p))
    x = case.x.double() if case.x.is_floating_point() else case.x
    y = case.y.double() if case.y.is_floating_point() else case.y
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no second derivative
        g = torch.autograd.grad(case.loss(net(x), y), ps, create_graph=create_graph, allow_unused=True)
    g = torch.cat([torch.zeros(p.numel(), dtype=torch.double) if t is None else (t.to_dense() if t.is_sparse else t).flatten()
                   for t, p in zip(g, ps)])
    if shift is not None:
        with torch.no_grad():
            for p, s in zip(ps, torch.split(shift, [p.numel() for p in ps])):
                p.sub_(s.view_as(p))
    return g


def difference(net, case, v, h):
    return (gradient_at(net, case, h * v) - gradient_at(net, case, -h * v)).detach() / (2 * h)


def truth(case):
    """-> the Hessian, and how far it may itself be off by rounding."""
    net = case.net.double().eval()
    if hasattr(net, "exact"):  # which rounding is to be known
        net.exact = True
    ps = parameters_of(net)
    d = sum(p.numel() for p in ps)
    v = torch.randn(d, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    try:
        g = gradient_at(net, case, create_graph=True) + 0 * sum(p.sum() for p in ps)
        rows = []
        for i in range(d):
            row = torch.autograd.grad(g[i], ps, retain_graph=True, allow_unused=True)
            rows.append(torch.cat([torch.zeros(p.numel(), dtype=torch.double) if r is None else r.flatten() for r, p in zip(row, ps)]))
        h = torch.stack(rows)
        # A ReLU may switch within the larger steps, rounding show in the smaller.
        off = min((h @ v - difference(net, case, v, s)).norm() for s in (1e-4, 1e-5, 1e-6, 1e-7)) / max((h @ v).norm(), 1e-300)
        if off < 1e-5 and (h - h.T).norm() < 1e-5 * h.norm():
            return (h + h.T).numpy() / 2, 1e-10 * h.norm().item()
    except (RuntimeError, NotImplementedError):
        pass
    h = torch.stack([difference(net, case, e, 1e-5) for e in torch.eye(d, dtype=torch.double)])
    return (h + h.T).numpy() / 2, 1e-9 * h.norm().item()


# ---- networks

def mlp(act, inputs=4, hidden=6, outputs=3):
    return nn.Sequential(nn.Linear(inputs, hidden), act, nn.Linear(hidden, hidden), act, nn.Linear(hidden, outputs))


class Tokens(nn.Module):
    def __init__(self, sparse=False):
        super().__init__()
        self.table = nn.Embedding(7, 4, sparse=sparse)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.table(x).mean(1)))


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingBag(7, 4, mode="mean")
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.table(x)))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn = kind(2, 3, batch_first=True)
        self.out = nn.Linear(3, 3)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x):
        return self.out(F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))).mean(1)[:, :3]


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5, bias=False), nn.Linear(5, 3)

    def forward(self, x):
        h = self.a(x)
        return self.b(h / (h.norm(2, 1, True) + 1e-12))


class WeightNorm(nn.Module):
    """The fused kernel behind torch.nn.utils.weight_norm."""

    def __init__(self, act):
        super().__init__()
        self.act = act
        self.v, self.g, self.out = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.rand(5, 1) + 0.5), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.act(F.linear(x, torch._weight_norm(self.v, self.g, 0))))


class Product(nn.Module):
    """Zeros among the factors from the seventh sample on."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(1, 3)

    def forward(self, x):
        return self.b((self.a(x) * x).prod(1, keepdim=True))


class Distances(nn.Module):
    def __init__(self):
        super().__init__()
        self.centres = nn.Parameter(torch.randn(3, 4))

    def forward(self, x):
        return -torch.cdist(x, self.centres)


class Noisy(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return F.dropout(self.net(x), 0.005, training=True)


class ByMaximum(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp(nn.Tanh())

    def forward(self, x):
        h = self.net(x)
        return h / h.abs().max() * 3


class Single(nn.Module):
    """Half of it in float32, whatever the parameters."""

    def __init__(self):
        super().__init__()
        self.a, self.o, self.exact = nn.Linear(4, 5), nn.Linear(5, 3), False

    def forward(self, x):
        h = self.a(x)
        return self.o(torch.tanh(h if self.exact else h.float()).type_as(x))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


class Straight(nn.Module):
    """Rounds, and says to its derivative that it does not."""

    def __init__(self):
        super().__init__()
        self.net, self.out = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        h = self.net(x)
        return self.out((h + (torch.round(4 * h) / 4 - h).detach()) ** 2)


class Sequence(nn.Module):
    def __init__(self, classes, transposed=False):
        super().__init__()
        self.conv, self.transposed = nn.Conv1d(2, classes, 3, padding=1), transposed

    def forward(self, x):
        y = torch.tanh(self.conv(x))
        return y.transpose(1, 2) if self.transposed else y


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 3)

    def forward(self, x1, x2):
        return self.net(x1) + x2


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3).double()

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)).double())


# ---- losses, as modules of the user's own

class Loss(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.tensor([1.0, 5.0, 20.0]))


class Weighted(Loss):
    def forward(self, f, y):
        return F.cross_entropy(f, y, self.weight.to(f.dtype))


class Ignoring(nn.Module):
    def forward(self, f, y):
        return F.cross_entropy(f, y, ignore_index=0)


class Plain(nn.Module):
    def forward(self, f, y):
        return F.cross_entropy(f, y)


class Dice(nn.Module):
    def forward(self, f, y):
        p, t = torch.softmax(f, 1), F.one_hot(y, 3).to(f.dtype)
        return 1 - (2 * (p * t).sum(0) / (p.sum(0) + t.sum(0))).mean()


class Focal(nn.Module):
    def forward(self, f, y):
        p = torch.log_softmax(f, 1).gather(1, y[:, None])
        return -((1 - p.exp()) ** 2 * p).mean()


class Binary(nn.Module):
    def forward(self, f, y):
        return F.binary_cross_entropy_with_logits(f, y)


class Huber(nn.Module):
    def forward(self, f, y):
        return F.smooth_l1_loss(f, y)


class Poisson(nn.Module):
    def forward(self, f, y):
        return (torch.exp(f) - y * f).mean()


class Smoothed(nn.Module):
    def forward(self, f, y):
        return F.cross_entropy(f, y, label_smoothing=0.1)


class Sum(nn.Module):
    def forward(self, f, y):
        return F.cross_entropy(f, y, reduction="sum")


class Margin(nn.Module):
    """Against the mean of the batch."""

    def forward(self, f, y):
        return F.cross_entropy(f - f.mean(0, keepdim=True), y)


class Frozen(nn.Module):
    def forward(self, f, y):
        return (F.cross_entropy(f, y, reduction="none") * torch.softmax(f, 1)[:, 0].detach()).mean()


def fitted(steps):
    """Trained until it fits: the residuals are 3e-6 and less."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 2))
    x = 2 * torch.randn(100, 20)
    y = (x[:, 0] > 0).long()
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net, x, y


def cases():
    torch.manual_seed(0)
    x, y, sorted_ = torch.randn(N, 4), torch.arange(N) % 3, torch.arange(N) * 3 // N
    images, series, tokens = torch.randn(N, 1, 6, 6), torch.randn(N, 5, 2), torch.randint(0, 7, (N, 5))
    numbers = torch.randn(N, 3)
    everything = {}

    def add(name, net, x=x, y=y, **more):
        script = more.get("script_loss")
        if script is not None and "loss" not in more:
            more["loss"] = script.double() if any(True for _ in script.buffers()) else script
        everything[name] = Case_(net, x, y, **more)

    for act in nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU:
        add(act.__name__, mlp(act()))
    krylov = ["eigh.method=krylov", "eigh.k=5", "eigh.products=60", "eigh.dtype=float32"]
    add("tanh by krylov in float32", mlp(nn.Tanh()), method="krylov", set_=krylov)
    add("convolution, maximum", nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)), images)
    add("convolution, group norm", nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.GroupNorm(2, 4), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)), images)
    norm = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    norm(x)
    add("batch norm", norm)
    add("layer norm", nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3)))
    add("LSTM", Recurrent(nn.LSTM), series)
    add("GRU", Recurrent(nn.GRU), series)
    add("embedding", Tokens(), tokens)
    add("attention", Attention(), torch.randn(N, 5, 4))
    add("tied weights", Tied())
    add("product with zeros", Product(), torch.where(torch.arange(N)[:, None] >= 6, x * torch.tensor([0.0, 0.0, 1.0, 1.0]), x))
    add("norm", Norm())
    for act in nn.Tanh, nn.ReLU:
        add(f"weight norm, {act.__name__}", WeightNorm(act()), notes="a second derivative is wrong; products are differences")
    add("weight norm, derivatives asked for", WeightNorm(nn.Tanh()), set_=["curvature.products=autograd"], says='second derivative is wrong.*curvature.products = "difference"')
    add("hard sigmoid", nn.Sequential(nn.Linear(4, 5), nn.Hardsigmoid(), nn.Linear(5, 3)), notes="no second derivative: .*hardsigmoid.*differences")
    add("sparse embedding", Tokens(sparse=True), tokens)
    add("bag of embeddings", Bag(), tokens, notes="products are differences")
    add("distances", Distances(), notes="products are differences")
    add("by differences, asked for", mlp(nn.Tanh()), set_=["curvature.products=difference"])
    frozen = mlp(nn.Tanh())
    frozen[0].requires_grad_(False)
    add("frozen layer", frozen, notes="2 parameter tensors of net.pt are frozen .*0.weight, 0.bias")
    add("float64", mlp(nn.Tanh()), double=True)
    add("float32 within float64", Single(), double=True)
    add("sequence, channels last", Sequence(3, transposed=True), torch.randn(N, 2, 5), torch.randint(0, 3, (N, 5)),
        loss=lambda f, t: F.cross_entropy(f.transpose(1, 2), t))
    add("sequence, channels second", Sequence(3), torch.randn(N, 2, 5), torch.randint(0, 3, (N, 5)), says=r"classes second; return outputs.transpose\(1, 2\)")
    add("sequence, T = C", Sequence(3), torch.randn(N, 2, 3), torch.randint(0, 3, (N, 3)), says="which is .N, T, C. or .N, C, T., as T = C")
    # Losses.
    add("squared error of numbers", mlp(nn.Tanh()), y=numbers, loss=F.mse_loss, built_in="mean_squared_error")
    add("squared error of classes", mlp(nn.Tanh()), loss=lambda f, t: F.mse_loss(f, F.one_hot(t, 3).to(f.dtype)), built_in="mean_squared_error")
    for size in 0, 4:
        add(f"weighted by class, mini-batches of {size}", mlp(nn.Tanh()), y=sorted_, script_loss=Weighted(), set_=[f"curvature.batch_size={size}"])
        add(f"a class ignored, mini-batches of {size}", mlp(nn.Tanh()), y=sorted_, script_loss=Ignoring(), set_=[f"curvature.batch_size={size}"])
    add("dice", mlp(nn.Tanh()), y=sorted_, script_loss=Dice(), notes=f"all {N} are taken together")
    add("against the mean of the batch", mlp(nn.Tanh()), y=sorted_, script_loss=Margin(), notes=f"all {N} are taken together")
    add("focal", mlp(nn.Tanh()), script_loss=Focal())
    add("binary", mlp(nn.Tanh()), y=(numbers > 0).float(), script_loss=Binary())
    add("huber", mlp(nn.Tanh()), y=numbers, script_loss=Huber())
    add("poisson", mlp(nn.Tanh()), y=numbers.abs(), script_loss=Poisson())
    add("smoothed", mlp(nn.Tanh()), script_loss=Smoothed())
    for steps in 500, 4000:
        net, fx, fy = fitted(steps)
        add(f"fits its targets, {steps} steps", net, fx, fy, method="krylov", set_=krylov)
        # A copy: two threads take the two cases.
        add(f"fits its targets, a loss of one's own, {steps} steps", copy.deepcopy(net), fx, fy, script_loss=Plain())
    add("a sum", mlp(nn.Tanh()), script_loss=Sum(), says="loss.pt is not a mean over samples")
    add("hides from its derivative", mlp(nn.Tanh()), script_loss=Frozen(), says="not symmetric.*detach")
    # What cannot be had.
    add("dropout", Noisy(mlp(nn.Tanh())), says="c(omputed|alled) twice.*dropout", x=torch.randn(200, 4), y=torch.arange(200) % 3)
    add("over the maximum", ByMaximum(), says="depend on the others of its batch")
    add("rounds", Straight(), says="not symmetric|second derivative is wrong")
    zero = x.clone()
    zero[17] = 0
    add("a sample of zeros", Norm(), x=zero, says="second derivative of the loss of sample 17 is not finite, first in that of the operation")
    add("two inputs", Two(), says=r"forward\(x1, x2\) takes other inputs than one tensor x; wrap it")
    add("two precisions, in float64", Mixed())
    add("two precisions, in float32", Mixed(), method="krylov", set_=krylov, says="float32 .a.bias. and of float64 .b.bias.")
    add("classes as numbers", nn.Linear(4, 1), y=torch.arange(N) % 10, built_in="mean_squared_error", says="1 outputs, for classes 0..0, but y holds class 9; integers are classes")
    dead = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3, bias=False))
    with torch.no_grad():
        dead[0].weight.zero_()
        dead[0].bias.fill_(-1)
    add("a dead layer", dead, says="no such eigenvectors were found.*or is zero", method="krylov", set_=krylov)
    return everything


class Networks(Case):
    def run_case(self, name, case):
        """What is wrong, or None."""
        folder = self.tmp / re.sub(r"\W+", "-", name)
        folder.mkdir()
        net = case.net.eval()
        with EXPORTING:
            torch.jit.script(net).save(str(folder / "net.pt"))
            if case.script_loss is not None:
                torch.jit.script(case.script_loss).save(str(folder / "loss.pt"))
        np.save(folder / "x.npy", case.x.numpy())
        np.save(folder / "y.npy", case.y.numpy())
        loss = case.built_in or "cross_entropy"
        if case.script_loss is not None:
            loss = "loss.pt"
        d = sum(p.numel() for p in parameters_of(net))
        (folder / "recipe.toml").write_text(
            f'model.module = "net.pt"\ndata.x = "x.npy"\ndata.y = "y.npy"\ntrain.loss = "{loss}"\ncurvature.samples = {len(case.x)}\n'
            f'overlap.random_masks = 2\neigh.method = "dense"\neigh.dtype = "float64"\neigh.k = {d}\n')
        done = seigh("run", folder / "recipe.toml", "--out", folder / "run", "--threads", case.threads,
                     *(word for s in case.set for word in ("--set", s)))
        if case.says is not None:
            try:
                self.check_refused(done, case.says)
            except AssertionError as error:
                return str(error)
            return None
        if done.returncode != 0:
            return f"exit code {done.returncode}: {done.stderr}"
        log = [json.loads(line) for line in (folder / "run/log.jsonl").read_text().splitlines()]
        notes = [line["text"] for line in log if line["event"] == "note"]
        if case.notes is None:
            unexpected = [note for note in notes if "differences" in note or "taken together" in note]
            if unexpected:
                return f"told {unexpected}"
        elif not any(re.search(case.notes, note) for note in notes):
            return f"told {notes}"
        error = max(line["product_error"] for line in log if line["event"] == "matrix")
        with h5py.File(next((folder / "run/eigen").glob(f"*_{case.method}.h5"))) as file:
            found, residuals = file["eigenvalues"][:], file["residuals"][:]
        h, own = truth(case)
        values = np.linalg.eigvalsh(h)
        if case.method == "dense":
            order = np.argsort(found)
            found, residuals, expected = found[order], residuals[order], values
        else:
            expected = by_magnitude(values)[:len(found)]
        allowed = residuals + own
        off = np.abs(found - expected)
        if os.environ.get("VERBOSE"):
            print(f"{name:45} largest {np.abs(expected).max():.3e} off by at most {off.max():.1e}, error of products {error:.1e}, residuals {residuals.max():.1e}")
        if (off > allowed).any():
            worst = np.argmax(off / allowed)
            return f"{found[worst]:.9g} where {expected[worst]:.9g} is right, allowed {allowed[worst]:.2g}, measured error of products {error:.2g}"
        # Bounds that hold because they say nothing are no use.
        if error > 0.05 * np.abs(expected).max() and "fits" not in name:
            return f"the measured error of products, {error:.2g}, is of the size of the matrix"
        return None

    def tried(self, name, case):
        try:
            return self.run_case(name, case)
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def test_right_or_refused(self):
        chosen = {name: case for name, case in cases().items() if re.search(os.environ.get("CASES", ""), name)}
        with ThreadPoolExecutor(2) as pool:
            wrong = dict(zip(chosen, pool.map(lambda item: self.tried(*item), chosen.items())))
        wrong = {name: what for name, what in wrong.items() if what is not None}
        self.assertEqual(wrong, {}, "\n" + "\n\n".join(f"{name}: {what}" for name, what in wrong.items()))


if __name__ == "__main__":
    unittest.main(warnings="ignore")  # TorchScript says that it is deprecated
