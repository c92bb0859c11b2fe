# SPDX-License-Identifier: Apache-2.0
"""Files of statistics: DeePMD-kit's read, ours equal to it, and what is refused."""

from __future__ import annotations

import json
import logging
import shutil
import sys

import h5py
import numpy as np
import pytest
from places import REFERENCE

sys.path.insert(0, str(REFERENCE))
import make_stat_file

from deepspin.data.dataset import DataSystem
from deepspin.data.files import DataError
from deepspin.interop import stat_file
from deepspin.model.ener import build_model
from deepspin.utils.inputs import normalize
from deepspin.utils.refused import InputError

THEIRS = REFERENCE / "stat_file.hdf5"
GROUP = "Ni O/c893dc23c6c9bf70d74007e690e49799740cf4ec"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the system that DeePMD-kit's file is of."""
    path = tmp_path_factory.mktemp("stat")
    make_stat_file.write_system(path / "system")
    return path


@pytest.fixture
def given(folder, tmp_path):
    """A copy of DeePMD-kit's file, as a path."""
    return str(shutil.copy(THEIRS, tmp_path / "stat.hdf5"))


def fresh(folder, **descriptor):
    """A new model and the data."""
    content = make_stat_file.given(folder / "system", "unused.hdf5")
    content["model"]["descriptor"] |= descriptor
    model = build_model(normalize(content)["model"])
    return model, DataSystem(str(folder / "system"), **model.data_spec, batch_size=3)


def found(folder, path, mode="update", digest="d", atom_ener=None, **descriptor):
    """Weights of statistics after a file was used."""
    model, data = fresh(folder, **descriptor)
    stat_file.compute_stats(
        model,
        data.sample(1),
        str(path),
        mode,
        data=data,
        digest=digest,
        atom_ener=atom_ener,
    )
    return weights(model)


def weights(model):
    return {
        "davg": model.descriptor.davg.numpy(),
        "dstd": model.descriptor.dstd.numpy(),
        "bias": model.fitting.bias_atom_e.numpy(),
        "avg": model.fitting.fparam_avg.numpy(),
        "inv_std": model.fitting.fparam_inv_std.numpy(),
    }


def contents(path):
    """Datasets of a file by name."""
    with h5py.File(path) as file:
        names: list[str] = []
        file.visit(names.append)
        return {n: file[n][()] for n in names if isinstance(file[n], h5py.Dataset)}


def test_ours_is_theirs(folder, tmp_path):
    """Each of DeePMD-kit's datasets, those of virtual atoms, too; and no others."""
    found(folder, tmp_path / "ours.hdf5")
    ours, theirs = contents(tmp_path / "ours.hdf5"), contents(THEIRS)
    note = f"Ni O/deepspin_{GROUP.partition('/')[2]}"
    assert ours.keys() == {*theirs, note}
    assert json.loads(ours.pop(note))["data"] == "d"
    for name, values in theirs.items():
        if values.dtype.kind == "S":
            np.testing.assert_array_equal(ours[name], values)
            continue
        scale = np.abs(theirs[name.replace("a_", "r_")]).max() if GROUP in name else 1
        np.testing.assert_allclose(ours[name], values, rtol=1e-10, atol=1e-12 * scale)
    assert theirs[f"{GROUP}/r_2"][0] > 0


def test_theirs_is_read(folder, given, caplog):
    """Its numbers become the model's, the data are not looked at, the file stays."""
    with h5py.File(given, "a") as file:
        file[f"{GROUP}/r_0"][:] = [100.0, 200.0, 800.0]
        file["Ni O/bias_atom_energy"][:, 0] = [1.0, 2.0, 4.0]
        file["Ni O/fparam"][:] = [[2.0, 2.0, 4.0], [4.0, 8.0, 80.0]]
    before = contents(given)
    model, data = fresh(folder)
    with caplog.at_level(logging.INFO, "deepspin"):
        stat_file.compute_stats(model, None, given, "read", data=data, digest="d")
    assert "whatever data DeePMD-kit found them from" in caplog.text
    got, plain = weights(model), fresh(folder)
    np.testing.assert_array_equal(got["davg"][0], [2.0, 0, 0, 0])
    np.testing.assert_array_equal(got["dstd"][0, 0], 2.0)
    np.testing.assert_array_equal(got["bias"], [5.0, 2.0])
    np.testing.assert_array_equal(got["avg"], [1.0, 2.0])
    np.testing.assert_array_equal(got["inv_std"], [1.0, 0.25])
    plain[0].compute_stats(plain[1].sample(1))
    # what was left alone is what the data tell
    np.testing.assert_allclose(got["dstd"][1], weights(plain[0])["dstd"][1], rtol=1e-9)
    assert before.keys() == contents(given).keys()


@pytest.mark.parametrize("name", ["stat.hdf5", "stat.h5", "deep/folder"])
def test_again_bit_for_bit(folder, tmp_path, name):
    """A second start reads what the first wrote; numbers are those without a file."""
    one = found(folder, tmp_path / name)
    model, data = fresh(folder)
    path = str(tmp_path / name)
    assert (tmp_path / name).is_dir() == (name == "deep/folder")
    stat_file.compute_stats(model, None, path, "read", data=data, digest="d")
    plain, more = fresh(folder)
    plain.compute_stats(more.sample(1))
    for key, value in weights(model).items():
        np.testing.assert_array_equal(value, one[key])
        np.testing.assert_allclose(value, weights(plain)[key], rtol=1e-9)


def test_of_other_data(folder, given, caplog):
    found(folder, given[:-5] + ".h5", digest="one")
    with caplog.at_level(logging.WARNING, "deepspin"):
        found(folder, given[:-5] + ".h5", digest="other")
    assert "which are of other training data" in caplog.text


def test_another_cutoff_gets_a_group(folder, given, caplog):
    """As in DeePMD-kit: environments are found anew beside the old, the bias is not."""
    with h5py.File(given, "a") as file:
        file["Ni O/bias_atom_energy"][:, 0] = [1.0, 2.0, 4.0]
    with caplog.at_level(logging.INFO, "deepspin"):
        got = found(folder, given, rcut=4.4)
    assert "found anew" in caplog.text
    np.testing.assert_array_equal(got["bias"], [5.0, 2.0])
    groups = {name.split("/")[1] for name in contents(given) if name.count("/") == 2}
    assert len(groups) == 2
    np.testing.assert_array_equal(
        contents(given)[f"{GROUP}/r_0"], contents(THEIRS)[f"{GROUP}/r_0"]
    )


def test_what_no_name_tells_is_told(folder, tmp_path, caplog):
    """Options that are in no name have it found anew, or are refused."""
    path = tmp_path / "stat.h5"
    one = found(folder, path)
    with pytest.raises(InputError, match="it is for another exclude_types"):
        found(folder, path, "read", exclude_types=[[0, 1]])
    with caplog.at_level(logging.INFO, "deepspin"):
        other = found(folder, path, exclude_types=[[0, 1]], atom_ener=[1.0, None])
    assert "is for another exclude_types, atom_ener" in caplog.text
    assert (one["dstd"] != other["dstd"]).any()
    assert other["bias"][0] == 1.0
    model, data = fresh(folder, exclude_types=[[0, 1]])
    model.compute_stats(data.sample(1), atom_ener=[1.0, None])
    np.testing.assert_array_equal(other["dstd"], weights(model)["dstd"])


def test_read_mode_writes_nothing(folder, given):
    before = contents(given)
    with pytest.raises(InputError, match="no environments of these types, cutoff"):
        found(folder, given, "read", rcut=4.4)
    assert contents(given).keys() == before.keys()


def test_bad_files(folder, given, tmp_path):
    with h5py.File(given, "a") as file:
        file[f"{GROUP}/r_1"][:] = [0.0, 0.0, 0.0]
    with pytest.raises(DataError, match="of data without O, which the training data"):
        found(folder, given)
    with h5py.File(given, "a") as file:
        file[f"{GROUP}/r_1"][:] = [10.0, np.nan, 1.0]
    with pytest.raises(DataError, match=r"r_1 in .* must be finite numbers of shape"):
        found(folder, given)
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(InputError, match="which is no HDF5 file"):
        stat_file.check(str(tmp_path / "text.h5"), "update")
    with pytest.raises(InputError, match='does not exist, and `stat_file_mode` is "re'):
        stat_file.check(str(tmp_path / "none.h5"), "read")
    (tmp_path / "dir" / GROUP).mkdir(parents=True)
    (tmp_path / "dir" / GROUP / "r_0").write_bytes(b"damaged")
    with pytest.raises(DataError, match="cannot be read"):
        found(folder, tmp_path / "dir")
