"""What the package does to the process it runs in: memory, references, threads, forks, files, settings."""

import gc
import os
import subprocess
import sys
import tempfile
import threading
import weakref

from support import *


def network(*, activation=nn.Tanh, dtype=torch.float64):
    return nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 3)).to(dtype)


def samples(n=20, dtype=torch.float64):
    return torch.randn(n, 6, dtype=dtype), torch.arange(n) % 3


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fresh(code, timeout=60):
    """Runs Python code in a process of its own; its output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise AssertionError(f"exit {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


class OneThread(Case):
    """Two threads of OpenMP wait for each other by spinning, which is slow where others compute too."""

    def setUp(self):
        super().setUp()
        self.addCleanup(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)


class Memory(OneThread):
    def test_flat_over_two_thousand_products(self):
        """By stacks, by autograd with graphs kept, with graphs redone, in small blocks; and whole operators made and dropped."""
        x, y = samples(200, torch.float32)
        plain, other = network(dtype=torch.float32), network(activation=nn.SiLU, dtype=torch.float32)
        matrices = {"stacks": seigh.Hessian(plain, F.cross_entropy, (x, y)), "graphs kept": seigh.Hessian(other, F.cross_entropy, (x, y)),
                    "batches": seigh.Hessian(other, lambda f, t: F.cross_entropy(f, t), list(zip(x.split(50), y.split(50)))),
                    "GGN": seigh.GGN(other, F.cross_entropy, (x, y))}
        for name, matrix in matrices.items():
            with self.subTest(name):
                v = torch.randn(matrix.shape[0], 2)
                for _ in range(200):
                    matrix @ v
                before = resident()
                for _ in range(2000):
                    matrix @ v
                # A product of 2000 kept alone would be 1.3 MB; a graph, 20 kB each, 40 MB. The allocator moves less than this.
                self.assertLess(resident() - before, 2 << 20)

    def test_flat_over_operators(self):
        x, y = samples(200, torch.float32)
        model = network(activation=nn.SiLU, dtype=torch.float32)

        def use():
            matrix = seigh.Hessian(model, F.cross_entropy, (x, y))
            seigh.eigh(matrix, k=2)

        for _ in range(10):
            use()
        gc.collect()
        before = resident()
        for _ in range(40):
            use()
        gc.collect()
        # Activations and the graph of one are about 0.3 MB: 12 MB, were they kept.
        self.assertLess(resident() - before, 4 << 20)

    def test_large_pieces_are_given_back(self):
        """Eigenvectors, 8 MB, and the basis they come of die with their pairs."""
        a = torch.arange(1, 20001).float()

        def use():
            pairs = seigh.eigh(lambda v: a[:, None] * v, k=100, size=20000, dtype=torch.float32, method="krylov", products=200, probes=0, checks=0)
            self.assertEqual(pairs.eigenvectors.shape, (20000, 100))

        for _ in range(2):
            use()
        before = resident()
        for _ in range(4):
            use()
        self.assertLess(resident() - before, 20 << 20)


class References(OneThread):
    """Without the collector: what the last reference goes from goes at once."""

    def setUp(self):
        super().setUp()
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)

    def test_model_and_matrix(self):
        for name, make in {"stacks": lambda model: seigh.Hessian(model, F.cross_entropy, samples()),
                           "autograd": lambda model: seigh.GGN(model, F.cross_entropy, samples()),
                           "batches": lambda model: seigh.Hessian(model, lambda f, t: F.cross_entropy(f, t), [samples(), samples()]),
                           "model and batch": lambda model: seigh.Hessian(model, lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]), [samples()]),
                           "float64 copy": lambda model: seigh.Hessian(model.float(), F.cross_entropy, samples(dtype=torch.float32), dtype=torch.float64),
                           "differences": lambda model: seigh.Hessian(model, F.cross_entropy, samples(), products="difference"),
                           "never used": lambda model: seigh.Hessian(model, F.cross_entropy, samples())}.items():
            with self.subTest(name):
                model = network(activation=nn.Tanh if name == "stacks" else nn.SiLU)
                matrix = make(model)
                if name != "never used":
                    v = torch.ones(matrix.shape[0], dtype=matrix.dtype)
                    matrix @ v
                    seigh.eigh(matrix, k=2)
                    matrix.gradient(), matrix.loss(), matrix.to_scipy() @ v.numpy()
                    matrix.refresh() @ v
                dead = weakref.ref(model), weakref.ref(matrix), weakref.ref(matrix._source)
                parts = weakref.ref(model[0]), weakref.ref(model[0].weight)
                del matrix
                self.assertIsNone(dead[1](), "the matrix lives on")
                self.assertIsNone(dead[2](), "its source lives on")
                del model
                self.assertIsNone(dead[0](), "the model lives on")
                self.assertEqual([part() for part in parts], [None, None], "parts of the model live on")

    def test_a_matrix_keeps_its_model(self):
        model = network()
        matrix = seigh.Hessian(model, F.cross_entropy, samples())
        dead = weakref.ref(model)
        del model
        self.assertIsNotNone(dead())
        matrix @ torch.ones(matrix.shape[0], dtype=torch.float64)
        del matrix
        self.assertIsNone(dead())

    def test_pairs(self):
        model = network()
        matrix = seigh.Hessian(model, F.cross_entropy, samples())
        pairs = seigh.eigh(matrix, k=3)
        vectors = weakref.ref(pairs.eigenvectors)
        dead = weakref.ref(matrix), weakref.ref(pairs), weakref.ref(model)
        result = seigh.overlap(pairs, seigh.masks.magnitude(model))
        repr(pairs), repr(result)
        del matrix, model
        self.assertIsNone(dead[0](), "pairs keep the matrix")
        self.assertIsNone(dead[2](), "pairs keep the model")
        del pairs
        self.assertIsNone(dead[1]())
        self.assertIsNone(vectors())
        self.assertGreater(float(result.overlap[0]), -1)

    def test_after_an_exception(self):
        class Fails(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer, self.broken = nn.Linear(6, 3), False

            def forward(self, x):
                if self.broken:
                    raise KeyError("mine")
                return self.layer(x)

        model = Fails().double()
        matrix = seigh.Hessian(model, F.cross_entropy, samples())
        model.broken = True
        with self.assertRaises(KeyError):
            matrix @ torch.ones(21, dtype=torch.float64)
        dead = weakref.ref(model), weakref.ref(matrix)
        del matrix, model
        self.assertEqual([ref() for ref in dead], [None, None])

    def test_callables(self):
        class Double:
            def __call__(self, v):
                return 2 * v

        double = Double()
        dead = weakref.ref(double)
        pairs = seigh.eigh(double, k=2, size=30)
        del double
        self.assertIsNone(dead())
        self.assertEqual(len(pairs), 2)


class Threads(Case):
    def both(self, *work):
        errors = []

        def guarded(one):
            try:
                one()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=guarded, args=(one,)) for one in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            self.assertFalse(thread.is_alive(), "the threads wait for each other")
        if errors:
            raise errors[0]

    def check(self, first, second):
        """Each product in two threads is what it is alone."""
        expected = []
        for matrix in (first, second):
            torch.manual_seed(1)
            v = torch.randn(matrix.shape[0], 3, dtype=torch.float64)
            expected.append((matrix, v, matrix @ v))

        def work(matrix, v, right):
            for _ in range(20):
                self.assertTrue(torch.allclose(matrix @ v, right, rtol=1e-12, atol=1e-14))
            self.assertEqual(len(seigh.eigh(matrix, k=3, method="krylov")), 3)

        self.both(*[lambda item=item: work(*item) for item in expected])

    def test_different_modules(self):
        for activation in (nn.Tanh, nn.SiLU):
            self.check(*[seigh.Hessian(network(activation=activation), F.cross_entropy, samples()) for _ in range(2)])

    def test_the_same_module(self):
        for activation in (nn.Tanh, nn.SiLU):
            model = network(activation=activation)
            self.check(seigh.Hessian(model, F.cross_entropy, samples()), seigh.GGN(model, lambda f, t: F.cross_entropy(f, t), samples()))

    def test_the_same_matrix(self):
        for activation in (nn.Tanh, nn.SiLU):
            matrix = seigh.Hessian(network(activation=activation), F.cross_entropy, samples())
            self.check(matrix, matrix)

    def test_made_in_a_thread_each(self):
        """First products, checks and warnings, of one module in two threads."""
        model, data = network(activation=nn.SiLU), samples()
        found = {}

        def work(i):
            matrix = seigh.Hessian(model, F.cross_entropy, data)
            found[i] = matrix @ torch.ones(matrix.shape[0], dtype=torch.float64)

        self.both(*[lambda i=i: work(i) for i in range(4)])
        for i in range(1, 4):
            self.close(found[i], found[0], 1e-12)

    def test_python_runs_meanwhile(self):
        """The interpreter's lock is not held while the library works."""
        a = torch.randn(1500, 1500)
        a = a + a.T
        ticks = []
        finished = threading.Event()

        def tick():
            while not finished.wait(0.002):
                ticks.append(1)

        thread = threading.Thread(target=tick)
        thread.start()
        pairs = seigh.eigh(a, k=100, method="krylov")
        finished.set()
        thread.join()
        self.assertGreater(len(ticks), min(5, pairs.seconds * 20))


class Processes(Case):
    def test_fork_after_use(self):
        for activation in (nn.Tanh, nn.SiLU):
            matrix = seigh.Hessian(network(activation=activation), F.cross_entropy, samples())
            v = torch.ones(matrix.shape[0], dtype=torch.float64)
            expected = matrix @ v
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    torch.set_num_threads(1)  # PyTorch's own rule: threads of OpenMP do not survive a fork
                    status = 0 if float((matrix @ v - expected).norm()) < 1e-12 else 2
                finally:
                    os._exit(status)
            self.assertEqual(self.ended(child), 0)
            self.close(matrix @ v, expected, 1e-12)

    def ended(self, child, seconds=5):
        """The exit status of a child, which is ended if it hangs."""
        timer = threading.Timer(seconds, os.kill, (child, 9))
        timer.start()
        _, status = os.waitpid(child, 0)
        timer.cancel()
        return os.waitstatus_to_exitcode(status)

    def test_workers_of_a_loader(self):
        x, y = samples(24)
        model = network(activation=nn.SiLU)
        whole = seigh.Hessian(model, F.cross_entropy, (x, y))
        v = torch.ones(whole.shape[0], dtype=torch.float64)
        expected = whole @ v
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8, num_workers=2)
        self.close(seigh.Hessian(model, F.cross_entropy, loader) @ v, expected, 1e-12)
        self.assertEqual(sum(len(batch[0]) for batch in loader), 24)

    def test_h5py_in_either_order(self):
        with tempfile.TemporaryDirectory() as folder:
            for order in ("import h5py, torch, seigh", "import seigh, h5py", "import torch, h5py, seigh"):
                path = os.path.join(folder, f"{len(order)}.h5")
                out = fresh(f"""
{order}
import torch
pairs = seigh.eigh(torch.arange(1., 21).double().diag(), k=3)
pairs.save({path!r})
with h5py.File({path + '.other'!r}, "w") as file:
    file["a"] = [1.0, 2.0]
with h5py.File({path!r}) as file:
    names = []
    file.visit(names.append)
with h5py.File({path + '.other'!r}) as file:
    assert list(file["a"]) == [1.0, 2.0]
print(len(names), *seigh.load({path!r}).eigenvalues.tolist())
""").split()
                self.assertGreater(int(out[0]), 0)
                self.assertEqual([float(value) for value in out[1:]], [20, 19, 18])

    def test_import_is_light(self):
        """Beside torch's own import; without what only some use needs, without threads, files or a network."""
        out = fresh("""
import sys, time
import torch
import threading
before, modules = time.perf_counter(), set(sys.modules)
threads = threading.active_count()
def guard(event, arguments):
    if event.startswith("socket.connect") or event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        raise SystemExit(f"import seigh: {event} {arguments}")
sys.addaudithook(guard)
import seigh
print(time.perf_counter() - before, threading.active_count() - threads, *(name for name in ("scipy", "matplotlib", "h5py", "pandas") if name in sys.modules))
""").split()
        self.assertEqual(out[1:], ["0"])
        self.assertLess(float(out[0]), 0.75)  # 0.1 s on an idle machine


class Settings(OneThread):
    """Answers do not depend on PyTorch's switches, and these stay as they were."""

    def setUp(self):
        super().setUp()
        self.cases = {}
        for name, activation, dtype, kind, loss in (("stacks", nn.Tanh, torch.float64, seigh.Hessian, F.cross_entropy), ("autograd", nn.SiLU, torch.float64, seigh.Hessian, F.cross_entropy),
                                                    ("GGN", nn.SiLU, torch.float32, seigh.GGN, lambda f, t: F.cross_entropy(f, t)), ("stacks of float32", nn.Tanh, torch.float32, seigh.Hessian, F.cross_entropy)):
            model, data = network(activation=activation, dtype=dtype), samples(dtype=dtype)
            make = lambda model=model, data=data, kind=kind, loss=loss: kind(model, loss, data)
            v = torch.randn(83, 2, dtype=dtype)
            self.cases[name] = make, v, make() @ v

    def same(self, around, making=True):
        """Made within, or only used within; products, gradients, pairs."""
        for name, (make, v, expected) in self.cases.items():
            for within in ((True, False) if making else (False,)):
                with self.subTest(f"{name}, {'made' if within else 'used'} within"):
                    if not within:
                        matrix = make()
                    with around():
                        if within:
                            matrix = make()
                        found = matrix @ v
                        gradient = matrix.gradient()
                        pairs = seigh.eigh(matrix, k=2)
                    self.assertEqual(found.dtype, v.dtype)
                    self.assertFalse(found.requires_grad)
                    self.close(found, expected, 1e-12 if v.dtype == torch.float64 else 1e-5)
                    self.close(gradient, make().gradient(), 1e-12 if v.dtype == torch.float64 else 1e-5)
                    self.assertEqual(len(pairs), 2)
                    found.add_(1), pairs.eigenvectors.clone().add_(1)  # usable outside

    def test_no_grad(self):
        self.same(torch.no_grad)

    def test_inference_mode(self):
        self.same(torch.inference_mode)

    def test_autocast(self):
        self.same(lambda: torch.autocast("cpu", dtype=torch.bfloat16))

    def test_anomaly_detection(self):
        self.same(lambda: torch.autograd.set_detect_anomaly(True))

    def test_default_dtype(self):
        class Around:
            def __enter__(self):
                torch.set_default_dtype(torch.float64)

            def __exit__(self, *rest):
                torch.set_default_dtype(torch.float32)

        self.same(Around)
        with Around():
            self.assertEqual(seigh.eigh(lambda v: v, k=2, size=30).eigenvectors.dtype, torch.float64)
            self.assertIs(torch.get_default_dtype(), torch.float64)

    def test_default_device(self):
        self.same(lambda: torch.device("meta"), making=False)

    def test_deterministic_algorithms(self):
        class Around:
            def __enter__(self):
                torch.use_deterministic_algorithms(True)

            def __exit__(self, *rest):
                torch.use_deterministic_algorithms(False)

        self.same(Around)

    def test_what_stays_as_it_is(self):
        """Numbers of threads, random states, modes and filters."""
        for threads in (1, 2):
            torch.set_num_threads(threads)
            random, numpy_random = torch.random.get_rng_state(), np.random.get_state()[1].copy()
            filters = list(warnings.filters)
            for name, (make, v, expected) in self.cases.items():
                for context in (None, seigh.Context(threads=1), seigh.Context(threads=2)):
                    matrix = make()
                    matrix._context = context
                    self.close(matrix @ v, expected, 1e-12 if v.dtype == torch.float64 else 1e-5)
                    pairs = seigh.eigh(matrix, k=2, context=context)
                    self.assertEqual(torch.get_num_threads(), threads)
            self.assertTrue(torch.equal(torch.random.get_rng_state(), random))
            self.assertTrue((np.random.get_state()[1] == numpy_random).all())
            self.assertEqual(warnings.filters, filters)
            self.assertTrue(torch.is_grad_enabled())
            self.assertFalse(torch.is_anomaly_enabled())

    def test_threads_after_an_error(self):
        before = torch.get_num_threads()
        with self.assertRaises(ValueError):
            seigh.eigh(lambda v: v * float("nan"), k=2, size=30, context=seigh.Context(threads=1 if before > 1 else 2))
        self.assertEqual(torch.get_num_threads(), before)

    def test_the_answer_does_not_depend_on_threads(self):
        for name, (make, v, expected) in self.cases.items():
            found = []
            for threads in (1, 2):
                torch.set_num_threads(threads)
                found.append(seigh.eigh(make(), k=3).eigenvalues)
            self.close(found[0], found[1], 1e-12 if v.dtype == torch.float64 else 1e-5)


if __name__ == "__main__":
    unittest.main()
