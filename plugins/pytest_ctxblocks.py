"""The pytest plugin of `ctxblocks.testing.suite`: its command line options and the fixture `conformance`.

Pytest imports this module at every start, so torch and the suite are imported only when a test needs them.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ctxblocks.testing import Conformance, Request

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
        help="device (default: auto, a GPU if there is one)",
    )
    group.addoption(
        "--ctx-dtype",
        action="append",
        choices=("float64", "float32", "bfloat16", "float16"),
        default=[],
        help="dtype to test, repeatable (default: all that the device supports for the layer)",
    )
    group.addoption(
        "--ctx-max-examples", type=_positive, default=50, metavar="N", help="cases for each property (default: 50)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of tests of claims."""
    config.addinivalue_line("markers", "ctx_claim(trait): run only on the layers that claim this trait")


@pytest.fixture
def ctxblocks_layer(request: pytest.FixtureRequest) -> "Conformance":
    """The parameter of `conformance`, under another name so that a project may have its own fixture `conformance`."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def conformance(ctxblocks_layer: "Conformance") -> "Conformance":
    """A layer under test: `conformance.check(property)` tests a property on drawn cases."""
    return ctxblocks_layer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `conformance` once for each layer."""
    if PARAMETER not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("ctx_claim")
    try:
        conformances = _conformances(metafunc.config)
    except pytest.UsageError:
        if _in_worker(metafunc.config):
            raise  # a worker can report an error of collection only
        conformances = ()  # the error is raised again at the end of the collection
    every = [pytest.param(conformance, id=conformance.spec.name) for conformance in conformances]
    params = _claiming(conformances, marker.args[0]) if marker else every
    metafunc.parametrize(PARAMETER, params, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Raise usage errors for wrong options, after every conftest has been imported and may have registered layers."""
    requested = config.getoption("ctx_layer") or config.getoption("ctx_device") == "cuda"
    used = any(PARAMETER in item.fixturenames for item in items if isinstance(item, pytest.Function))
    if (requested or used) and not _in_worker(config):
        _conformances(config)


def _in_worker(config: pytest.Config) -> bool:
    """Whether this process is a worker of pytest-xdist, whose configurations have the attribute `workerinput`."""
    return getattr(config, "workerinput", None) is not None


def _conformances(config: pytest.Config) -> "tuple[Conformance, ...]":
    from ctxblocks.testing import Request

    if REQUEST not in config.stash:
        config.stash[REQUEST] = Request(
            layers=config.getoption("ctx_layer"),
            device=config.getoption("ctx_device"),
            dtypes=config.getoption("ctx_dtype"),
            max_examples=config.getoption("ctx_max_examples"),
        )
    return config.stash[REQUEST].conformances()


def _claiming(conformances: "tuple[Conformance, ...]", trait: str) -> list[object]:
    """The conformances restricted to configurations that claim the trait; a skip with its reason if there are none."""
    claiming = [conformance.claiming(trait) for conformance in conformances]
    params: list[object] = [pytest.param(one, id=one.spec.name) for one in claiming if one]
    if not params:
        names = ", ".join(one.spec.name for one in conformances)
        reason = f"not applicable: no requested layer claims {trait} ({names})"
        params = [pytest.param(None, id="no-layer", marks=pytest.mark.skip(reason=reason))]
    return params


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
