"""A problem states one question: the physics, its parameters, its reference, and how an answer is scored."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from sciml.html import table
from sciml.parameters import Configured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciml.solution import Solution


@dataclass(frozen=True)
class Variable:
    """A named input or output with its unit (CF: ``units`` and ``long_name``)."""

    name: str
    unit: str = "1"
    long_name: str = ""


@dataclass(frozen=True)
class Table:
    """Named arrays on named axes, as they stand in a solution file.

    Args:
        axes: coordinate values by axis, each of shape (n,).
        arrays: ``{name: (axes, values)}``, the shape of values following its axes.
        variables: unit and long name of any axis or array.
    """

    axes: Mapping[str, np.ndarray]
    arrays: Mapping[str, tuple[tuple[str, ...], np.ndarray]]
    variables: Mapping[str, Variable] = field(default_factory=dict)


@dataclass(frozen=True)
class Complaint:
    """What is wrong with the definition of a problem, in one line: expected, got, the mend.

    Args:
        text: the line.
        fatal: whether the problem is refused; otherwise it is a warning.
    """

    text: str
    fatal: bool


class Problem(Configured, ABC):
    """One question. A concrete problem inherits the views it offers, its first view first."""

    name: ClassVar[str] = ""
    primary: ClassVar[str]
    """The name of the score that tables show; smaller is better."""
    thresholds: ClassVar[tuple[float, ...]] = (1e-2, 1e-4, 1e-6)
    """Values of the primary score to which a benchmark counts the seconds."""

    reference_error: float | None = None
    """Relative accuracy of the reference, as its docstring justifies; None where it is no single number."""

    @property
    def trained_on(self) -> tuple[Self, ...]:
        """The problems on whose examples networks train: this one, unless it is to be met unseen."""
        return (self,)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = plugin_name(cls)

    def _repr_html_(self) -> str:
        equations = {name: f"${latex}$" for name, _, latex in self.statement()}
        return table({"problem": self.name, **self.settings, **equations})

    @classmethod
    def views(cls) -> tuple[type["Problem"], ...]:
        """The views that this problem offers, in the order of its class header."""
        return tuple(c for c in cls.__mro__ if Problem in c.__bases__)

    @property
    @abstractmethod
    def inputs(self) -> tuple[Variable, ...]:
        """What a solution is a function of."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[Variable, ...]:
        """What a solution returns."""

    def complaints(self) -> Iterator[Complaint]:
        """Yield what makes the question ill-posed, or may, before anything is solved."""
        yield from ()

    def prepare(self) -> None:
        """Make what scoring needs, the reference above all, so that no solver's clock pays for it."""

    @abstractmethod
    def score(self, solution: "Solution", seed: int = 0) -> dict[str, float]:
        """Return every score of a solution by name; ``primary`` is among them."""

    def monitor(self, solution: "Solution") -> float | None:
        """Return the primary score where it is cheap enough to follow while a network trains, else None."""
        return None

    def statement(self) -> Iterator[tuple[str, str, str]]:
        """Yield the name, the text and the LaTeX of each equation, where the problem is stated by equations."""
        yield from ()

    @abstractmethod
    def trivial(self) -> "Solution":
        """Return the best answer that looks at no physics (the best constant, the prior)."""

    @abstractmethod
    def table(self, solution: "Solution") -> Table:
        """Return the solution and its reference as named arrays for the solution file."""

    @abstractmethod
    def figures(self, solution: "Solution") -> Iterator[tuple[str, "Figure"]]:
        """Yield named figures of the solution, its reference and its error."""


def plugin_name(cls: type) -> str:
    """Return the name by which users call a class: its file's stem, or its own name outside the plug-in folders."""
    package, _, path = cls.__module__.partition(".")
    stem = path.rpartition(".")[2]
    ours = package in ("problems", "solvers") and not stem.startswith("_")
    return stem if ours else cls.__name__.lower()
