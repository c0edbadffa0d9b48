"""Units and long names of what a load flow's table holds."""

from sciml.problem import Variable

VARIABLES = {
    v.name: v
    for v in (
        Variable("lines_out", long_name="branches out"),
        Variable("vm", long_name="voltage magnitude in p.u."),
        Variable("vm_reference", long_name="voltage magnitude in p.u. by Newton-Raphson"),
        Variable("va", "degree", "voltage angle"),
        Variable("va_reference", "degree", "voltage angle by Newton-Raphson"),
        Variable("flow", "MW", "active power into the branch at from_bus"),
        Variable("flow_reference", "MW", "active power into the branch at from_bus by Newton-Raphson"),
        Variable("status", long_name="1 while the branch is in service"),
        Variable("from_bus", long_name="bus at the branch's first end"),
        Variable("to_bus", long_name="bus at the branch's other end"),
        Variable("islanded", long_name="scenarios drawn and set aside because a bus was cut off"),
        Variable("unsolved", long_name="scenarios set aside because Newton-Raphson did not converge"),
        Variable("branch", long_name="branch"),
        Variable("bus", long_name="bus"),
        Variable("scenario", long_name="scenario"),
        Variable("outages", long_name="branches out"),
    )
}
