# SPDX-License-Identifier: Apache-2.0
"""What inputs of dynamics have in common."""

import pytest

from deepspin.dynamics.md.sections import (
    AXIS,
    DIRECTION,
    REPEAT,
    check_waves,
    finite_numbers,
    structure_args,
    waves_of_rules,
    with_rules,
)
from deepspin.utils.refused import InputError


def test_finite_numbers():
    positive = finite_numbers(lambda x: x > 0)
    assert positive(2) and positive([1, 0.5])
    for value in (0, [], [1, -1], True, "1", float("nan"), float("inf"), None):
        assert not positive(value), value
    three = finite_numbers(lambda x: True, 3)
    assert three([0, 0, 0]) and not three([0, 0]) and not three(1)


@pytest.mark.parametrize(
    ("value", "direction", "axis"),
    [
        ([0, 0, 2], True, True),
        ("random", True, False),
        ([0, 0, 0], False, False),
        ([0, 1], False, False),
        ("up", False, False),
    ],
)
def test_directions(value, direction, axis):
    assert (DIRECTION[0](value), AXIS[0](value)) == (direction, axis)
    assert not REPEAT[0]([1, 0, 1])


def test_rules():
    """Each is completed; a mistake is told with its number."""
    given = {"structure": {"file": "a"}}
    rule = {"wave_vector": [0.5, 0, 0], "_why": "Néel"}
    found = with_rules([structure_args()], given | {"spins": [{}, rule]})
    assert found["spins"][0] == dict.fromkeys(found["spins"][1])
    assert "_why" not in found["spins"][1]
    waves = waves_of_rules(found)
    assert waves == {
        "spins/0/wave_vector": None,
        "spins/1/wave_vector": [0.5, 0, 0],
    }
    with pytest.raises(InputError, match=r"rule 1: `modulus` is 0\.0; expected"):
        with_rules([structure_args()], given | {"spins": [{}, {"modulus": 0.0}]})


def test_waves():
    check_waves({"a": [0.5, 1, 1e-9], "b": None}, [2, 1, 3], "sizes")
    with pytest.raises(InputError, match=r"`a` .* fits into 1 x 2 x 1 .* `sizes`"):
        check_waves({"a": [0.5, 0, 0]}, [1, 2, 1], "sizes")
