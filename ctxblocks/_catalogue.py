"""What plugins provide beside layers, by name."""

from collections.abc import Mapping

from ctxblocks._errors import ArgumentError
from ctxblocks._families import FamilySpec
from ctxblocks._messages import closest, listed
from ctxblocks._plugins import Offers, Plugin, offers, only_offer, only_offers
from ctxblocks._probes import Probe
from ctxblocks._tasks import TaskSpec


class Catalogue:
    """Families of language models, probes and task classes, from the plugins that loaded."""

    def __init__(self) -> None:
        self._plugins: dict[str, Plugin] = {}

    def family(self, model_type: str) -> FamilySpec | None:
        """The family of a model type such as `"llama"`, None where nobody provides one.

        Raises:
            PluginError: two plugins provide it.
        """
        family: FamilySpec | None = only_offer(f"family of {model_type!r}", self._families().get(model_type, []))
        return family

    @property
    def families(self) -> Mapping[str, FamilySpec]:
        """The family of every model type that exactly one plugin provides, by model type, sorted and read-only."""
        return only_offers(self._families())

    def probe(self, name: str) -> Probe:
        """The probe of that name.

        Raises:
            ArgumentError: nobody provides it; the message lists known names.
            PluginError: two plugins provide it.
        """
        probe: Probe | None = only_offer(f"probe {name!r}", self._probes().get(name, []))
        if probe is None:
            raise ArgumentError(f"probe: got {name!r}, needs one of {listed(self.probes)}{closest(name, self.probes)}")
        return probe

    @property
    def probes(self) -> Mapping[str, Probe]:
        """Every probe that exactly one plugin provides, by name, sorted and read-only."""
        return only_offers(self._probes())

    def task(self, name: str) -> TaskSpec:
        """The task class of that name.

        Raises:
            ArgumentError: nobody provides it; the message lists known names.
            PluginError: two plugins provide it.
        """
        task: TaskSpec | None = only_offer(f"task {name!r}", self._tasks().get(name, []))
        if task is None:
            raise ArgumentError(f"task: got {name!r}, needs one of {listed(self.tasks)}{closest(name, self.tasks)}")
        return task

    @property
    def tasks(self) -> Mapping[str, TaskSpec]:
        """Every task class that exactly one plugin provides, by name, sorted and read-only."""
        return only_offers(self._tasks())

    def _families(self) -> Offers:
        return offers(self._plugins, "families", lambda spec: spec.models)

    def _probes(self) -> Offers:
        return offers(self._plugins, "probes", lambda probe: (probe.name,))

    def _tasks(self) -> Offers:
        return offers(self._plugins, "tasks", lambda task: (task.name,))
