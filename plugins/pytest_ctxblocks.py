"""The pytest side of `ctxblocks.testing.suite`: its options, and the parameter `conformance` of its tests.

Pytest imports this module at every start, so it imports torch and the suite only when a test asks for them.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ctxblocks.testing.cases import Conformance
    from ctxblocks.testing.options import Request

PARAMETER = "ctxblocks_layer"
REQUEST: "pytest.StashKey[Request]" = pytest.StashKey()

pytest.register_assert_rewrite("ctxblocks.testing")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the suite."""
    group = parser.getgroup("ctxblocks", "conformance suite of ctxblocks")
    group.addoption(
        "--ctx-layer", action="append", default=[], metavar="NAME", help="layer to test, repeatable (default: all)"
    )
    group.addoption(
        "--ctx-device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where (default: auto, a GPU if there is one)",
    )
    group.addoption(
        "--ctx-dtype",
        action="append",
        choices=("float64", "float32", "bfloat16", "float16"),
        default=[],
        help="dtype to draw, repeatable (default: all that the device has the operations for)",
    )
    group.addoption(
        "--ctx-max-examples", type=_positive, default=50, metavar="N", help="examples for each property (default: 50)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of the tests of claims."""
    config.addinivalue_line("markers", "ctx_claim(trait): run on the layers that claim this trait only")


@pytest.fixture
def ctxblocks_layer(request: pytest.FixtureRequest) -> "Conformance":
    """The parameter behind `conformance`; apart from it, so that a fixture of that name elsewhere is left alone."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def conformance(ctxblocks_layer: "Conformance") -> "Conformance":
    """A layer under test: `conformance.check(property)` tries a property on drawn cases of it."""
    return ctxblocks_layer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that takes `conformance` one run for each layer."""
    if PARAMETER not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("ctx_claim")
    try:
        found = _conformances(metafunc.config)
    except pytest.UsageError:
        if _in_worker(metafunc.config):
            raise  # an error of collection is all that a worker can report
        found = ()  # raised again when all is collected
    params = _claiming(found, marker.args[0]) if marker else [pytest.param(one, id=one.spec.name) for one in found]
    metafunc.parametrize(PARAMETER, params, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse options that cannot be served, once every conftest had its chance to register layers."""
    asked = config.getoption("ctx_layer") or config.getoption("ctx_device") == "cuda"
    used = any(PARAMETER in item.fixturenames for item in items if isinstance(item, pytest.Function))
    if (asked or used) and not _in_worker(config):
        _conformances(config)


def _in_worker(config: pytest.Config) -> bool:
    """Whether this is a worker of pytest-xdist, which gives their configurations an attribute of that name."""
    return getattr(config, "workerinput", None) is not None


def _conformances(config: pytest.Config) -> "tuple[Conformance, ...]":
    from ctxblocks.testing.options import Request

    if REQUEST not in config.stash:
        config.stash[REQUEST] = Request(
            layers=config.getoption("ctx_layer"),
            device=config.getoption("ctx_device"),
            dtypes=config.getoption("ctx_dtype"),
            max_examples=config.getoption("ctx_max_examples"),
        )
    return config.stash[REQUEST].conformances()


def _claiming(found: "tuple[Conformance, ...]", trait: str) -> list[object]:
    params: list[object] = [pytest.param(one, id=one.spec.name) for one in (c.claiming(trait) for c in found) if one]
    if not params:
        names = ", ".join(one.spec.name for one in found)
        reason = f"not applicable: no layer asked for claims {trait} ({names})"
        params = [pytest.param(None, id="no-layer", marks=pytest.mark.skip(reason=reason))]
    return params


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
