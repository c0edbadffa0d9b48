"""What a class says of itself, read from its file without importing it."""

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sciml.errors import UserError


@dataclass(frozen=True)
class Parameter:
    """One constructor argument as its file writes it.

    Args:
        annotation: the type.
        default: the default value; None where there is none.
        doc: its entry under ``Args:``.
    """

    annotation: str
    default: str | None
    doc: str


@dataclass(frozen=True)
class Source:
    """A class in a file."""

    path: Path
    node: ast.ClassDef

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.node) or ""

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return self.doc.partition("\n")[0]

    def ancestors(self) -> Iterator["Source"]:
        """Yield the class and those of its parents whose files are found, depth first."""
        yield self
        for base in self.node.bases:
            parent = _resolve(self.path, base)
            if parent:
                yield from parent.ancestors()

    def attribute(self, name: str) -> ast.expr | None:
        """Return what the class or its nearest parent assigns to an attribute in its body."""
        for source in self.ancestors():
            for statement in source.node.body:
                if isinstance(statement, ast.Assign) and name in map(_name, statement.targets):
                    return statement.value
                if isinstance(statement, ast.AnnAssign) and statement.value and _name(statement.target) == name:
                    return statement.value
        return None

    def children_of(self, name: str) -> tuple[str, ...]:
        """Return which of the class and its parents inherit directly from the class called ``name``."""
        found = [s.node.name for s in self.ancestors() if name in map(_name, s.node.bases)]
        return tuple(dict.fromkeys(found))

    def parameters(self) -> Mapping[str, Parameter]:
        """Return the constructor's arguments by name."""
        for source in self.ancestors():
            for statement in source.node.body:
                if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                    docs = _argument_docs(source.doc)
                    return {a.arg: Parameter(t, d, docs.get(a.arg, "")) for a, t, d in _arguments(statement)}
        return {}


def classes(path: Path) -> dict[str, Source]:
    """Return the classes of a file by name.

    Raises:
        UserError: the file cannot be read or is not Python.
    """
    return {n.name: Source(path, n) for n in _parse(path).body if isinstance(n, ast.ClassDef)}


def locate(module: str) -> Path | None:
    """Return the file of a module without importing it or its package."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    if not rest:
        return Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        base = Path(folder).joinpath(*rest)
        for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


def _parse(path: Path) -> ast.Module:
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except SyntaxError as error:
        raise UserError(f"{path} is not Python: {error.msg} in line {error.lineno}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not Python; expected a text file with a class") from None


@lru_cache(maxsize=256)
def _parsed(path: Path, _modified: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _name(node: ast.expr) -> str:
    """Return the last name of ``a.b.C`` or ``C[...]``."""
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _resolve(path: Path, base: ast.expr) -> Source | None:
    """Return the class that a base names in its file: one of the same file, or one imported by name."""
    name = _name(base)
    here = classes(path)
    if name in here:
        return here[name]
    for statement in _parse(path).body:
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    target = _imported(path, statement)
                    return classes(target).get(alias.name) if target else None
    return None


def _imported(path: Path, statement: ast.ImportFrom) -> Path | None:
    if not statement.level:
        return locate(statement.module or "")
    folder = path.parents[statement.level - 1]
    target = folder.joinpath(*(statement.module or "").split(".")).with_suffix(".py")
    return target if target.is_file() else None


def _arguments(init: ast.FunctionDef) -> Iterator[tuple[ast.arg, str, str | None]]:
    positional = [*init.args.posonlyargs, *init.args.args]
    padding: list[ast.expr | None] = [None] * (len(positional) - len(init.args.defaults))
    pairs = [*zip(positional, [*padding, *init.args.defaults], strict=True)][1:]
    for argument, default in [*pairs, *zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)]:
        annotation = ast.unparse(argument.annotation) if argument.annotation else "Any"
        yield argument, annotation, ast.unparse(default) if default else None


def _argument_docs(doc: str) -> dict[str, str]:
    """Return the entries of a docstring's ``Args:`` section by name, each on one line."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    entries = re.split(r"^ {4}(?=\S)", section[1], flags=re.MULTILINE) if section else []
    pairs = (entry.partition(":") for entry in entries)
    return {name.strip(): " ".join(text.split()) for name, colon, text in pairs if colon}
