"""A solution as one HDF5 file: named arrays on dimension scales with units (CF), and its solver's state.

The root group holds the problem's table, so that ``xarray.open_dataset(path, engine="h5netcdf")`` opens it
with names; the group ``state`` holds the arrays from which the solver restores the solution. A file that is
read is not trusted: only plain numeric datasets in the file itself are accepted, through common filters, and
no more bytes than ``LARGEST``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sciml.errors import UserError
from sciml.files import replacing
from sciml.problem import Table, Variable

LARGEST = 2**34
"""Bytes that the arrays of one file may claim together."""

_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}


def write_solution(path: Path, table: Table, state: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
    """Write a solution file whole.

    Args:
        path: where.
        table: the arrays that people and tools read.
        state: the arrays from which the solver restores the solution.
        attributes: what the file says of its origin; mappings are written as JSON.
    """
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["Conventions"] = "CF-1.11"
        for name, value in attributes.items():
            file.attrs[name] = value if isinstance(value, str) else json.dumps(value)
        for axis, values in table.axes.items():
            dataset = _write(file, axis, np.asarray(values), table.variables.get(axis))
            dataset.make_scale(axis)
        for name, (axes, values) in table.arrays.items():
            dataset = _write(file, name, np.asarray(values), table.variables.get(name))
            for k, axis in enumerate(axes):
                dataset.dims[k].attach_scale(file[axis])
        group = file.create_group("state")
        for name, values in state.items():
            if "/" in name or values.dtype.kind not in "fiub":
                raise TypeError(
                    f"state {name!r} of dtype {values.dtype}; expected a numeric array and a name without '/'"
                )
            group.create_dataset(name, data=values)


def read_state(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays from which a solution is restored.

    Raises:
        UserError: a file that is not HDF5, or holds anything but plain numeric arrays of its own.
    """
    try:
        with h5py.File(path, "r") as file:
            group = _member(file, "state", path)
            if not isinstance(group, h5py.Group):
                raise UserError(f"{path} is not a solution file; expected a group 'state'")
            datasets = {str(name): _member(group, str(name), path) for name in group}
            _require_harmless(datasets, path)
            return {name: np.asarray(dataset[()]) for name, dataset in datasets.items()}
    except FileNotFoundError:
        raise UserError(f"no file {path}; the run is unfinished or failed") from None
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"{path} is not a readable solution file: {' '.join(str(error).split())}") from None


def _write(file: h5py.File, name: str, values: np.ndarray, variable: Variable | None) -> h5py.Dataset:
    dataset = file.create_dataset(name, data=values)
    if variable:
        dataset.attrs["units"] = variable.unit
        dataset.attrs["long_name"] = variable.long_name or variable.name
    return dataset


def _member(group: h5py.Group, name: str, path: Path) -> Any:
    """Return a member that is stored in the group itself, not linked to."""
    link = group.get(name, getlink=True)
    if link is None:
        raise UserError(f"{path} is not a solution file; expected a group {name!r}")
    if not isinstance(link, h5py.HardLink):
        raise UserError(f"{path}: {name} is a link to elsewhere; expected data in the file itself")
    return group[name]


def _require_harmless(datasets: Mapping[str, Any], path: Path) -> None:
    claimed = 0
    for name, dataset in datasets.items():
        if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiub" or dataset.shape is None:
            raise UserError(f"{path}: state/{name} is not a numeric array")
        if dataset.external or dataset.is_virtual:
            raise UserError(f"{path}: state/{name} takes its data from another file; expected data in the file itself")
        properties = dataset.id.get_create_plist()
        filters = [properties.get_filter(k)[0] for k in range(properties.get_nfilters())]
        unknown = [f for f in filters if f not in _FILTERS]
        if unknown:
            known = ", ".join(_FILTERS.values())
            raise UserError(f"{path}: state/{name} is packed with filter {unknown[0]}; expected {known}")
        claimed += int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize
    if claimed > LARGEST:
        raise UserError(f"{path} claims {claimed / 2**30:.3g} GiB; expected at most {LARGEST / 2**30:.3g}")
