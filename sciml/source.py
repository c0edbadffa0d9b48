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
        for parent in self.parents():
            yield from parent.ancestors()

    def parents(self) -> Iterator["Source"]:
        """Yield those of the classes it inherits directly whose files are found."""
        for base in self.node.bases:
            parent = _lookup(self.path, _dotted(base))
            if parent and parent.node is not self.node:
                yield parent

    def attribute(self, name: str) -> str:
        """Return the text, or the name of the class, that the class or its nearest parent sets an attribute to."""
        for source in self.ancestors():
            for statement in source.node.body:
                match statement:
                    case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                        return source._said(value)
                    case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
                        return source._said(value)
        return ""

    def _said(self, value: ast.expr) -> str:
        if isinstance(value, ast.Constant):
            return str(value.value)
        dotted = _dotted(value)
        found = _lookup(self.path, dotted)
        return found.node.name if found else dotted.rpartition(".")[2]

    def children_of(self, name: str) -> tuple[str, ...]:
        """Return which of the class and its parents inherit directly from the class called ``name``."""
        found = [s.node.name for s in self.ancestors() if name in (p.node.name for p in s.parents())]
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


def _dotted(node: ast.expr) -> str:
    """Return ``a.b.C`` of ``a.b.C`` or ``a.b.C[...]``, and nothing of any other expression."""
    match node:
        case ast.Subscript(value=value):
            return _dotted(value)
        case ast.Attribute(value=value, attr=name):
            owner = _dotted(value)
            return f"{owner}.{name}" if owner else ""
        case ast.Name(id=name):
            return name
    return ""


def _lookup(path: Path, dotted: str) -> Source | None:
    """Return the class that a name means in a file: one of the file, or one that it imports."""
    here = classes(path)
    if dotted in here:
        return here[dotted]
    head, _, rest = dotted.partition(".")
    for statement in _parse(path).body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                bound = alias.asname or alias.name
                if dotted.startswith(f"{bound}."):
                    return _lookup_in(locate(alias.name), dotted.removeprefix(f"{bound}."))
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == head:
                    within = [statement.module] if statement.module else []
                    if rest:
                        return _lookup_in(_imported(path, statement.level, [*within, alias.name]), rest)
                    return _lookup_in(_imported(path, statement.level, within), alias.name)
    return None


def _lookup_in(path: Path | None, dotted: str) -> Source | None:
    return _lookup(path, dotted) if path else None


def _imported(path: Path, level: int, parts: list[str]) -> Path | None:
    """Return the file of a module imported from ``path``, ``level`` folders up, or by its full name at level 0."""
    module = ".".join(parts)
    if not level:
        return locate(module)
    folder = path.parents[level - 1]
    target = folder.joinpath(*module.split(".")).with_suffix(".py") if parts else folder / "__init__.py"
    package = target.with_suffix("") / "__init__.py"
    return next((p for p in (target, package) if p.is_file()), None)


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
