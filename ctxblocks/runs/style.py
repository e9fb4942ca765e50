"""The style of figures: matplotlib's defaults, whatever the user's `matplotlibrc` and environment say."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ctxblocks.base.errors import CtxblocksError
from ctxblocks.base.messages import describe


def _imported() -> ModuleType:
    """Matplotlib, imported without `MPLBACKEND` and `MATPLOTLIBRC` where these make its import fail.

    Raises:
        CtxblocksError: it cannot be imported.
    """
    try:
        import matplotlib
    except ImportError:
        raise
    except Exception:  # an unknown backend is a ValueError, an undecodable file a UnicodeDecodeError
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]  # half imported
        hidden = {name: os.environ.pop(name) for name in ("MPLBACKEND", "MATPLOTLIBRC") if name in os.environ}
        os.environ["MATPLOTLIBRC"] = os.devnull
        try:
            import matplotlib
        except Exception as error:
            raise CtxblocksError(
                f"figures: matplotlib cannot be imported ({describe(error)}); repair or remove the file matplotlibrc"
            ) from error
        finally:
            del os.environ["MATPLOTLIBRC"]
            os.environ.update(hidden)
    return matplotlib


matplotlib = _imported()


@contextmanager
def figure_style(settings: Mapping[str, Any]) -> Iterator[None]:
    """A context in which figures are drawn with matplotlib's own defaults and these settings.

    A user's `matplotlibrc`, such as one that needs LaTeX, has no effect; afterwards it holds again.

    Args:
        settings: values of `matplotlib.rcParams`.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        yield
