"""The options of the conformance suite on the command line."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ctxblocks import registry, testing
from ctxblocks.testing import suite
from ctxblocks.testing.cases import Conformance

STAR = "from ctxblocks.testing.suite import *\n"
CONFTEST = """
import sys
sys.path.insert(0, {tests!r})
from testing import faulty_layers as layers
from ctxblocks import registry

spec = layers.spec(layers.{layer})
registry().register(layers.Plugin(spec), name="from-conftest")
"""


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    """Remove the layers that a conftest registered in this process."""
    before = set(registry().plugins)
    yield
    for name in set(registry().plugins) - before:
        registry().unregister(name)


def conftest(pytester: pytest.Pytester, layer: str) -> None:
    """A directory with the suite, and a conftest that registers this layer under the name `fault`."""
    pytester.makeconftest(CONFTEST.format(tests=str(Path(__file__).parents[1]), layer=layer))
    pytester.makepyfile(test_star=STAR)


def test_layer_from_conftest(pytester: pytest.Pytester) -> None:
    """A layer that a conftest registers is tested in all groups, and a correct layer passes."""
    conftest(pytester, "Honest")
    result = pytester.runpytest_inprocess("--ctx-layer", "fault", "--ctx-max-examples", "2", "-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] >= 20
    assert "failed" not in outcomes
    assert outcomes["passed"] + outcomes["skipped"] == len(suite.__all__)


def test_fault_end_to_end(pytester: pytest.Pytester) -> None:
    """A fault fails the property meant for it, and the report names layer, configuration, dtype and seed."""
    conftest(pytester, "DropsOut")
    result = pytester.runpytest_inprocess("--ctx-layer", "fault", "--ctx-max-examples", "5", "-k", "modes or widths")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["FAILED *test_modes[[]fault]*"])
    result.stdout.fnmatch_lines(["*case=Case(layer='fault', config=Config(width=4), dtype=torch.float*, seed=*"])


def test_claims_not_made_are_reported(pytester: pytest.Pytester) -> None:
    """A claim that no requested layer makes is skipped with a reason."""
    conftest(pytester, "Honest")
    result = pytester.runpytest_inprocess("--ctx-layer", "fault", "-k", "test_additive", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*not applicable: no requested layer claims additive (fault)*"])


def test_half_precision_only_is_reported(pytester: pytest.Pytester) -> None:
    """A negative control is skipped with a reason if only half precision is requested."""
    pytester.makepyfile(test_star=STAR)
    result = pytester.runpytest_inprocess("--ctx-layer=rnn", "--ctx-dtype=bfloat16", "-k", "test_sees_context", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*not applicable to torch.bfloat16*"])


def test_unknown_layer(pytester: pytest.Pytester) -> None:
    """An unknown layer is a usage error that lists the known layers."""
    pytester.makepyfile(test_star=STAR)
    result = pytester.runpytest_inprocess("--ctx-layer", "self-atention")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*got 'self-atention', needs one of *self-attention*did you mean 'self-attention'*"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="not applicable: this machine has a GPU")
def test_cuda_without_gpu(pytester: pytest.Pytester) -> None:
    """Requesting CUDA without a GPU is a usage error."""
    pytester.makepyfile(test_star=STAR)
    result = pytester.runpytest_inprocess("--ctx-device", "cuda")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--ctx-device: got 'cuda', needs a GPU*"])


@pytest.mark.parametrize("option", ["--ctx-dtype=float8", "--ctx-device=tpu", "--ctx-max-examples=0"])
def test_wrong_values(pytester: pytest.Pytester, option: str) -> None:
    """Unknown dtypes and devices, and numbers of examples below 1, are usage errors."""
    pytester.makepyfile(test_star=STAR)
    assert pytester.runpytest_inprocess(option).ret == pytest.ExitCode.USAGE_ERROR


def test_layers_are_repeatable(pytester: pytest.Pytester) -> None:
    """The named layers are tested and no others; without names all registered layers are."""
    pytester.makepyfile(test_star=STAR)
    result = pytester.runpytest_inprocess(
        "--ctx-layer=rnn", "--ctx-layer=gru", "-k", "test_widths", "--collect-only", "-q"
    )
    result.stdout.fnmatch_lines(["*test_widths[[]rnn]", "*test_widths[[]gru]", "2/*"])
    result = pytester.runpytest_inprocess("-k", "test_widths", "--collect-only", "-q")
    result.stdout.fnmatch_lines([f"*test_widths[[]{name}]" for name in registry().layers])


def test_examples_and_dtypes(pytester: pytest.Pytester) -> None:
    """A test outside the suite gets the requested number of cases, in the requested dtypes."""
    pytester.makepyfile("""
        import torch

        def test_mine(conformance):
            seen = []
            conformance.check(lambda case, data: seen.append((case.dtype, case.layer(case.query, case.context).dtype)))
            assert len(seen) == 7
            assert {dtype for pair in seen for dtype in pair} <= {torch.float32, torch.bfloat16}
    """)
    options = ("--ctx-layer=rnn", "--ctx-max-examples=7", "--ctx-dtype=float32", "--ctx-dtype=bfloat16")
    pytester.runpytest_inprocess(*options).assert_outcomes(passed=1)


def test_other_fixture_of_that_name(pytester: pytest.Pytester) -> None:
    """A project may have its own fixture named `conformance`."""
    pytester.makepyfile("""
        import pytest

        @pytest.fixture
        def conformance():
            return 1

        def test_mine(conformance):
            assert conformance == 1
    """)
    pytester.runpytest_inprocess("--ctx-layer=rnn").assert_outcomes(passed=1)


def test_from_any_directory(pytester: pytest.Pytester) -> None:
    """`--pyargs ctxblocks.testing.suite` works in any directory."""
    options = ("--ctx-layer=rnn", "--ctx-max-examples=1", "-k", "test_widths")
    result = pytester.runpytest_subprocess("--pyargs", "ctxblocks.testing.suite", *options)
    result.assert_outcomes(passed=1)


def test_plugin_is_thin() -> None:
    """Importing the pytest plugin loads neither torch nor ctxblocks."""
    code = "import sys, pytest_ctxblocks; print(sorted({'torch', 'hypothesis', 'ctxblocks'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names() -> None:
    """`ctxblocks.testing` provides the types of the fixture, of cases and of properties, for annotations in tests."""
    assert testing.__all__ == ["Case", "Conformance", "Property", "Request"]
    assert testing.Conformance is Conformance


def test_page_lists_every_property() -> None:
    """The page on the suite lists every property with its docstring, and nothing else."""
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\w+)` \| (.*) \|$", page.partition("## Properties")[2], re.MULTILINE))
    assert listed == {(name.removeprefix("test_"), sentence(name)) for name in suite.__all__}


def sentence(name: str) -> str:
    """The first paragraph of the docstring of a test, or of its property."""
    test = getattr(suite, name)
    text = test.__doc__ or getattr(sys.modules[test.__module__], name.removeprefix("test_")).__doc__
    return " ".join(text.partition("\n\n")[0].split())
