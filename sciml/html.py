"""What a notebook shows."""

from collections.abc import Mapping
from html import escape
from typing import Any


def table(rows: Mapping[str, Any]) -> str:
    """Return an HTML table of names and values."""
    cells = (f"<tr><th>{escape(name)}</th><td>{escape(_text(value))}</td></tr>" for name, value in rows.items())
    return f"<table>{''.join(cells)}</table>"


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
