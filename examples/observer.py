"""An observer of a comparison: it is notified of steps and measurements as they happen, and prints some of them.

Run it with `python examples/observer.py` (a few seconds). A distribution would announce the plugin in its entry points;
here it serves this process.
"""

import tempfile
from pathlib import Path

from ctxblocks import Observer, ObserverSpec, hookimpl, registry
from ctxblocks.comparison import compare, compare_config


class Printing(Observer):
    """Prints when a model is half trained, and the last error of every model that has been measured."""

    def start(self, configuration):
        """The layers, and the number of examples."""
        self.last = configuration["examples"]
        print("layers:", ", ".join(configuration["layers"]))

    def step(self, model, step, steps):
        """One step of training; the model is still in training."""
        if 2 * step == steps:
            print(f"  {model}: half of {steps} steps")

    def row(self, row):
        """One measurement of many."""
        if (row["probe"], row["condition"], row["n"]) == ("in-context-error", "clean", self.last):
            print(f"  {row['layer'] or 'baseline'}, {row['control']}: {row['value']:.3g}")

    def end(self, status):
        """The end of the run."""
        print(status)


class Plugin:
    """In place of the module of a distribution."""

    @staticmethod
    @hookimpl
    def ctxblocks_observers():
        """One observer."""
        return [ObserverSpec(name="printing", summary="Prints errors.", open=lambda folder: Printing())]


registry().register(Plugin)
config = compare_config("quick", ("gru", "self-attention"), ("linear",), inputs=2, examples=4, steps=50)
with tempfile.TemporaryDirectory() as folder:
    compare(config, Path(folder), workers=1, observers=["printing"], drawn=False)
