"""Sections of pages: those of plugins, and the names that have moved."""

import json
from pathlib import Path

import pytest

import ctxblocks.report
from ctxblocks import ArgumentError, CtxblocksError, MovedNameError, PluginError, SectionSpec, hookimpl, registry
from ctxblocks.comparison import comparison_section
from ctxblocks.experiments import reproduction_section
from ctxblocks.registration.registry import Registry
from ctxblocks.report import Mean, Section, Table, write_report


def read(folder: Path) -> Section:
    """A section with one number."""
    value = json.loads((folder / "run.json").read_text())["value"]
    table = Table(title="Verses", heads=("verse", "length"), rows=(("first", Mean(value, 0.5, 3)),))
    return Section(
        title=f"A song in {folder.name}", lead="Sung.", command="sing", tables=(table,), seeds={}, versions={}
    )


class Plugin:
    """A plugin with a kind of run."""

    def __init__(self, *specs: object) -> None:
        self.specs = specs

    @hookimpl
    def ctxblocks_sections(self) -> list[object]:
        return list(self.specs)


SONG = SectionSpec(kind="song", summary="A song.", read=read)


def test_a_page_of_another_kind_of_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its section is the plugin's."""
    shared = Registry()
    shared.register(Plugin(SONG), "mine")
    monkeypatch.setattr("ctxblocks.registration.registry._shared", shared)
    (tmp_path / "run.json").write_text('{"kind": "song", "value": 2.0}')
    (section,) = write_report([tmp_path], tmp_path / "page.html").sections
    assert section.title == f"A song in {tmp_path.name}"
    assert "2 ± 0.5" in (tmp_path / "page.html").read_text()
    (tmp_path / "run.json").write_text('{"kind": "comparison"}')
    with pytest.raises(ArgumentError, match="needs one of the kinds song; give the command"):
        write_report([tmp_path], tmp_path / "page.html")


def test_the_kinds_of_this_distribution() -> None:
    """Reproductions and comparisons."""
    assert list(registry().sections) == ["comparison", "reproduction"]
    assert registry().section("comparison").summary


def test_wrong_kinds() -> None:
    """A name twice, a name of two plugins, no kind at all, and an unknown one."""
    shared = Registry()
    with pytest.raises(PluginError, match="provides the section 'song' twice"):
        shared.register(Plugin(SONG, SONG), "twice")
    with pytest.raises(PluginError, match=r"needs SectionSpec objects only; wrap it as ctxblocks\.SectionSpec\(kind="):
        shared.register(Plugin("song"), "words")
    with pytest.raises(ArgumentError, match="SectionSpec: got the name 'A song', needs lower case with hyphens"):
        SectionSpec(kind="A song", summary="", read=read)
    shared.register(Plugin(SONG), "one")
    shared.register(Plugin(SONG), "two")
    with pytest.raises(PluginError, match="section 'song': the plugins 'one' and 'two' both provide it"):
        shared.section("song")
    with pytest.raises(ArgumentError, match="section: got 'dance', needs one of none"):
        shared.section("dance")


@pytest.mark.parametrize(
    ("name", "place", "function"),
    [
        ("comparison_section", "ctxblocks.comparison", comparison_section),
        ("reproduction_section", "ctxblocks.experiments", reproduction_section),
    ],
)
def test_names_that_have_moved(name: str, place: str, function: object) -> None:
    """The old name says the new one, whether it is imported or asked for as an attribute."""
    with pytest.raises(MovedNameError, match=rf"ctxblocks\.report\.{name}: has moved; use {place}\.{name}"):
        getattr(ctxblocks.report, name)
    assert issubclass(MovedNameError, CtxblocksError)
    with pytest.raises(MovedNameError, match=rf"use {place}\.{name}"):
        exec(f"from ctxblocks.report import {name}")
    assert name not in ctxblocks.report.__all__
    assert callable(function)
