"""An observer of one's own: told of a comparison while it goes on, it prints what matters to you.

Run it with `python examples/observer.py` (a few seconds). A distribution would announce the plugin in its entry points;
here it serves this process.
"""

import tempfile
from pathlib import Path

from ctxblocks import Observer, ObserverSpec, hookimpl, registry
from ctxblocks.comparison import compare, compare_config


class Teller(Observer):
    """Prints the last error of every model that lands."""

    def start(self, configuration):
        """Which layers, and how many examples."""
        self.last = configuration["examples"]
        print("layers:", ", ".join(configuration["layers"]))

    def row(self, row):
        """One measurement of many."""
        if (row["probe"], row["condition"], row["n"]) == ("in-context-error", "clean", self.last):
            print(f"  {row['layer'] or 'baseline'}, {row['control']}: {row['value']:.3g}")

    def end(self, status):
        """How it went."""
        print(status)


class Plugin:
    """What a module of a distribution would be."""

    @staticmethod
    @hookimpl
    def ctxblocks_observers():
        """One observer."""
        return [ObserverSpec(name="teller", summary="Prints errors.", open=lambda folder: Teller())]


registry().register(Plugin)
config = compare_config("quick", ("gru", "self-attention"), ("linear",), inputs=2, examples=4, steps=50)
with tempfile.TemporaryDirectory() as folder:
    compare(config, Path(folder), workers=1, observers=["teller"], drawn=False)
