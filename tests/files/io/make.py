#!/usr/bin/env python3
"""Makes the files of this folder: what NumPy and h5py themselves write."""
import os

import h5py
import numpy as np

os.chdir(os.path.dirname(os.path.abspath(__file__)))

a = np.arange(6, dtype="<f4").reshape(2, 3)
np.save("c_f4.npy", a)
np.save("fortran_f4.npy", np.asfortranarray(a))
with open("version3_i8.npy", "wb") as f:
    np.lib.format.write_array(f, a.astype("<i8"), version=(3, 0))
np.save("structured.npy", np.zeros(2, dtype=[("a", "<f4"), ("b", "<i8")]))
np.save("bool.npy", np.zeros(2, dtype=bool))

x = np.arange(12.0).reshape(4, 3)
with h5py.File("h5py.h5", "w") as f:
    f["big_endian"] = x.astype(">f4")
    f["half"] = x.astype("<f2")
    f["int16"] = x.astype("<i2")
    f.create_dataset("packed", data=x.astype("<f4"), chunks=(2, 2), compression="gzip")
    f["group/inner"] = x.astype("u1")
    f["bool"] = x > 3
    f["text"] = "some text"
    f["empty"] = h5py.Empty("f4")
    f.attrs["count"] = 3
    f.attrs["small"] = np.int8(-2)
    f.attrs["ratio"] = np.float32(0.5)
    f.attrs["text"] = "größe"
    f.attrs["fixed"] = np.bytes_("abc")
    f.attrs["list"] = [1, 2]
