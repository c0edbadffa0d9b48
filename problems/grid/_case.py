"""Grids in the case format of MATPOWER and PYPOWER."""

import numpy as np

from sciml.grid.powerflow import PowerGrid

_PD, _QD, _GS, _BS = 2, 3, 4, 5
_GENERATOR_BUS, _PG, _VG, _GENERATOR_STATUS, _PMAX = 0, 1, 5, 7, 8
_FROM, _TO, _R, _X, _B, _RATIO, _SHIFT, _BRANCH_STATUS = 0, 1, 2, 3, 4, 8, 9, 10
_BUS_TYPE, _SLACK = 1, 3


def from_case(base: float, bus: np.ndarray, branch: np.ndarray, generator: np.ndarray) -> PowerGrid:
    """Return the grid of a case whose buses are counted from zero; they are called by numbers from one.

    Format: R. D. Zimmerman, C. E. Murillo-Sánchez and R. J. Thomas, MATPOWER, 2011,
    doi:10.1109/TPWRS.2010.2051168.

    Args:
        base: baseMVA.
        bus: the bus table, shape (buses, columns), powers in MW and Mvar.
        branch: the branch table, shape (branches, columns), impedances in p.u.
        generator: the generator table, shape (generators, columns), powers in MW.
    """
    branch = branch[branch[:, _BRANCH_STATUS] > 0]
    generator = generator[generator[:, _GENERATOR_STATUS] > 0]
    slack = int(np.flatnonzero(bus[:, _BUS_TYPE] == _SLACK)[0])
    at = generator[:, _GENERATOR_BUS].astype(int)
    regulated = np.array([slack, *(i for i in np.unique(at) if i != slack)])
    loads = np.flatnonzero((bus[:, _PD] != 0) | (bus[:, _QD] != 0))
    ratio = np.where(branch[:, _RATIO] == 0, 1.0, branch[:, _RATIO])

    def total(column: int) -> np.ndarray:
        return np.bincount(at, weights=generator[:, column], minlength=len(bus))[regulated[1:]]

    return PowerGrid(
        base=float(base),
        numbers=np.arange(1, len(bus) + 1),
        source=branch[:, _FROM].astype(int),
        target=branch[:, _TO].astype(int),
        impedance=branch[:, _R] + 1j * branch[:, _X],
        charging=branch[:, _B],
        tap=ratio * np.exp(1j * np.deg2rad(branch[:, _SHIFT])),
        shunt=(bus[:, _GS] + 1j * bus[:, _BS]) / base,
        loads=loads,
        load=bus[loads, _PD] + 1j * bus[loads, _QD],
        regulated=regulated,
        setpoint=np.array([generator[at == i, _VG][0] for i in regulated]),
        generation=total(_PG),
        capacity=total(_PMAX),
    )
