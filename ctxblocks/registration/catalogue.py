"""What plugins provide in addition to layers, by name."""

from collections.abc import Mapping
from typing import Any

from ctxblocks.base.errors import ArgumentError
from ctxblocks.base.messages import closest, listed
from ctxblocks.registration.families import FamilySpec
from ctxblocks.registration.observers import ObserverSpec
from ctxblocks.registration.plugins import Offers, Plugin, offers, only_offer, only_offers
from ctxblocks.registration.probes import Probe
from ctxblocks.registration.sections import SectionSpec
from ctxblocks.registration.tasks import TaskSpec


class Catalogue:
    """Families of language models, probes, task classes, observers and sections, from the plugins that loaded."""

    def __init__(self) -> None:
        self._plugins: dict[str, Plugin] = {}

    def family(self, model_type: str) -> FamilySpec | None:
        """The family of a model type such as `"llama"`, or None if no plugin provides one.

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
            ArgumentError: no plugin provides it; the message lists known names.
            PluginError: two plugins provide it.
        """
        probe: Probe = self._named("probe", name)
        return probe

    @property
    def probes(self) -> Mapping[str, Probe]:
        """Every probe that exactly one plugin provides, by name, sorted and read-only."""
        return only_offers(self._by_name("probe"))

    def task(self, name: str) -> TaskSpec:
        """The task class of that name.

        Raises:
            ArgumentError: no plugin provides it; the message lists known names.
            PluginError: two plugins provide it.
        """
        task: TaskSpec = self._named("task", name)
        return task

    @property
    def tasks(self) -> Mapping[str, TaskSpec]:
        """Every task class that exactly one plugin provides, by name, sorted and read-only."""
        return only_offers(self._by_name("task"))

    def observer(self, name: str) -> ObserverSpec:
        """The observer of that name.

        Raises:
            ArgumentError: no plugin provides it; the message lists known names.
            PluginError: two plugins provide it.
        """
        observer: ObserverSpec = self._named("observer", name)
        return observer

    @property
    def observers(self) -> Mapping[str, ObserverSpec]:
        """Every observer that exactly one plugin provides, by name, sorted and read-only."""
        return only_offers(self._by_name("observer"))

    def section(self, kind: str) -> SectionSpec:
        """The section of that kind of run.

        Raises:
            ArgumentError: no plugin provides it; the message lists known kinds.
            PluginError: two plugins provide it.
        """
        section: SectionSpec = self._named("section", kind)
        return section

    @property
    def sections(self) -> Mapping[str, SectionSpec]:
        """The section of every kind of run that exactly one plugin provides, by kind, sorted and read-only."""
        return only_offers(self._by_name("section"))

    def _families(self) -> Offers:
        return offers(self._plugins, "families", lambda spec: spec.models)

    def _by_name(self, kind: str) -> Offers:
        return offers(self._plugins, f"{kind}s", lambda spec: (spec.name,))

    def _named(self, kind: str, name: str) -> Any:
        """The only probe, task, observer or section of that name."""
        offered = self._by_name(kind)
        spec = only_offer(f"{kind} {name!r}", offered.get(name, []))
        if spec is None:
            known = only_offers(offered)
            raise ArgumentError(f"{kind}: got {name!r}, needs one of {listed(known)}{closest(name, known)}")
        return spec
