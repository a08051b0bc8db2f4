"""A user's own rules, read by a type checker under its strictest settings; nothing here is ever run."""

from typing import Any

import equinox as eqx
import numpy as np
from jax import Array

import curlflow as cf


def pendulum(t: Array, y: Array, args: float) -> Array:
    return y * args


def own_loss(y: Array) -> Array:
    return (y**2).sum()


class Oja(eqx.Module):
    rate: Array

    def __call__(self, t: Any, y: dict[str, Array], args: None) -> dict[str, Array]:
        return {"w": self.rate * y["w"]}


class Doubling:
    def step(self, n: Array, y: Array, args: None) -> Array:
        return 2 * y


start = np.array([1.0, 0.0])
orbit: cf.Trajectory = cf.integrate(pendulum, start, 10.0, args=1.0, solver="dopri8")
print(orbit.outcome, orbit.ts, orbit.ys, orbit.final_state, orbit.to_xarray(), str(orbit))
oja = Oja(np.ones(()))  # pyright: ignore[reportArgumentType]
print(cf.integrate(oja, {"w": np.ones(3)}, 1.0).stats["steps"])
run = cf.iterate(Doubling(), start, 10, fold={"q": cf.orbits.OrderParameter()})
print(run.folded["q"])
print(
    cf.jacobian(pendulum, start), cf.spectrum(pendulum, start).eigenvalues, cf.curl_fraction(pendulum, start)
)
point = cf.classify(pendulum, start)
print(
    point.kind,
    point.eigenvalues,
    [each.kind.value for each in cf.find_fixed_points(pendulum, bounds=(start, start + 1))],
)
ls = cf.lyapunov_spectrum(pendulum, start, 2, T=10.0)
print(ls.exponents + ls.stderr, ls.final_state, ls.outcome.ok, ls.extend(20.0).kaplan_yorke)
many = cf.lyapunov_spectrum(pendulum, start[None], 2, T=10.0, batch="states")
print(many[0].exponents, len(many))
found = cf.verdict(Doubling(), start, T=100)
print(
    found.motion.value,
    [(each.indicator, each.value, each.threshold, each.sentence) for each in found.evidence],
)
tangent = cf.chaos.TangentSystem(pendulum, rtol=1e-10)
print(cf.chaos.gali(tangent, start, T=10.0))
flow = cf.CurlFlow(S=[1.0, 2.0], d1=[1, -1], d2=[1, 1])
W = cf.Weights(W1=[[1.0, 0.0], [0.0, 1.0]], W2=[[1.0, 0.5]])
print(cf.integrate(cf.NormConstrained(flow), W, 1.0).loss())
descent = cf.DescentMap(flow, 0.1, renormalise=True)
print(cf.iterate(descent, W, 5).final_state)
signed = cf.SignedGradientFlow(own_loss, signs=np.array([1.0, -1.0]))
print(cf.is_gradient(signed, start[None]).is_gradient)
print(cf.stability_boundary(alpha_h=0.5), cf.spectral_edges(0.5, 0.1, 0.0), cf.is_stable(0.5, 0.1, 0.0))
portrait = cf.phase_portrait(cf.toy_flow(), (-2.0, 2.0), (-2.0, 2.0), trajectories={"orbit": orbit})
cf.plot.save_figure(portrait, "portrait.pdf")
print(cf.plot.loss({"orbit": orbit}), cf.plot.exponents(ls), cf.plot.convergence(ls))
print(
    cf.ensembles.gaussian_weights,
    cf.manifold.transverse_spectrum(flow, W).stable,
    cf.races.compare_times([1.0], [2.0], horizon=3.0),
)
gram = cf.GramFlow.from_flow(flow)
print(gram.reduce(W), cf.manifold.network_spectrum(ls).exponents)
print(
    cf.plane.survey(cf.toy_flow(), (-1, 1), (-1, 1)).loss,
    cf.gradient.helmholtz_split(cf.toy_flow(), (-1, 1), (-1, 1)).potential,
)
print(cf.sweep, cf.sweeps.open_sweep)
