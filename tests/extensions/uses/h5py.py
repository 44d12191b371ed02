import os
import tempfile

import h5py
import numpy as np


def use(seed: int) -> None:
    data = np.arange(10_000, dtype="i4").reshape(100, 100) + seed
    with h5py.File(f"memory-{seed}.h5", "w", driver="core", backing_store=False) as file:
        fill(file, data, seed)
        check(file, data, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "data.h5")
        # A lock of ours would live on in a child that is started by others just then.
        with h5py.File(path, "w", locking=False) as file:
            fill(file, data, seed)
        with open(path, "rb") as raw:
            assert raw.read(8) == b"\x89HDF\r\n\x1a\n"
        assert os.path.getsize(path) < data.nbytes  # it is compressed
        with h5py.File(path, "r", locking=False) as file:
            check(file, data, seed)
            try:
                file.create_group("no")
            except ValueError:
                pass
            else:
                raise AssertionError("no ValueError")
        try:
            h5py.File(os.path.join(folder, "missing.h5"), "r")
        except FileNotFoundError:
            pass
        else:
            raise AssertionError("no FileNotFoundError")


def fill(file: h5py.File, data: np.ndarray, seed: int) -> None:
    group = file.create_group("a/b")
    group.create_dataset("ints", data=data, chunks=(10, 100), compression="gzip", shuffle=True)
    group.attrs["seed"] = seed
    group.attrs["text"] = "naïve"
    texts = file.create_dataset("texts", (3,), dtype=h5py.string_dtype())
    texts[:] = ["a", "bß", ""]
    kind = np.dtype([("name", "S8"), ("x", "f8")])
    file["records"] = np.array([(b"one", 1.5), (b"two", seed)], dtype=kind)
    grows = file.create_dataset("grows", (0,), maxshape=(None,), dtype="f8")
    grows.resize((5,))
    grows[2:] = [1, 2, 3]
    ragged = file.create_dataset("ragged", (2,), dtype=h5py.vlen_dtype("i4"))
    ragged[0], ragged[1] = [1], [2, 3]
    file["link"] = h5py.SoftLink("/a/b/ints")
    file["grows"].attrs["where"] = group.ref


def check(file: h5py.File, data: np.ndarray, seed: int) -> None:
    ints = file["link"]
    assert ints.shape == (100, 100) and ints.compression == "gzip"
    assert np.array_equal(ints[()], data)
    assert ints[3:5, ::40].tolist() == [
        [300 + seed, 340 + seed, 380 + seed],
        [400 + seed, 440 + seed, 480 + seed],
    ]
    assert ints[[1, 5], 2].tolist() == [102 + seed, 502 + seed]
    group = file["a/b"]
    assert group.attrs["seed"] == seed and group.attrs["text"] == "naïve"
    assert file["texts"].asstr()[:].tolist() == ["a", "bß", ""]
    assert file["records"]["x"].tolist() == [1.5, seed]
    assert file["grows"][:].tolist() == [0, 0, 1, 2, 3]
    assert [len(item) for item in file["ragged"]] == [1, 2]
    assert file[file["grows"].attrs["where"]].name == "/a/b"
    names: list[str] = []
    file.visit(names.append)
    assert names == ["a", "a/b", "a/b/ints", "grows", "ragged", "records", "texts"]
