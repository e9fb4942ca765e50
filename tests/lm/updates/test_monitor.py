"""`Replay.monitor`: the updates along a response, measured by probes."""

from typing import Any

import attrs
import pytest
import torch
from ctxblocks_transformers import Course, replay
from lm.tiny import prompt
from lm.updates.test_replay import lively

from ctxblocks import ArgumentError, PluginError, Probe, hookimpl, registry
from ctxblocks.registration.registry import Registry


@pytest.mark.parametrize(
    ("model_type", "site"), [("llama", "network"), ("llama", "out-proj"), ("mixtral", "network"), ("mamba2", "network")]
)
def test_the_monitor_measures_what_dense_matrices_say(model_type: str, site: Any) -> None:
    """Every probe of the plugin, at every block and step."""
    found = replay(lively(model_type), prompt(), 5, site=site)
    measured = found.monitor()
    assert {"alignment", "determinant", "marginal-change", "norm", "shift-norm"} <= set(measured)
    assert set(measured) == {name for name, probe in registry().probes.items() if probe.needs == "updates"}
    for number, (place, update) in enumerate(zip(found.sites, found.updates, strict=True)):
        assert update is not None
        weight = torch.cat(Course(update, place).weights()).double()
        deltas = weight @ update.operator.direction.double().unsqueeze(-1) * update.operator.key.double().unsqueeze(-2)
        sizes = torch.linalg.matrix_norm(deltas)
        cosines = (deltas[1:] * deltas[:-1]).sum((-2, -1)) / (sizes[1:] * sizes[:-1]).clamp_min(1e-300)
        eye = torch.eye(weight.shape[1], dtype=torch.float64)
        squares = update.operator.direction.double().unsqueeze(-1) * update.operator.key.double().unsqueeze(-2)
        shift = torch.zeros(5) if update.shift is None else update.shift.norm(dim=-1)
        for name, values in {
            "alignment": cosines,
            "determinant": torch.linalg.det(eye + squares),
            "marginal-change": torch.linalg.matrix_norm(deltas.diff(dim=0)),
            "norm": sizes,
            "shift-norm": shift.double(),
        }.items():
            torch.testing.assert_close(measured[name][number], values, rtol=1e-5, atol=1e-6, msg=name)


def test_the_weights_of_a_course() -> None:
    """Experts are stacked; one reader by its path."""
    found = replay(lively("mixtral"), prompt(), 2)
    update = found.updates[0]
    assert update is not None
    course = Course(update, found.sites[0])
    assert [tuple(each.shape) for each in course.weights()] == [(4, 32), (4 * 96, 32)]
    assert [tuple(each.shape) for each in course.weights("mlp.gate")] == [(4, 32)]
    with pytest.raises(ArgumentError, match=r"reader: got 'x', needs one of 'mlp\.gate', 'mlp\.experts"):
        course.weights("x")


def test_blocks_whose_weights_do_not_change() -> None:
    """A parallel block has only a shift; a block without a mixer has no update."""
    parallel = replay(lively("phi"), prompt(), 3).monitor(["norm", "determinant", "shift-norm"])
    assert list(parallel) == ["norm", "determinant", "shift-norm"]
    assert bool((parallel["norm"] == 0).all())
    assert bool((parallel["determinant"] == 1).all())
    assert bool((parallel["shift-norm"] > 0).all())
    known = registry().family("lfm2")
    assert known is not None
    dense = [spec for spec in known.blocks if "feed_forward.w1" in spec.readers]
    conv, attention = sorted(dense, key=lambda spec: spec.mixer)
    still = attrs.evolve(conv, wiring="network-only", mixer="", projection="", bypass="conv.in_proj")
    model = lively("lfm2", layer_types=["conv", "full_attention"])
    family = attrs.evolve(known, blocks=(still, attention))
    silent = replay(model, prompt(), 3, family=family)
    assert silent.updates[0] is None
    values = silent.monitor()
    assert [float(values[name][0].abs().max()) for name in ("norm", "marginal-change", "shift-norm")] == [0, 0, 0]
    assert float(values["norm"][1].min()) > 0


def test_probes_of_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """One number counts for all steps; shapes other than one number for each step or pair of steps are refused."""
    shared = Registry()
    plugin = type("Mine", (), {})()
    probes = [
        Probe(name="seven", summary="7", measure=lambda course: 7.0),
        Probe(name="wrong", summary="all of it", measure=lambda course: course.updates.operator.key),
    ]
    plugin.ctxblocks_probes = hookimpl(lambda: probes)
    shared.register(plugin, "mine")
    found = replay(lively("llama"), prompt(), 3)
    monkeypatch.setattr("ctxblocks.registration.registry._shared", shared)
    assert found.monitor(["seven"])["seven"].tolist() == [[7.0] * 3] * 2
    with pytest.raises(ArgumentError, match=r"probe 'wrong': measured shape \(3, 32\), needs \(3,\)"):
        found.monitor()
    with pytest.raises(ArgumentError, match=r"probe: got 'sevem', needs one of seven, wrong; did you mean 'seven'\?"):
        found.monitor(["sevem"])
    probes.append(Probe(name="asks", summary="more", measure=lambda course: 1.0, needs="trial"))
    asking = Registry()
    asking.register(plugin, "mine")
    monkeypatch.setattr("ctxblocks.registration.registry._shared", asking)
    with pytest.raises(ArgumentError, match="probe 'asks': measures a trial of prompts with targets"):
        found.monitor(["asks"])
    monkeypatch.setattr("ctxblocks.registration.registry._shared", shared)
    probes.pop()
    shared.register(plugin, "again")
    with pytest.raises(PluginError, match="probe 'seven': the plugins 'again' and 'mine' both provide it"):
        found.monitor(["seven"])
