"""What plugins provide beside layers, by name."""

from collections.abc import Mapping
from typing import Any

from ctxblocks.base.errors import ArgumentError
from ctxblocks.base.messages import closest, listed
from ctxblocks.registration.families import FamilySpec
from ctxblocks.registration.observers import ObserverSpec
from ctxblocks.registration.plugins import Offers, Plugin, offers, only_offer, only_offers
from ctxblocks.registration.probes import Probe
from ctxblocks.registration.tasks import TaskSpec


class Catalogue:
    """Families of language models, probes, task classes and observers, from the plugins that loaded."""

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
        found: Probe = self._named("probe", name)
        return found

    @property
    def probes(self) -> Mapping[str, Probe]:
        """Every probe that exactly one plugin provides, by name, sorted and read-only."""
        return only_offers(self._by_name("probe"))

    def task(self, name: str) -> TaskSpec:
        """The task class of that name.

        Raises:
            ArgumentError: nobody provides it; the message lists known names.
            PluginError: two plugins provide it.
        """
        found: TaskSpec = self._named("task", name)
        return found

    @property
    def tasks(self) -> Mapping[str, TaskSpec]:
        """Every task class that exactly one plugin provides, by name, sorted and read-only."""
        return only_offers(self._by_name("task"))

    def observer(self, name: str) -> ObserverSpec:
        """The observer of that name.

        Raises:
            ArgumentError: nobody provides it; the message lists known names.
            PluginError: two plugins provide it.
        """
        found: ObserverSpec = self._named("observer", name)
        return found

    @property
    def observers(self) -> Mapping[str, ObserverSpec]:
        """Every observer that exactly one plugin provides, by name, sorted and read-only."""
        return only_offers(self._by_name("observer"))

    def _families(self) -> Offers:
        return offers(self._plugins, "families", lambda spec: spec.models)

    def _by_name(self, kind: str) -> Offers:
        return offers(self._plugins, f"{kind}s", lambda spec: (spec.name,))

    def _named(self, kind: str, name: str) -> Any:
        """The one probe, task or observer of that name."""
        offered = self._by_name(kind)
        found = only_offer(f"{kind} {name!r}", offered.get(name, []))
        if found is None:
            known = only_offers(offered)
            raise ArgumentError(f"{kind}: got {name!r}, needs one of {listed(known)}{closest(name, known)}")
        return found
