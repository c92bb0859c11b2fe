# SPDX-License-Identifier: Apache-2.0
"""Tables of what systems hold."""

from small_data import frames, write

from deepspin.survey.comparison import measure
from deepspin.survey.report import report
from deepspin.survey.scheme import survey


def test_tables(tmp_path):
    """A quantity that no system has gets no table."""
    arrays, types = frames(4)
    del arrays["force"], arrays["energy"]
    folder = str(write(tmp_path / "s", arrays, types))
    data = survey([folder])
    facts, _, _ = measure(data, None)
    text = report(facts, data.type_map, ["odd", "strange"])
    titles = [line for line in text.splitlines() if line and line[0] != " "]
    assert titles[:2] == ["Systems", "Cells: volume and lengths in Å"]
    assert "Magnetic forces in eV/μ_B" in titles
    assert not any(title.startswith(("Energies", "Forces in")) for title in titles)
    assert f"4  Ni:4 O:4  spin-files  force_mag  {folder}" in text
    assert text.endswith("To look at\n  1. odd\n  2. strange\n")


def test_nothing():
    assert report([], [], []) == "\nNothing to look at.\n"
