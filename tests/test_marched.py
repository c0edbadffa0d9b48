"""Stored references of periodic problems: confirmed to the error that is stated, and read where settings are theirs."""

import json

import h5py
import numpy as np
import pytest

from problems.pde import _marched
from problems.pde._marched import Marched
from problems.pde.allen_cahn import AllenCahn
from problems.pde.ginzburg_landau import GinzburgLandau
from problems.pde.gray_scott import GrayScott
from problems.pde.kdv import KdV
from problems.pde.kuramoto_sivashinsky import KuramotoSivashinsky
from problems.pde.schroedinger import Schroedinger
from sciml.references import reference_file

KINDS: list[type[Marched]] = [AllenCahn, GinzburgLandau, GrayScott, KdV, KuramotoSivashinsky, Schroedinger]
STORED = [(kind, *file) for kind in KINDS for file in kind.stored]
CHAOTIC = KuramotoSivashinsky(6.25, 0.390625, 0.00152587890625, "modulated")


@pytest.mark.parametrize(("kind", "name", "checksum"), STORED, ids=[name for _, name, _ in STORED])
def test_a_second_discretisation_confirms_the_stated_error(kind, name, checksum):
    with h5py.File(reference_file(name, checksum)) as file:
        problem: Marched = kind(**json.loads(str(file.attrs["settings"])))
        assert problem.reference_error is not None
        assert 0 < float(file.attrs["greatest_difference"]) <= problem.reference_error


@pytest.mark.parametrize("problem", [CHAOTIC, *(kind() for kind in KINDS)], ids=lambda p: p.name)
def test_the_stored_settings_are_not_marched(problem, monkeypatch):
    monkeypatch.setattr(_marched, "marched", lambda *_: pytest.fail("marched"))
    points, _ = problem.evaluation
    assert np.isfinite(problem.reference(points[:9])).all()


def test_the_chaotic_reference_fulfils_its_data():
    assert CHAOTIC.reference_error == 3e-6
    x = np.linspace(0, 2 * np.pi, 40)
    start = CHAOTIC.reference(np.stack([x, 0 * x], axis=1))[:, 0]
    np.testing.assert_allclose(start, np.cos(x) * (1 + np.sin(x)), rtol=0, atol=1e-12)
