"""What users get wrong: one line of the right kind that says what to do, and everything usable afterwards."""

import os
import signal
import tempfile
import threading
import time

from support import *

mean = F.cross_entropy


class WrongUse(Case):
    def setUp(self):
        super().setUp()
        warnings.simplefilter("ignore", UserWarning)  # torch's own, of shapes
        warnings.simplefilter("error", seigh.SeighWarning)
        self.model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        self.x, self.y = torch.randn(8, 4).double(), torch.arange(8) % 3
        self.data = self.x, self.y
        self.batches = [(self.x[:3], self.y[:3]), (self.x[3:], self.y[3:])]

    def says(self, kind, pattern, wrong):
        """`wrong()` raises exactly `kind`, in one line."""
        with self.assertRaisesRegex(kind, pattern) as caught:
            wrong()
        self.assertIs(type(caught.exception), kind)
        message = str(caught.exception)
        self.assertNotIn("\n", message)
        self.assertLess(len(message), 400)

    def product(self, model=None, loss=mean, data=None, kind=seigh.Hessian, **more):
        matrix = kind(self.model if model is None else model, loss, self.data if data is None else data, **more)
        return matrix @ torch.ones(matrix.shape[0], dtype=matrix.dtype)


class Losses(WrongUse):
    def test_of_each_sample(self):
        for loss in (nn.CrossEntropyLoss(reduction="none"), lambda f, t: mean(f, t, reduction="none")):
            for data in (self.data, self.batches, [self.data]):
                self.says(ValueError, r"shape \[\d\]; one number is needed.*\.mean\(\)", lambda: self.product(loss=loss, data=data))

    def test_number_that_is_no_tensor(self):
        self.says(TypeError, r"returns float.*without \.item\(\)", lambda: self.product(loss=lambda f, t: mean(f, t).item()))
        self.says(TypeError, "returns NoneType", lambda: self.product(loss=lambda f, t: None))
        self.says(TypeError, "must be floating", lambda: self.product(loss=lambda f, t: mean(f, t).long()))

    def test_cut_off_from_the_parameters(self):
        self.says(ValueError, r"does not depend on the model's parameters.*no_grad", lambda: self.product(loss=lambda f, t: mean(f.detach(), t)))
        self.says(ValueError, r"does not depend on the model's parameters.*no_grad",
                  lambda: self.product(loss=lambda model, batch: mean(model(batch[0]).detach(), batch[1]), data=[self.data]))

    def test_sum_given_as_a_mean(self):
        for loss in (nn.CrossEntropyLoss(reduction="sum"), lambda f, t: mean(f, t, reduction="sum")):
            for data in (self.data, self.batches):
                self.says(ValueError, r'give reduction="sum"', lambda: self.product(loss=loss, data=data))

    def test_mean_given_as_a_sum(self):
        for loss in (nn.CrossEntropyLoss(), mean, lambda f, t: mean(f, t)):
            for data in (self.data, self.batches):
                self.says(ValueError, r'leave reduction= at "mean"', lambda: self.product(loss=loss, data=data, reduction="sum"))

    def test_reduction_that_a_module_says_otherwise_in_one_batch(self):
        self.says(ValueError, 'reduction="sum"', lambda: self.product(loss=nn.CrossEntropyLoss(reduction="sum"), data=[self.data]))
        self.says(ValueError, 'leave reduction= at "mean"', lambda: self.product(loss=nn.CrossEntropyLoss(), data=[self.data], reduction="sum"))

    def test_reduction_that_there_is_not(self):
        self.says(ValueError, r'"mean" or "sum".*median', lambda: self.product(reduction="median"))

    def test_matrices_that_a_loss_does_not_have(self):
        own = lambda model, batch: mean(model(batch[0]), batch[1])
        self.says(NotImplementedError, r"distribution is known.*GGN takes any", lambda: self.product(kind=seigh.MCFisher, loss=lambda f, t: mean(f, t)))
        for kind in (seigh.GGN, seigh.EmpiricalFisher, seigh.MCFisher):
            self.says(NotImplementedError, r"has a Hessian only.*give a loss of \(outputs, targets\)",
                      lambda: self.product(kind=kind, loss=own, data=[self.data]))
        self.says(ValueError, "give weight=, a callable of a batch", lambda: self.product(loss=own, data=self.batches))
        self.says(ValueError, "weights must not be negative", lambda: self.product(loss=own, data=self.batches, weight=lambda batch: -1))

    def test_no_loss_and_no_model(self):
        self.says(TypeError, "loss is str, which cannot be called", lambda: self.product(loss="cross entropy"))
        self.says(TypeError, r"model is function, not a torch\.nn\.Module", lambda: self.product(model=lambda x: x))


class Data(WrongUse):
    def test_what_can_be_iterated_once(self):
        class Once:
            left = 1

            def __iter__(inner):
                inner.left -= 1
                return iter([self.data] if inner.left == 0 else [])

        self.says(ValueError, "empty when it is iterated a second time; give a list", lambda: self.product(data=Once()))
        self.says(TypeError, "only once: a generator or an iterator; give a list", lambda: self.product(data=(batch for batch in self.batches)))
        self.says(TypeError, "only once: a generator or an iterator; give a list", lambda: self.product(data=iter(self.batches)))

    def test_nothing(self):
        for data in ([], (self.x[:0], self.y[:0]), torch.utils.data.TensorDataset(self.x[:0], self.y[:0]), [(self.x[:0], self.y[:0])]):
            self.says(ValueError, "holds no samples", lambda: self.product(data=data))
        self.says(ValueError, "a batch holds no tensors, or none of any sample", lambda: self.product(data=[*self.batches, (self.x[:0], self.y[:0])]))

    def test_what_is_no_data(self):
        self.says(TypeError, r"one tensor; give \(inputs, targets\)", lambda: self.product(data=self.x))
        self.says(TypeError, "data is int, neither", lambda: self.product(data=5))
        self.says(TypeError, "data is NoneType, neither", lambda: seigh.Hessian(self.model, mean, None))
        self.says(ValueError, "no pair of inputs and targets; give such pairs", lambda: self.product(data=[self.x]))
        self.says(ValueError, "has none of labels", lambda: self.product(data=[{"a": self.x, "b": self.y}]))

    def test_shapes(self):
        self.says(ValueError, r"an input has shape \[5, 4\], the targets \[8\]; the first dimension is the samples", lambda: self.product(data=(self.x[:5], self.y)))
        self.says(ValueError, "targets run from 2 to 4 but the network has 3 outputs", lambda: self.product(data=(self.x, self.y + 2)))
        # What PyTorch says of its own layers arrives as it is.
        self.says(RuntimeError, "shapes cannot be multiplied", lambda: self.product(data=(self.x[:, :3], self.y)))
        self.says(RuntimeError, "multi-target not supported", lambda: self.product(data=(self.x, self.y[:, None])))
        self.says(RuntimeError, "must have the same dtype", lambda: self.product(data=(self.x.float(), self.y)))

    def test_not_finite(self):
        x = self.x.clone()
        x[5] = float("nan")
        self.says(ValueError, "NaN or inf", lambda: self.product(data=(x, self.y)))
        for data in ((x, self.y), [(self.x, self.y), (x, self.y)]):
            self.says(ValueError, "NaN or inf", lambda: self.product(loss=lambda f, t: mean(f, t), data=data))
        for bad in (float("nan"), float("inf")):
            self.says(ValueError, "NaN or inf", lambda: self.product(loss=lambda f, t: mean(f, t) * bad))
        self.says(ValueError, "loss of samples 0 to 7 is nan; look at",
                  lambda: self.product(loss=lambda model, batch: mean(model(batch[0]), batch[1]) * float("nan"), data=[self.data]))
        model = copy.deepcopy(self.model)
        model[0].weight.data[0, 0] = float("nan")
        self.says(ValueError, "parameters hold NaN or inf", lambda: self.product(model=model))

    def test_loaders_that_differ_each_time(self):
        x, y = self.data

        class Augmented(torch.utils.data.Dataset):
            def __len__(self):
                return 8

            def __getitem__(self, i):
                return x[i] + 0.01 * torch.randn(4).double(), y[i]

        shuffled = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=3, shuffle=True)
        for data, why in ((shuffled, "shuffle=True"), (torch.utils.data.DataLoader(Augmented(), batch_size=3), "random augmentation"),
                          (Augmented(), "random augmentation")):
            with self.assertWarnsRegex(seigh.SeighWarning, f"other batches each time.*{why}") as caught:
                warnings.simplefilter("always", seigh.SeighWarning)
                self.product(data=data)
            self.assertNotIn("\n", str(caught.warning))
        exact = seigh.Hessian(self.model, mean, self.data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", seigh.SeighWarning)
            self.close(self.product(data=shuffled), exact @ torch.ones(43).double(), 1e-9)  # the same samples, after all


    def test_warnings_name_the_line_that_caused_them(self):
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*self.data), batch_size=3, shuffle=True)
        v = torch.ones(43).double()
        for use in (lambda matrix: matrix @ v, lambda matrix: seigh.eigh(matrix, k=2), lambda matrix: matrix.gradient(), lambda matrix: matrix.product_error):
            matrix = seigh.Hessian(self.model, mean, loader)
            with self.assertWarns(seigh.SeighWarning) as caught:
                warnings.simplefilter("always", seigh.SeighWarning)
                use(matrix)
            self.assertEqual(os.path.basename(caught.filename), os.path.basename(__file__))
            self.assertEqual(caught.lineno, use.__code__.co_firstlineno)


class Models(WrongUse):
    def test_on_another_device(self):
        self.says(ValueError, r"model is on meta, the data are on cpu; move one of them: model\.to", lambda: self.product(model=copy.deepcopy(self.model).to("meta")))
        split = copy.deepcopy(self.model)
        split[2].to("meta")
        self.says(ValueError, r"several devices \(cpu, meta\); move it to one", lambda: self.product(model=split))
        self.says(ValueError, r"model is on cpu, the data are on meta", lambda: self.product(data=(self.x.to("meta"), self.y)))

    def test_in_training_mode(self):
        for part, pattern in ((nn.Dropout(0.5), "dropout is active in Dropout '1'"), (nn.BatchNorm1d(5), "BatchNorm1d '1' takes the statistics")):
            model = nn.Sequential(nn.Linear(4, 5), part, nn.Linear(5, 3)).double()
            self.says(ValueError, pattern + r".*model\.eval\(\)", lambda: self.product(model=model))
            self.product(model=model.eval())
        without = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 3)).double().eval()
        self.says(ValueError, "no running statistics", lambda: self.product(model=without))

    def test_random_all_the_same(self):
        class Noise(nn.Module):
            def forward(self, x):
                return F.dropout(x, 0.5, True)

        self.says(ValueError, r"computed twice.*evaluation mode", lambda: self.product(model=nn.Sequential(nn.Linear(4, 3), Noise()).double()))

    def test_choice_of_parameters(self):
        table = copy.deepcopy(self.model)
        table.register_parameter("table", nn.Parameter(torch.arange(3), requires_grad=False))
        self.says(TypeError, "names 'table', which holds torch.int64: integers have no derivatives", lambda: self.product(model=table, params=["table"]))
        self.says(ValueError, "names 'conv9'; there are 0.weight, 0.bias", lambda: self.product(params=["conv9"]))
        self.says(ValueError, "a tensor that is no parameter of the model", lambda: self.product(params=[torch.ones(3)]))
        self.says(ValueError, "chooses none of the parameters", lambda: self.product(params=lambda name, p: False))
        frozen = copy.deepcopy(self.model).requires_grad_(False)
        self.says(ValueError, "all parameters of the model are frozen", lambda: self.product(model=frozen))
        frozen[0].weight.requires_grad_(True)
        self.says(ValueError, "names '2', which is frozen; call requires_grad_", lambda: self.product(model=frozen, params="2"))
        self.says(ValueError, "no parameters", lambda: self.product(model=nn.Tanh()))

    def test_choice_that_is_none(self):
        self.says(ValueError, "params=.*none", lambda: self.product(params=[]))
        for params in (3, [3]):
            self.says(TypeError, "params=.*int", lambda: self.product(params=params))

    def test_complex_parameters(self):
        class Complex(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(torch.randn(4, 3, dtype=torch.complex128))

            def forward(self, x):
                return (x.to(self.w.dtype) @ self.w).abs()

        self.says(TypeError, "parameter 'w' is complex, which is not served", lambda: self.product(model=Complex()))

    def test_changed_in_place(self):
        matrix = seigh.Hessian(self.model, mean, self.data)
        v = torch.ones(43).double()
        before = matrix @ v
        with torch.no_grad():
            self.model[0].weight += 0.1
        for use in (lambda: matrix @ v, lambda: seigh.eigh(matrix, k=2), matrix.loss, matrix.gradient):
            self.says(RuntimeError, r"changed in place.*call refresh\(\)", use)
        after = matrix.refresh() @ v
        self.assertGreater(float((after - before).norm()), 1e-3)
        self.close(after, seigh.Hessian(self.model, mean, self.data) @ v, 1e-12)

    def test_options(self):
        for more, kind, pattern in (({"dtype": torch.float16}, TypeError, "torch.float32 or torch.float64"), ({"dtype": "float64"}, TypeError, "torch.float32 or"),
                                    ({"batch_size": -1}, ValueError, "must not be negative"), ({"l2": float("nan")}, ValueError, "l2 must not be negative"),
                                    ({"products": "foo"}, ValueError, 'choose "auto", "autograd", "graph", "batched", "stacked" or "difference"'),
                                    ({"precision": "half"}, ValueError, 'unknown precision "half"; choose "float32", "tf32" or "bf16"')):
            self.says(kind, pattern, lambda: self.product(**more))
        self.says(ValueError, "draws must be at least 1", lambda: self.product(kind=seigh.MCFisher, draws=0))

    def test_options_that_there_are_not(self):
        self.says(TypeError, "batchsize", lambda: seigh.Hessian(self.model, mean, self.data, batchsize=3))
        self.says(TypeError, "draws", lambda: seigh.Hessian(self.model, mean, self.data, draws=3))

    def test_limits(self):
        self.says(MemoryError, "ceiling of 1 MiB is too low", lambda: seigh.Context(memory="1M"))
        self.says(ValueError, "no amount of memory; write for example 8G", lambda: seigh.Context(memory="lots"))
        self.says(ValueError, "threads", lambda: seigh.Context(threads=-1))
        self.says(ValueError, "the ceiling of a device's memory must not be negative: -1", lambda: seigh.Context(device_memory=-1))


class Eigh(WrongUse):
    def test_numbers(self):
        matrix = seigh.Hessian(self.model, mean, self.data)
        self.says(ValueError, "k = 44 is more than the 43 rows.*at most 43", lambda: seigh.eigh(matrix, k=44))
        for k in (0, -1):
            self.says(ValueError, f"k must lie between 1 and .*43, not {k}", lambda: seigh.eigh(matrix, k=k))
        self.says(ValueError, r'"LM", "LA", "SA" or "BE", not \'XX\'', lambda: seigh.eigh(matrix, k=2, which="XX"))
        self.says(ValueError, "no method \"lanczos\"; the methods are auto", lambda: seigh.eigh(matrix, k=2, method="lanczos"))
        self.says(ValueError, "tolerance must be at least 0", lambda: seigh.eigh(matrix, k=2, tol=-1))
        self.says(ValueError, "error must be at least 0", lambda: seigh.eigh(matrix, k=2, error=float("nan")))

    def test_numbers_of_another_kind(self):
        matrix = seigh.Hessian(self.model, mean, self.data)
        for k in (2.5, "3", None):
            self.says(TypeError, "k must be|k = ", lambda: seigh.eigh(matrix, k=k))
        self.says(ValueError, "products", lambda: seigh.eigh(matrix, k=2, method="hmt", products=160))
        self.says(ValueError, "start", lambda: seigh.eigh(matrix, k=2, start=torch.randn(5)))

    def test_matrices(self):
        for a in (torch.randn(5, 5), np.random.default_rng(0).standard_normal((5, 5))):
            self.says(ValueError, r"not symmetric.*symmetrise it first, \(A \+ A\^T\) / 2", lambda: seigh.eigh(a, k=2))
        self.says(ValueError, "not Hermitian.*symmetrise it first", lambda: seigh.eigh(torch.randn(5, 5, dtype=torch.complex128), k=2))
        for a in (torch.randn(5, 4), np.ones((5, 4)), torch.randn(5), np.ones(5)):
            self.says(ValueError, r"square.*\[5", lambda: seigh.eigh(a, k=2))
        self.says(ValueError, "holds NaN or inf", lambda: seigh.eigh(torch.full((5, 5), float("nan")), k=2))
        self.says(TypeError, "eigh takes a seigh matrix, a tensor.*not list", lambda: seigh.eigh([[1, 2], [2, 1]], k=1))

    def test_callables(self):
        self.says(TypeError, "needs size=", lambda: seigh.eigh(lambda v: v, k=2))
        self.says(ValueError, r"has shape \[3, 2\]; it must have the same", lambda: seigh.eigh(lambda v: v[:3], k=2, size=5))

    def test_a_callable_that_is_not_symmetric(self):
        a = torch.randn(60, 60).double()
        for method in ("dense", "krylov"):
            try:
                pairs = seigh.eigh(lambda v: a @ v, k=2, size=60, dtype=torch.float64, method=method)
            except ValueError as error:
                self.assertIn("symmetric", str(error))
            else:
                self.assertEqual(pairs.certified, 0)

    def test_vectors(self):
        matrix = seigh.Hessian(self.model, mean, self.data)
        for v in (torch.ones(43, dtype=torch.complex128), np.ones(43, dtype=complex)):
            self.says(TypeError, "is real; multiply the real and the imaginary part apart", lambda: matrix @ v)
        for v in (torch.ones(42), np.ones(44), torch.ones(3, 43), torch.ones(43, 1, 1)):
            self.says(ValueError, r"43 x 43; it multiplies a vector \[43\] or a block \[43, b\]", lambda: matrix @ v)
        for v in (3, [1.0] * 43):
            self.says(TypeError, "multiplies a torch.Tensor or a NumPy array", lambda: matrix @ v)
        self.says(KeyError, "no entry '0.weight'", lambda: matrix.as_vector({"a": torch.ones(1)}))

    def test_vectors_taken_apart(self):
        matrix = seigh.Hessian(self.model, mean, self.data)
        for v in (torch.ones(42), torch.ones(43, 2), np.ones(50)):
            self.says(ValueError, r"\[43\]", lambda: matrix.as_dict(v))
        wrong = {name: torch.ones(2) for name in matrix.parameter_names}
        self.says(ValueError, r"0\.weight.*\[2\]", lambda: matrix.as_vector(wrong))


class Masks(WrongUse):
    def test_of_other_parameters(self):
        pairs = seigh.eigh(seigh.Hessian(self.model, mean, self.data), k=3)
        for mask in (seigh.masks.magnitude(nn.Linear(4, 3)), seigh.masks.magnitude(nn.Linear(42, 1)), seigh.masks.magnitude(self.model, params="0")):
            self.says(ValueError, r"the mask is over \d+ parameters, the eigenvectors over 43; give both the same params=", lambda: seigh.overlap(pairs, mask))
        self.says(TypeError, r"mask is Tensor; make one by seigh\.masks", lambda: seigh.overlap(pairs, torch.ones(43)))
        self.says(ValueError, "values holds 3 numbers, the parameters 43", lambda: seigh.masks.scores(self.model, torch.ones(3)))
        self.says(KeyError, "no entry '0.bias'", lambda: seigh.masks.scores(self.model, {"0.weight": torch.ones(5, 4)}))
        self.says(ValueError, "magnitudes cannot be ordered", lambda: seigh.overlap(pairs, seigh.masks.scores(self.model, torch.full((43,), float("nan")))))
        self.says(ValueError, "at least 2", lambda: seigh.overlap(pairs, seigh.masks.magnitude(self.model), random_masks=1))
        self.says(ValueError, "k = 9 is not between 1 and 3", lambda: seigh.overlap(pairs, seigh.masks.magnitude(self.model)).at(9))
        self.says(IndexError, "3 eigenvectors, 0 to 2; 5 is none", lambda: pairs.vector(5))

    def test_of_no_pairs(self):
        matrix = seigh.Hessian(self.model, mean, self.data)
        self.says(TypeError, "pairs", lambda: seigh.overlap(matrix, seigh.masks.magnitude(self.model)))


class Files(WrongUse):
    def test_load_and_save(self):
        pairs = seigh.eigh(seigh.Hessian(self.model, mean, self.data), k=3)
        with tempfile.TemporaryDirectory() as folder:
            at = lambda name: os.path.join(folder, name)
            pairs.save(at("pairs.h5"))
            with open(at("pairs.h5"), "rb") as file:
                content = file.read()
            self.assertTrue(torch.equal(seigh.load(at("pairs.h5")).eigenvectors, pairs.eigenvectors))

            def damaged(name, content):
                with open(at(name), "wb") as file:
                    file.write(content)
                self.says(OSError, f"{name}.*damaged", lambda: seigh.load(at(name)))

            damaged("empty.h5", b"")
            damaged("text.h5", b"no HDF5 at all, but some text\n" * 100)
            for length in (7, 100, len(content) // 2, len(content) - 1):
                damaged("short.h5", content[:length])
            flipped = bytearray(content)
            flipped[len(content) // 2] ^= 255
            damaged("flipped.h5", flipped)
            self.says(OSError, "cannot read .*folder", lambda: seigh.load(folder))
            self.says(OSError, "cannot write .*folder", lambda: pairs.save(folder))
            self.says(OSError, "cannot .*pairs.h5", lambda: pairs.save(at("pairs.h5/inside.h5")))
            self.says(TypeError, "os.PathLike", lambda: pairs.save(3))
            self.says(TypeError, "os.PathLike", lambda: seigh.load(3))
            pairs.save(at("new/deeper/pairs.h5"))  # folders are made
            self.assertEqual(len(seigh.load(at("new/deeper/pairs.h5"))), 3)
            if os.geteuid() != 0:  # root reads and writes everything
                os.chmod(at("pairs.h5"), 0)
                self.says(OSError, "cannot read", lambda: seigh.load(at("pairs.h5")))
                os.chmod(folder, 0o500)
                self.says(OSError, "cannot write", lambda: pairs.save(at("more.h5")))
                os.chmod(folder, 0o700)
            self.assertEqual(sorted(os.listdir(folder)), ["empty.h5", "flipped.h5", "new", "pairs.h5", "short.h5", "text.h5"])

    def test_there_is_none(self):
        with self.assertRaisesRegex(OSError, "none.h5: no such file"):
            seigh.load("/nowhere/none.h5")


class Own(Exception):
    """A user's."""


class Exceptions(WrongUse):
    def arrives(self, error, use):
        try:
            use()
        except BaseException as caught:
            self.assertIs(caught, error)
        else:
            self.fail("nothing was raised")

    def test_of_a_forward(self):
        class Fails(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer, self.calls, self.left = nn.Linear(4, 3), 0, 0

            def forward(self, x):
                if self.left == 0:
                    raise error
                self.left -= 1
                return self.layer(x)

        for error in (Own("two\nlines"), ZeroDivisionError("a"), MemoryError("b"), RuntimeError("c"), SystemExit(3), StopIteration()):
            for left in range(4):
                model = Fails().double()
                model.left = left
                self.arrives(error, lambda: self.product(model=model))
            model.left = 10**9
            self.product(model=model)

    def test_that_comes_once(self):
        """It is not taken for a missing second derivative."""
        class Once(nn.Module):
            def __init__(self, at):
                super().__init__()
                self.layer, self.calls, self.at = nn.Linear(4, 3), calls, at

            def __deepcopy__(self, memo):
                other = Once(0).to(self.layer.weight.dtype)  # what fails in a copy only is no more than not compared
                other.load_state_dict(self.state_dict())
                return other

            def forward(self, x):
                if self.at > 0:
                    self.calls.append(1)
                    if len(self.calls) == self.at:
                        raise error
                return self.layer(x)

        error = Own("mine")
        for at in range(1, 12):
            calls = []
            model = Once(at).double()
            with self.subTest(at):
                try:
                    self.product(model=model)
                except BaseException as caught:
                    self.assertIs(caught, error)
                else:
                    self.assertLess(len(calls), at)  # it was not called as often

    def test_of_a_loss(self):
        error = Own("mine")

        def fails(f, t):
            raise error

        self.arrives(error, lambda: self.product(loss=fails))
        self.arrives(error, lambda: self.product(loss=lambda model, batch: fails(0, 0), data=[self.data]))
        self.arrives(error, lambda: self.product(loss=lambda model, batch: model(batch[0]).sum()**2, data=self.batches, weight=lambda batch: fails(0, 0)))

    def test_of_a_product(self):
        for error in (Own("mine"), IndexError("x"), SystemExit(2)):
            def fails(block):
                raise error

            for method in ("krylov", "dense", "seigh"):
                self.arrives(error, lambda: seigh.eigh(fails, k=2, size=50, method=method))

    def test_of_a_backward(self):
        error = Own("backward")

        class Fails(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, g):
                raise error

        class Module(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 3)

            def forward(self, x):
                return Fails.apply(self.layer(x))

        self.arrives(error, lambda: self.product(model=Module().double()))

    def test_a_backward_that_cannot_be_differentiated(self):
        """Its error in the second backward is a missing second derivative: products are differences."""
        class Tanh(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                y = torch.from_numpy(np.tanh(x.detach().numpy()))
                ctx.save_for_backward(y)
                return y

            @staticmethod
            def backward(ctx, g):
                y, = ctx.saved_tensors
                return torch.from_numpy(g.numpy() * (1 - y.numpy()**2))

        class Once(Tanh):
            backward = staticmethod(torch.autograd.function.once_differentiable(Tanh.backward))

        class Module(nn.Module):
            def __init__(self, function, model):
                super().__init__()
                self.function, self.a, self.b = function, model[0], model[2]

            def forward(self, x):
                return self.b(self.function.apply(self.a(x)))

        expected = self.product()
        for function in (Once, Tanh):
            with self.subTest(function), warnings.catch_warnings():
                warnings.simplefilter("ignore", seigh.SeighWarning)
                self.close(self.product(model=Module(function, self.model)), expected, 1e-6)


class Interrupts(WrongUse):
    """Ctrl-C at any time of a long computation ends it within a second, as KeyboardInterrupt; everything can be used again."""

    def interrupted(self, work, after=0.3):
        sent = []

        def press():
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        timer = threading.Timer(after, press)
        timer.start()
        try:
            with self.assertRaises(KeyboardInterrupt):
                work()
                timer.join()
            self.assertLess(time.monotonic() - sent[0], 1.0)
        finally:
            try:  # where work() failed before
                timer.join()
                time.sleep(0.01)
            except KeyboardInterrupt:
                pass

    def test_a_network_by_stacks(self):
        model = nn.Sequential(nn.Linear(100, 100), nn.Tanh(), nn.Linear(100, 100), nn.Tanh(), nn.Linear(100, 10))
        matrix = seigh.Hessian(model, mean, (torch.randn(2000, 100), torch.arange(2000) % 10))
        v = torch.randn(matrix.shape[0])
        before = matrix @ v
        self.interrupted(lambda: seigh.eigh(matrix, k=200, tol=1e-6))
        self.assertTrue(torch.equal(matrix @ v, before))

    def test_a_network_by_autograd(self):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(1152, 10))
        x, y = torch.randn(100, 3, 16, 16), torch.arange(100) % 10
        matrix = seigh.Hessian(model, mean, (x, y))
        v = torch.randn(matrix.shape[0])
        before = matrix @ v
        self.interrupted(lambda: seigh.eigh(matrix, k=200, tol=1e-6))
        self.interrupted(lambda: matrix @ torch.randn(matrix.shape[0], 2000))
        self.close(matrix @ v, before, 1e-6)
        self.assertEqual(len(seigh.eigh(matrix, k=2, products=20)), 2)

    def test_while_a_matrix_is_made(self):
        """In the checks, the copies they make and drop, and while graphs are built; none may be lost, wherever it arrives. (One in
        fifty was, in Python code that ran as a copy died: eighty make it likely to be seen.)"""
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(144, 10))
        matrix = seigh.Hessian(model, mean, (torch.randn(20, 3, 8, 8), torch.arange(20) % 10))
        v = torch.randn(matrix.shape[0])
        before = matrix @ v

        def make(seconds):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                matrix.refresh() @ v

        self.addCleanup(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        for turn in range(80):
            self.interrupted(lambda: make(3), after=0.01 + 0.001 * turn)
        self.close(matrix.refresh() @ v, before, 1e-4)

    def test_a_matrix_and_a_callable(self):
        a = torch.randn(3000, 3000)
        a = a + a.T
        self.interrupted(lambda: seigh.eigh(a, k=500, tol=1e-6, method="krylov"))

        def slow(block):
            time.sleep(0.05)
            return torch.linspace(1, 2, 400).double()[:, None] * block

        self.interrupted(lambda: seigh.eigh(slow, k=5, size=400, dtype=torch.float64, method="krylov", tol=1e-12, products=400))
        self.assertEqual(len(seigh.eigh(lambda v: 2 * v, k=2, size=40)), 2)

    def test_no_interrupt_is_left_behind(self):
        self.interrupted(lambda: seigh.eigh(lambda v: (time.sleep(0.02), v)[1], k=300, size=400, method="krylov"))
        time.sleep(0.1)
        self.product()


if __name__ == "__main__":
    unittest.main()
