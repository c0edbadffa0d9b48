"""Field arithmetic against automatic differentiation of the same formulas on known fields."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sciml.errors import UserError
from sciml.pde.fields import Derivative, Field, Relation, divergence, grad, laplacian, symbol
from sciml.pde.tracing import trace

AXES = ("x", "t")
WAVES = {"u": ((1.3, 0.7), 0.2), "v": ((-0.8, 1.1), 1.0)}
POINTS = torch.tensor([[0.3, -0.4], [1.1, 0.6], [-0.7, 0.2], [0.05, 1.9]], dtype=torch.float64)
CHECKED = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

Formula = Callable[[Mapping[str, Any]], Any]
"""Takes u, v, x, t as fields or as tensors."""


def wave(derivative: Derivative, points: torch.Tensor) -> torch.Tensor:
    """Return a derivative of u or v, each the sine of a linear phase."""
    numbers, phase = WAVES[derivative.field]
    slope = math.prod(w**k for w, k in zip(numbers, derivative.order, strict=True))
    return slope * torch.sin(
        points @ torch.tensor(numbers, dtype=points.dtype) + phase + sum(derivative.order) * math.pi / 2
    )


def relation(formula: Formula, fields: tuple[str, ...] = ("u", "v"), axes: tuple[str, ...] = AXES) -> Relation:
    return trace(
        lambda *u: formula(dict(zip(fields, u, strict=True)) | {a: Field(symbol(a), axes) for a in axes}),
        fields,
        axes,
    )[0]


def evaluate(formula: Formula, points: torch.Tensor = POINTS) -> torch.Tensor:
    """Return a formula traced and evaluated with the known derivatives."""
    traced = relation(formula)
    return traced({d: wave(d, points) for d in traced.needs}, dict(zip(AXES, points.T, strict=True)))


def directly(formula: Formula, points: torch.Tensor) -> torch.Tensor:
    """Return a formula of tensors, without any tracing."""
    at_hand = {name: wave(Derivative(name, (0, 0)), points) for name in WAVES}
    return formula(at_hand | dict(zip(AXES, points.T, strict=True)))


def slope(values: torch.Tensor, points: torch.Tensor, axis: int) -> torch.Tensor:
    return torch.autograd.grad(values.sum(), points, create_graph=True)[0][:, axis]


def _unary(function: Callable[[Any], Any]) -> Callable[[Formula], Formula]:
    return lambda f: lambda at: function(f(at))


def _binary(operation: Callable[[Any, Any], Any]) -> Callable[[tuple[Formula, Formula]], Formula]:
    return lambda pair: lambda at: operation(pair[0](at), pair[1](at))


UNARY = (
    torch.sin, torch.cos, torch.tanh, torch.square, torch.erf, torch.sigmoid, torch.arctan, torch.asinh,
    torch.abs,
    lambda f: f**3, lambda f: -f, lambda f: torch.exp(torch.sin(f)), lambda f: torch.sqrt(1 + f * f),
    lambda f: torch.log(2 + torch.cos(f)), lambda f: 1 / (1.5 + f**2), lambda f: 2.0 ** torch.sin(f),
)  # fmt: skip
BINARY = (
    lambda f, g: f + g, lambda f, g: f - g, lambda f, g: f * g, lambda f, g: f / (2 + g * g),
    lambda f, g: 0.37 - f * g,
)  # fmt: skip
LEAVES = st.one_of(
    st.sampled_from(["u", "v", "x", "t"]).map(lambda name: lambda at: at[name]),
    st.floats(-2, 2, allow_nan=False).map(lambda c: lambda at: c + 0 * at["x"]),
)
FORMULAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(UNARY), inner).map(lambda p: _unary(p[0])(p[1])),
        st.tuples(st.sampled_from(BINARY), inner, inner).map(lambda p: _binary(p[0])((p[1], p[2]))),
    ),
    max_leaves=5,
)


def assert_close(first: torch.Tensor, second: torch.Tensor) -> None:
    scale = 1 + float(torch.max(first.abs().max(), second.abs().max()).detach())
    torch.testing.assert_close(first, second, rtol=0, atol=1e-10 * scale)


@CHECKED
@given(FORMULAS)
def test_values_and_derivatives_are_those_of_autograd(formula: Formula) -> None:
    points = POINTS.clone().requires_grad_()
    values = directly(formula, points) + 0 * points.sum()
    assert_close(evaluate(formula), values.detach())
    by_x = slope(values, points, 0)
    assert_close(evaluate(lambda at: formula(at).x), by_x.detach())
    assert_close(evaluate(lambda at: formula(at).xt), slope(by_x + 0 * points.sum(), points, 1).detach())


@CHECKED
@given(FORMULAS, FORMULAS)
def test_product_rule_and_commuting_derivatives(f: Formula, g: Formula) -> None:
    product = evaluate(lambda at: (f(at) * g(at)).x)
    assert_close(product, evaluate(lambda at: f(at).x * g(at) + f(at) * g(at).x))
    assert_close(evaluate(lambda at: f(at).x.t), evaluate(lambda at: f(at).t.x))


@CHECKED
@given(FORMULAS)
def test_numpy_agrees_with_torch(formula: Formula) -> None:
    traced = relation(formula)
    values = {d: wave(d, POINTS) for d in traced.needs}
    arguments = dict(zip(AXES, POINTS.T, strict=True))
    by_numpy = traced({d: v.numpy() for d, v in values.items()}, {a: v.numpy() for a, v in arguments.items()})
    assert_close(traced(values, arguments), torch.from_numpy(np.array(by_numpy)))


@CHECKED
@given(FORMULAS)
def test_partials_are_the_linearisation(formula: Formula) -> None:
    traced = relation(lambda at: formula(at).x + formula(at))
    arguments = dict(zip(AXES, POINTS.T, strict=True))
    values = {d: wave(d, POINTS).requires_grad_() for d in traced.needs}
    result = traced(values, arguments) + 0 * sum(v.sum() for v in values.values())
    for d in traced.needs:
        exact = torch.autograd.grad(result.sum(), values[d], retain_graph=True)[0]
        assert_close(traced.partial(d)({k: v.detach() for k, v in values.items()}, arguments), exact)


def test_a_relation_is_linear_where_its_partials_are_free_of_the_fields() -> None:
    def linear(formula: Formula) -> bool:
        return relation(formula).is_linear

    assert linear(lambda at: at["u"].t - torch.sin(at["x"]) * at["u"].xx + at["v"] - 1)
    assert not linear(lambda at: at["u"] * at["v"])
    assert not linear(lambda at: abs(at["u"].x))


@pytest.mark.parametrize(
    "constant", [0.1, 1 / 3, math.pi, 1e-300, 1.7976931348623157e308, 2.0**60, 123456789.123456789]
)
def test_constants_survive_in_full(constant: float) -> None:
    assert evaluate(lambda at: constant + 0 * at["u"]).tolist() == [constant] * len(POINTS)
    assert (evaluate(lambda at: np.float64(constant) * at["u"]) == constant * evaluate(lambda at: at["u"])).all()


def test_constants_that_sympy_keeps_exact_are_computed() -> None:
    expected = torch.sqrt(8 * (2 + wave(Derivative("u", (0, 0)), POINTS)))
    assert_close(evaluate(lambda at: torch.sqrt(8 * (2 + at["u"]))), expected)
    assert evaluate(lambda at: torch.exp(1 + 0 * at["x"])).tolist() == [math.e] * len(POINTS)
    assert_close(evaluate(lambda at: 10**12 * at["u"] * 10**12), 1e24 * wave(Derivative("u", (0, 0)), POINTS))


def test_derivatives_hold_almost_everywhere() -> None:
    u, u_x, u_xx = (wave(Derivative("u", (k, 0)), POINTS) for k in range(3))
    assert_close(evaluate(lambda at: abs(at["u"]).x), torch.sign(u) * u_x)
    assert_close(evaluate(lambda at: abs(at["u"]).xx), torch.sign(u) * u_xx)
    assert_close(evaluate(lambda at: torch.sqrt(at["u"] ** 2).xx), torch.sign(u) * u_xx)
    assert evaluate(lambda at: torch.sign(at["u"]).x + 0 * at["u"]).tolist() == [0.0] * len(POINTS)


@pytest.mark.parametrize("name", ["sin", "cos", "tanh", "exp", "sqrt", "abs", "arctan", "square", "sign", "sinh"])
def test_functions_of_numpy_and_torch_mean_the_same(name: str) -> None:
    by_torch = evaluate(lambda at: getattr(torch, name)(at["u"] + 2))
    by_numpy = evaluate(lambda at: getattr(np, name)(at["u"] + 2))
    exact = getattr(torch, name)(wave(Derivative("u", (0, 0)), POINTS) + 2)
    assert_close(by_torch, exact)
    assert_close(by_numpy, exact)


def test_scalars_of_torch_and_numpy_stand_on_either_side() -> None:
    u, two = wave(Derivative("u", (0, 0)), POINTS) + 3, torch.tensor(2.0)
    for formula, exact in (
        (lambda f: two * f, 2 * u), (lambda f: two - f, 2 - u), (lambda f: two / f, 2 / u),
        (lambda f: two**f, 2**u),
        (lambda f: f**two, u**2), (lambda f: np.float64(2) / f, 2 / u), (lambda f: np.array(2.0) - f, 2 - u),
        (lambda f: +f - (-f), 2 * u),
    ):  # fmt: skip
        assert_close(evaluate(lambda at, formula=formula: formula(at["u"] + 3)), exact)


def test_long_axes_have_a_spelled_form() -> None:
    traced = relation(lambda at: (at["radius"] * at["u"].radius).diff("radius") / at["radius"], ("u",), ("radius", "z"))
    assert traced.needs == (Derivative("u", (1, 0)), Derivative("u", (2, 0)))
    assert r"u_{radius radius}" in traced.latex()


@pytest.mark.parametrize("axes", [("x",), ("x", "y"), ("x", "y", "z"), ("a", "b", "c", "d", "t")])
def test_operators_serve_any_dimension(axes: tuple[str, ...]) -> None:
    space = [a for a in axes if a != "t"]
    traced = relation(lambda at: laplacian(at["u"]), ("u",), axes)
    assert [d.along(axes) for d in traced.needs] == [(a, a) for a in reversed(space)]
    assert len(
        relation(lambda at: divergence([at["u"] * g for g in grad(at["u"])]), ("u",), axes).needs
    ) == 1 + 2 * len(space)
    with pytest.raises(UserError, match="one component for each space axis"):
        relation(lambda at: divergence([*grad(at["u"]), at["u"]]), ("u",), axes)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (lambda at: at["u"].y, r"no axis for the derivative \.y \(axes: x, t\)"),
        (lambda at: at["u"].diff("tt"), r"no axis 'tt'.*did you mean 't'\? \(axes: x, t\)"),
        (lambda at: at["u"].normal, "in a boundary condition only"),
        (lambda at: at["u"] if at["u"] > 0 else 1, "no truth value"),
        (lambda at: math.sin(at["u"]), r"use torch\.sin"),
        (lambda at: torch.relu(at["u"]), "no rule for relu"),
        (lambda at: np.add.reduce(at["u"]), r"no rule for add\.reduce"),
        (lambda at: torch.add(at["u"], at["v"], alpha=2), "no keyword, got alpha"),
        (lambda at: np.ones(4) * at["u"], "a field meets ndarray"),
        (lambda at: torch.ones(4) * at["u"], "a field meets Tensor"),
        (lambda at: at["u"] * "2", "a field meets str"),
        (lambda at: at["u"] / 0, "division by zero"),
        (lambda at: 3.0, "returned float; expected fields"),
    ],
)
def test_mistakes_are_told_in_one_line(formula: Formula, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        relation(formula)
    assert "\n" not in str(raised.value)


def test_a_field_can_be_asked_what_it_has() -> None:
    field = Field(symbol("x"), ("x",))
    assert not hasattr(field, "shape")
    assert not hasattr(field, "_repr_html_")
    assert hasattr(field, "xx")


@pytest.mark.parametrize(
    ("equation", "fields", "expected"),
    [
        (lambda v: v, ("u", "v"), "v = 0"),
        (lambda a, b: a - 2 * b, ("u", "v"), "u - 2*v = 0"),
        (lambda v, u, x: x * v - u, ("u", "v"), "-u + v*x = 0"),
        (lambda a, k=3: k * a, ("u", "v"), "3*u = 0"),
        (lambda *a: a[0] - a[1], ("u", "v"), "u - v = 0"),
        (lambda t, u: t * u, ("u",), "t*u = 0"),
    ],
)
def test_arguments_are_found_by_name_or_in_order(
    equation: Callable[..., Any], fields: tuple[str, ...], expected: str
) -> None:
    assert str(trace(equation, fields, AXES)[0]) == expected


@pytest.mark.parametrize(
    ("equation", "fields", "axes"),
    [
        (lambda a, b, c: a, ("u", "v"), AXES),
        (lambda a, u: a - u, ("u", "v"), AXES),
        (lambda x: x, ("x",), AXES),
        (lambda u: u, ("u",), ("x", "x")),
        (lambda u: u, ("u",), ("normal",)),
        (lambda u: u, ("u",), ("x", "xx")),
        (lambda u: u, ("u",), ("diff",)),
        (lambda u, u_x: u.x + u_x, ("u", "u_x"), AXES),
    ],
)
def test_names_that_clash_are_refused(
    equation: Callable[..., Any], fields: tuple[str, ...], axes: tuple[str, ...]
) -> None:
    with pytest.raises(UserError):
        trace(equation, fields, axes)


def test_latex_reads_as_on_paper() -> None:
    assert relation(lambda at: at["u"].t + at["u"] * at["u"].x - at["u"].xx).latex() == "u u_{x} + u_{t} - u_{xx} = 0"
    named = trace(lambda phi, flow_x: phi.xt - flow_x.x, ("phi", "flow_x"), AXES)[0]
    assert named.latex() == r"- {flow_{x}}_{x} + \phi_{xt} = 0"


def test_values_that_would_broadcast_are_refused() -> None:
    traced = relation(lambda at: at["u"] - at["x"])
    column = {Derivative("u", (0, 0)): torch.ones(4, 1)}
    with pytest.raises(UserError, match=r"has shape \(4, 1\), the coordinates \(4,\)"):
        traced(column, {"x": torch.ones(4), "t": torch.ones(4)})


def test_the_order_of_a_sum_does_not_depend_on_what_was_compiled_before(monkeypatch):
    rng = np.random.default_rng(0)
    values = {Derivative("u", (k,)): rng.standard_normal(400) for k in range(4)}

    def evaluate(dummies: int) -> np.ndarray:
        monkeypatch.setattr(sympy.Dummy, "_count", dummies)
        (relation,) = trace(lambda u: u.xxx + u * u.x + u.xx + torch.sin(u), ["u"], ["x"])
        return relation({d: values[d] for d in relation.needs}, {"x": np.zeros(400)})

    first = evaluate(10)
    for dummies in range(90, 101):
        assert (evaluate(dummies) == first).all()
