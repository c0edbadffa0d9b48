"""Points of domains: where they lie, how they are spread, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sciml.errors import UserError
from sciml.pde.conditions import Boundary
from sciml.pde.domains import Box, Sampling
from sciml.pde.geometry import Shape
from sciml.pde.solids import disk, polygon, rectangle

METHODS: tuple[Sampling, ...] = ("uniform", "sobol", "lhs", "grid")
REAL = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plate(t: tuple[float, float] | None = None) -> Shape:
    return Shape(rectangle((0, 0), (2, 1)) - disk((0.5, 0.5), 0.2), t=t)


@pytest.mark.parametrize("method", METHODS)
def test_faces_of_a_box_share_points_and_carry_outward_normals(method: Sampling) -> None:
    box = Box(x=(-1, 3), y=(0, 2), t=(0, 1))
    points = box.boundary(None).sample(64, generator(), method, REAL)
    place = points.coordinates
    for k, axis in enumerate(("x", "y")):
        normal = points.extras[f"n_{axis}"]
        for sign, bound in ((-1, box.bounds[k, 0]), (1, box.bounds[k, 1])):
            assert (normal == sign).sum() == 16
            assert (place[normal == sign, k] == bound).all()
    assert ((points.extras["n_x"] ** 2 + points.extras["n_y"] ** 2) == 1).all()
    assert box.contains(place.numpy()).all()


@pytest.mark.parametrize("method", METHODS)
def test_sampling_depends_on_the_generator_alone(method: Sampling) -> None:
    for part in (Box(x=(0, 1), y=(0, 1)).interior(), plate((0, 1)).interior(), plate().boundary(None)):
        first, again = (part.sample(50, generator(3), method, REAL).coordinates for _ in range(2))
        assert torch.equal(first, again)


def test_sobol_and_latin_hypercube_integrate_better_than_uniform() -> None:
    box = Box(x=(0, 1), y=(0, 1))

    def worst(method: Sampling) -> float:
        points = [box.interior().sample(256, generator(k), method, REAL).coordinates for k in range(10)]
        return max(abs(float((p[:, 0] ** 2 + p[:, 1] ** 2).mean()) - 2 / 3) for p in points)

    assert worst("sobol") < 0.2 * worst("uniform")
    assert worst("lhs") < 0.2 * worst("uniform")


def test_an_end_of_an_axis_without_other_axes_is_a_point() -> None:
    points = Box(x=(0, 2)).boundary({"x": 2.0}).sample(4, generator(), "sobol", REAL)
    assert points.coordinates.tolist() == [[2.0]] * 4


def test_opposite_points_differ_along_their_axis_alone() -> None:
    points = Box(x=(0, 2), y=(0, 1)).opposite("x").sample(9, generator(), "sobol", REAL)
    assert points.partner is not None
    assert torch.equal(points.partner - points.coordinates, torch.tensor([[2.0, 0.0]], dtype=REAL).expand(9, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Box(), "at least one axis"),
        (lambda: Box(x=(1, 0)), "low < high"),
        (lambda: Box(x=(0, float("nan"))), "low < high"),
        (lambda: Box({"y": "m"}, x=(0, 1)), "no axis 'y'"),
        (lambda: Box(x=(0, 1)).start(), "needs an axis t"),
        (lambda: Box(t=(0, 1)).boundary(None), "matches no point"),
        (lambda: Box(x=(0, 1)).boundary({"x": 0.5}), "x = 0.5 matches no point; x ends at 0.0 and 1.0"),
        (lambda: Box(x=(0, 1)).boundary({}), "one axis"),
        (lambda: Box(radius=(0, 1)).opposite("radus"), "did you mean 'radius'"),
        (lambda: plate().start(), "needs time"),
        (lambda: plate().opposite("x"), "needs a Box"),
        (lambda: plate((0, 1)).boundary({"t": 0.5}), "t = 0.5 matches no point"),
        (lambda: plate().boundary({"x": 1.0}).sample(5, generator(), "sobol", REAL), "matches no point"),
        (lambda: Shape(disk((0, 0), 1), axes=("x",)), "expected 2 axes"),
        (lambda: polygon([(0, 0), (1, 0)]), "at least three"),
    ],
)
def test_mistakes_are_told_in_one_line(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_a_boundary_with_a_hole_is_even_and_its_normals_point_out_of_the_material() -> None:
    points = plate((0, 1)).boundary(None).sample(4000, generator(), "sobol", REAL)
    place = points.coordinates.numpy()
    normal = torch.stack([points.extras["n_x"], points.extras["n_y"]], 1).numpy()
    from_centre = place[:, :2] - 0.5
    hole = np.abs(np.linalg.norm(from_centre, axis=1) - 0.2) < 1e-9
    np.testing.assert_allclose(normal[hole], -from_centre[hole] / 0.2, atol=1e-9)
    right = place[:, 0] == 2
    np.testing.assert_array_equal(normal[right], [[1.0, 0.0]] * right.sum())
    expected = 0.4 * np.pi / (6 + 0.4 * np.pi)
    assert abs(hole.mean() - expected) < 4 * np.sqrt(expected / len(place))
    assert plate((0, 1)).contains(place).all()


def test_interior_points_avoid_the_hole_and_fill_the_rest() -> None:
    shape = plate((0, 1))
    place = shape.interior().sample(4000, generator(), "sobol", REAL).coordinates.numpy()
    assert len(place) == 4000
    assert (np.linalg.norm(place[:, :2] - 0.5, axis=1) > 0.2).all()
    area = 2 - 0.04 * np.pi
    assert abs((place[:, 0] > 1).mean() - 1 / area) < 0.02
    start = shape.start().sample(20, generator(), "lhs", REAL).coordinates
    assert (start[:, 2] == 0).all()


def test_edges_inside_a_union_are_no_boundary() -> None:
    both = Shape(rectangle((0, 0), (1, 1)) | rectangle((1, 0), (2, 1)))
    place = both.boundary(None).sample(2000, generator(), "uniform", REAL).coordinates
    assert not ((place[:, 0] == 1) & (place[:, 1] > 1e-3) & (place[:, 1] < 1 - 1e-3)).any()
    assert abs(float((place[:, 1] == 0).double().mean()) - 1 / 3) < 0.05


def test_polygons_and_their_intersections() -> None:
    corner = Shape(polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]))
    assert corner.contains(np.array([[0.5, 1.5], [1.5, 0.5], [1.5, 1.5]])).tolist() == [True, True, False]
    cut = Shape(polygon([(0, 0), (1, 0), (0, 1)]) & disk((0, 0), 0.9))
    place = cut.boundary(None).sample(300, generator(), "uniform", REAL).coordinates.numpy()
    assert (np.linalg.norm(place, axis=1) <= 0.9 + 1e-9).all()
    assert (place.sum(axis=1) <= 1 + 1e-9).all()


def test_measures_of_parts() -> None:
    plate = Shape(rectangle((0, 0), (2, 1)) - disk((0.5, 0.5), 0.25), t=(0, 3))
    box = Box(x=(0, 2), y=(0, 1), t=(0, 3))
    right = Boundary(lambda u: u, at=lambda x: x > 1.9).part(plate)
    area, outline = 2 - np.pi / 16, 6 + np.pi / 2
    for part, expected, accuracy in (
        (box.interior(), 6, 1e-15),
        (box.start(), 2, 1e-15),
        (box.boundary(None), 18, 1e-15),
        (box.opposite("x"), 3, 1e-15),
        (plate.interior(), 3 * area, 1e-3),
        (plate.start(), area, 1e-3),
        (plate.boundary(None), 3 * outline, 1e-2),
        (right, 3 * 1.2, 2e-2),
    ):
        assert part.measure() == pytest.approx(expected, rel=accuracy)


CONTAINED = """
import torch, numpy as np
def state():
    seeds = torch.initial_seed(), np.random.get_state()[1].tolist()
    return torch.get_default_dtype(), torch.get_default_device(), seeds
before = state()
from sciml.pde.geometry import Shape
from sciml.pde.solids import disk
Shape(disk((0, 0), 1)).boundary(None).sample(10, torch.Generator().manual_seed(0), "sobol", torch.float64)
assert before == state()
import os, deepxde
assert "DDE_BACKEND" not in os.environ and deepxde.config.default_float() == "float32"
"""


def test_deepxde_prints_nothing_writes_nothing_and_changes_nothing(tmp_path: Path) -> None:
    hidden = ("DDE_BACKEND", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR")
    environment = {k: v for k, v in os.environ.items() if k not in hidden}
    environment |= {"HOME": str(tmp_path), "OMPI_COMM_WORLD_SIZE": "2"}
    done = subprocess.run([sys.executable, "-c", CONTAINED], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
