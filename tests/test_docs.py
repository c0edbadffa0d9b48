"""The pages of the documentation are run as they stand."""

import ast
import re
import sys
from pathlib import Path

import pytest

import sciml
from problems.pde.heat import Heat
from sciml.errors import UserError

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    path = tmp_path_factory.mktemp("docs") / "extending_page.py"
    path.write_text("\n\n".join(blocks))
    sys.path.insert(0, str(path.parent))
    try:
        return vars(__import__("extending_page"))
    finally:
        sys.path.remove(str(path.parent))


def test_the_classes_are_as_short_as_the_page_says() -> None:
    lines = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        for node in ast.parse(block).body:
            if isinstance(node, ast.ClassDef):
                after_docstring = block.splitlines()[node.body[1].lineno - 1 : node.end_lineno]
                lines[node.name] = sum(bool(line.strip()) for line in after_docstring)
    assert lines == {"Fisher": 9, "Growth": 9, "RandomSines": 26}


def test_the_solver_of_the_page_solves_heat(page: dict) -> None:
    problem = Heat()
    solution = sciml.solve(problem, page["RandomSines"](), seed=0)
    assert problem.score(solution)["relative_l2"] < 1e-7


def test_the_solver_of_the_page_refuses_the_problem_of_the_page(page: dict) -> None:
    with pytest.raises(UserError, match="one linear equation is expected"):
        sciml.solve(page["Fisher"](), page["RandomSines"]())


def test_the_problem_of_the_page_is_solved_by_the_baseline(page: dict) -> None:
    from solvers.pde.spectral import Spectral

    problem = page["Fisher"]()
    assert problem.score(sciml.solve(problem, Spectral()))["relative_l2"] < 1e-6


def test_the_number_that_the_page_seeks_is_found(page: dict) -> None:
    from solvers.pde.calibration import Calibration

    problem = page["Growth"]()
    solution = sciml.solve(problem, Calibration(tolerance=1e-6))
    assert solution([[0.0, 0.5]])[0, 1] == pytest.approx(6.0, rel=1e-5)
    assert problem.score(solution)["relative_l2_rate"] < 1e-5
