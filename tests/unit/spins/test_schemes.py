# SPDX-License-Identifier: Apache-2.0
"""The table of schemes and its doors."""

from types import SimpleNamespace

import pytest

from deepspin.spins.schemes import build_scheme, demand, scheme_of_layer
from deepspin.spins.virtual import VirtualAtoms

SECTION = {"use_spin": [True, False], "virtual_len": [0.4], "spin_norm": [1.6]}
WANTED = VirtualAtoms.from_options(**SECTION)


@pytest.mark.parametrize("more", [{}, {"type": "ener_spin"}])
def test_from_a_section(more):
    section = {**SECTION, **more}
    assert build_scheme(section) == WANTED
    assert section == {**SECTION, **more}  # not changed


def test_from_a_layer():
    config = {**SECTION, "virtual_scale": None, "placeholders": True, "name": "spin"}
    layer = {"registered_name": "deepspin>Spin", "config": config}
    found = scheme_of_layer(layer)
    assert found == VirtualAtoms(WANTED.codec, placeholders=True)
    with pytest.raises(ValueError, match="Unknown layer of spins: 'lab>Spin'"):
        scheme_of_layer({**layer, "registered_name": "lab>Spin"})


def test_what_a_scheme_lacks_is_refused():
    other = SimpleNamespace(lacks={"compress": "There is nothing to tabulate."})
    demand(other, "deepmd")
    demand(WANTED, "compress")
    with pytest.raises(NotImplementedError, match="nothing to tabulate"):
        demand(other, "compress")
