"""The IEEE 14-bus test grid."""

from sciml.grid.cases import published
from sciml.grid.powergrid import PowerGrid

from ._grid import LoadFlow


class IEEE14(LoadFlow):
    """AC load flow on the IEEE 14-bus grid while loads and generation vary and branches are out.

    P_i + jQ_i = V_i Σ_j conj(Y_ij V_j) at every bus i

    The grid is pandapower's ``case14``: 14 buses, 20 branches, a part of the American Electric Power system
    of 1962. The outage of branch 7-8 alone cuts a bus off.
    """

    def grid(self) -> PowerGrid:
        """Return the grid in its nominal state.

        Raises:
            UserError: pandapower is not installed.
        """
        return published("ieee14")
