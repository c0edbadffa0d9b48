"""Names become classes here: a file's stem, an entry point of an installed package, or a user's file."""

import functools
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sciml.errors import UserError, did_you_mean, short
from sciml.source import Source, classes, locate

if TYPE_CHECKING:
    from sciml.problem import Problem

Group = Literal["problem", "solver"]
NAME = re.compile(r"[a-z0-9_]+")
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Entry:
    """A problem or solver that can be called by name.

    What is registered is read from its file, nothing of it imported. The class of a user's file, which may be
    written in any way that Python allows, is imported when asked what it offers, needs or takes.

    Args:
        group: problem or solver.
        name: what the user calls it; of a user's file its absolute path and class, ``/path/file.py:Fisher``.
        source: its class as the file states it.
        module: where to import it from; None for a user's file.
    """

    group: Group
    name: str
    source: Source
    module: str | None

    @property
    def views(self) -> tuple[str, ...]:
        """Of a problem: the names of the views it offers."""
        return self.source.children_of("Problem") if self.module else tuple(v.__name__ for v in self.load().views())

    @property
    def needs(self) -> str:
        """Of a solver: the name of the view it needs."""
        return self.source.attribute("needs") if self.module else self.load().needs.__name__

    @property
    def kind(self) -> str:
        """Of a solver: classical, neural, peer or trivial."""
        return self.source.attribute("kind") if self.module else self.load().kind

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its constructor's arguments."""
        if self.module:
            return tuple(self.source.parameters())
        from sciml.parameters import schema

        return tuple(schema(self.load().__init__))

    def load(self) -> type[Any]:
        """Import the class.

        Raises:
            UserError: the file fails, lacks a package, or the class is not of its group.
        """
        try:
            module = importlib.import_module(self.module) if self.module else _import_file(self.source.path)
        except ModuleNotFoundError as error:
            raise UserError(
                f"{self.group} {self.name} needs the package {error.name!r}, which is not installed"
            ) from error
        except Exception as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{self.source.path} fails when imported: {type(error).__name__}: {error}") from error
        found = getattr(module, self.source.node.name)
        _require_kind(self, found)
        return found


def entries(group: Group) -> dict[str, Entry]:
    """Return everything registered in a group by name, sorted.

    Raises:
        UserError: a user's own module shadows ours, a file lacks its class, or a name is taken twice.
    """
    folder = _plugin_folder(group)
    found: dict[str, Entry] = {}
    for path in sorted(folder.rglob("*.py")):
        if path.stem.startswith("_"):
            continue
        if path.stem in found:
            raise UserError(f"two files hold the {group} {path.stem!r}, one is {path}; rename it")
        module = ".".join((folder.name, *path.relative_to(folder).with_suffix("").parts))
        found[path.stem] = Entry(group, path.stem, _named_class(path), module)
    for point in entry_points(group=f"sciml.{group}s"):
        if point.name in found:
            raise UserError(
                f"the {group} {point.name!r} of {point.value} is registered already; rename its entry point"
            )
        path = locate(point.module)
        if path is None or point.attr not in classes(path):
            raise UserError(f"the entry point {point.name!r} names {point.value}, where there is no such class")
        found[point.name] = Entry(group, point.name, classes(path)[point.attr], point.module)
    return dict(sorted(found.items()))


def find(group: Group, name: str, variants: Sequence[str] = ()) -> Entry:
    """Return the problem or solver of a name, or of ``path/to/file.py:Class``.

    Args:
        group: problem or solver.
        name: what the user calls it.
        variants: other names that might have been meant.

    Raises:
        UserError: there is none.
    """
    if ".py:" in name:
        return _find_in_file(group, name)
    known = entries(group)
    if name not in known:
        form = "" if NAME.fullmatch(name) else " (expected letters a-z, digits and _, or path/to/file.py:Class)"
        listed = sorted({*known, *variants})
        raise UserError(f"no {group} {short(name)}{did_you_mean(name, listed)}{form} (known: {', '.join(listed)})")
    return known[name]


def offers(problem: Entry, solver: Entry) -> bool:
    """Return whether a problem offers the view that a solver needs."""
    if problem.module and solver.module:
        return solver.needs in ("Problem", *problem.views)
    return issubclass(problem.load(), solver.load().needs)


def misfits(problem: "Problem") -> Mapping[str, str | None]:
    """Return why each solver, with its default parameters, does not fit a problem; None where it does."""
    return {name: _misfit(problem, entry) for name, entry in entries("solver").items()}


def fitting(problem: "Problem") -> tuple[str, ...]:
    """Return the names of the registered solvers that fit a problem, the trivial answer aside."""
    kinds = entries("solver")
    return tuple(name for name, reason in misfits(problem).items() if reason is None and kinds[name].kind != "trivial")


def _misfit(problem: "Problem", entry: Entry) -> str | None:
    from sciml.solver import misfit

    try:
        return misfit(problem, entry.load()())
    except UserError as error:
        return str(error)


def _plugin_folder(group: Group) -> Path:
    """Return the folder of our own plug-ins, after making sure that Python finds it there."""
    folder = _ROOT / f"{group}s"
    spec = importlib.util.find_spec(folder.name)
    origin = Path(spec.origin).resolve() if spec and spec.origin else None
    if origin != folder / "__init__.py":
        other = origin or "another module"
        raise UserError(f"{other} hides the package {folder.name!r} of sciml; rename it or run elsewhere")
    return folder


def _named_class(path: Path) -> Source:
    """Return the class that bears its file's name: two_moons.py holds TwoMoons."""
    wanted = path.stem.replace("_", "")
    for name, source in classes(path).items():
        if name.lower() == wanted:
            return source
    raise UserError(f"{path} holds no class with the file's name; expected class {path.stem.title().replace('_', '')}")


def _find_in_file(group: Group, name: str) -> Entry:
    file, _, wanted = name.rpartition(":")
    try:
        path = Path(file).resolve(strict=True)
    except (OSError, RuntimeError):
        raise UserError(f"no file {short(file)} for the {group}") from None
    known = classes(path)
    if wanted not in known:
        near, listed = did_you_mean(wanted, known), ", ".join(known) or "none"
        raise UserError(f"{path} holds no class {short(wanted)}{near} (known: {listed})")
    return Entry(group, f"{path}:{wanted}", known[wanted], None)


@functools.cache
def _import_file(path: Path) -> Any:
    """Import a user's file once, so that its classes are the same for whoever asks."""
    name = f"sciml_user_{path.stem}_{hashlib.sha256(bytes(path)).hexdigest()[:10]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"cannot import {path}; expected a file path/to/file.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # typing and dataclasses look a class's module up by its name
    spec.loader.exec_module(module)
    return module


def _require_kind(entry: Entry, found: object) -> None:
    from sciml.problem import Problem
    from sciml.solver import Solver

    parent = Problem if entry.group == "problem" else Solver
    if not (isinstance(found, type) and issubclass(found, parent)):
        raise UserError(f"{entry.name} is not a {entry.group}; expected a class that inherits {parent.__name__}")
    missing = ", ".join(sorted(found.__abstractmethods__))
    if missing:
        raise UserError(f"{entry.name} cannot be made yet; it lacks {missing}")
