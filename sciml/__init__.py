"""State a scientific problem once, solve it with neural and classical solvers, and trust the comparison."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sciml.api import load, solve

__all__ = ["load", "solve"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in __all__:
        import sciml.api

        return getattr(sciml.api, name)
    raise AttributeError(f"module 'sciml' has no attribute {name!r}")
