"""Small reference data that travel with the package."""

import hashlib
from pathlib import Path

from sciml.errors import UserError


def reference_file(name: str, sha256: str) -> Path:
    """Return the path of a checked file of ``data/``, in the repository or in the installed package.

    Raises:
        UserError: no such file, or contents other than those of that checksum.
    """
    package = Path(__file__).resolve().parent
    path = next((p for p in (package / "data" / name, package.parent / "data" / name) if p.is_file()), None)
    if path is None:
        raise UserError(f"expected {name} in {package / 'data'}, found none; install the package again")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise UserError(f"{path}: expected sha256 {sha256}, got {found}; restore the file")
    return path
