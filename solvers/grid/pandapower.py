"""pandapower as a peer."""

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from sciml.errors import missing

from ._on_admittances import Buses, OnAdmittances, Solve

_TABLES = ("bus_dc", "branch_dc", "tcsc", "svc", "ssc", "vsc", "source_dc")
"""What it also takes: direct current and power electronics, of which there are none."""
_COLUMNS = 64
_PLAIN = {
    "numba": True,
    "algorithm": "nr",
    "voltage_depend_loads": False,
    "distributed_slack": False,
    "v_debug": False,
    "use_umfpack": False,
    "permc_spec": None,
}


class PandaPower(OnAdmittances):
    """Solves each scenario by the Newton-Raphson of pandapower, without the set-up of its nets.

    Source: L. Thurner et al., pandapower - an open-source Python tool for convenient modeling, analysis, and
    optimization of electric power systems, 2018, doi:10.1109/TPWRS.2018.2829021.

    Args:
        tolerance: greatest mismatch at which a scenario is solved, in p.u.
        iterations: the most steps.
    """

    def solver(self, buses: Buses) -> Solve:
        try:
            from pandapower.pypower.newtonpf import newtonpf
        except ImportError:
            raise missing("this peer", "pandapower", "peers") from None
        options = {**_PLAIN, "tolerance_mva": self.tolerance, "max_iteration": self.iterations}
        tables = {name: np.zeros((0, _COLUMNS)) for name in (*_TABLES, "gen", "branch")}
        case = {"baseMVA": 1.0, "bus": np.zeros((buses.count, _COLUMNS)), "internal": {}, **tables}

        def solve(y: csc_matrix, power: np.ndarray, start: np.ndarray) -> np.ndarray:
            found = newtonpf(csr_matrix(y), power, start, buses.slack, buses.held, buses.free, case, options)
            return found[0] if found[1] else np.full(buses.count, np.nan, complex)

        return solve
