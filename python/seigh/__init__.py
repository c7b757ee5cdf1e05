"""Leading eigenpairs of a network's curvature, with certificates.

    H = seigh.Hessian(model, loss, data)
    pairs = seigh.eigh(H, k=100)
    seigh.overlap(pairs, seigh.masks.magnitude(model)).plot()

Everything here works in place, on the module as it is: no export, no copy of its parameters.
"""

import os
import sys

from seigh import _build

# Threads that wait should sleep soon: where others want the cores, spinning takes them from the very threads that are waited for. Too late
# where torch is there already, since libgomp reads this as it is loaded.
if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch

if torch.__version__.split("+")[0].split(".")[:2] != _build.TORCH.split(".")[:2]:
    raise ImportError(f"this seigh was built with torch {_build.TORCH}, and torch here is {torch.__version__}: build it anew, "
                      "pip install --no-build-isolation --force-reinstall --no-deps <seigh's folder>")

from seigh import callbacks, masks, metrics
from seigh._context import Context, Progress
from seigh._curvature import GGN, Curvature, EmpiricalFisher, Hessian, MCFisher, SeighWarning
from seigh._eigh import EigenPairs, eigh, load
from seigh._estimates import Density, Diagonal, Trace, density, diagonal, trace
from seigh._overlap import Overlap, overlap
from seigh._recorder import Recorder
from seigh._run import Dynamics, dynamics, report, run

__version__ = _build.VERSION
__all__ = ["Context", "Curvature", "Density", "Diagonal", "Dynamics", "EigenPairs", "EmpiricalFisher", "GGN", "Hessian", "MCFisher", "Overlap",
           "Progress", "Recorder", "SeighWarning", "Trace", "callbacks", "density", "diagonal", "dynamics", "eigh", "load", "masks", "metrics",
           "overlap", "report", "run", "trace"]
