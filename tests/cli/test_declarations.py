"""What is read from source is what the imported classes are."""

from dataclasses import MISSING
from importlib import import_module

import pytest

from expunge.attacks import ATTACKS
from expunge.cli.declarations import SourceClass, read
from expunge.cli.presets import read_presets
from expunge.cli.settings_help import settings_of
from expunge.cli.show import SETTINGS
from expunge.methods import METHODS
from expunge.methods.base import Objective, Training
from expunge.methods.presets import PRESETS, read_preset
from expunge.models.scopes import SCOPES


@pytest.mark.parametrize(("path", "registry"), [("expunge.methods:METHODS", METHODS), ("expunge.attacks:ATTACKS", ATTACKS)])
def test_registered_classes(path: str, registry: dict[str, type]):
    found = read(path)
    assert list(found) == list(registry)
    for name, cls in registry.items():
        source = found[name]
        assert source.name == cls.__name__
        assert source.doc.split() == (cls.__doc__ or "").split()
        assert settings_of(source) == settings_of(cls), name


@pytest.mark.parametrize("name", METHODS)
def test_methods_and_their_training(name: str):
    cls, source = METHODS[name], read("expunge.methods:METHODS")[name]
    assert source.is_derived_from("Objective") is issubclass(cls, Objective)
    if issubclass(cls, Objective):
        assert settings_of(read("expunge.methods.base:Training"), source.attribute("training")) == settings_of(Training, cls.training)


@pytest.mark.parametrize("name", ATTACKS)
def test_attributes_of_attacks(name: str):
    cls, source = ATTACKS[name], read("expunge.attacks:ATTACKS")[name]
    assert tuple(map(source.attribute, ("threat", "unit", "teaches"))) == (cls.threat, cls.unit, cls.teaches)


def test_scopes():
    found = read("expunge.models.scopes:SCOPES")
    assert {n: (s.name, s.pattern, s.rank) for n, s in found.items()} == {n: (s.name, s.pattern, s.rank) for n, s in SCOPES.items()}


def test_presets():
    assert read_presets() == {name: read_preset(name) for name in PRESETS}


@pytest.mark.parametrize("name", SETTINGS)
def test_groups_of_settings(name: str):
    module, _, attribute = SETTINGS[name].partition(":")
    cls, source = getattr(import_module(module), attribute), read(SETTINGS[name])
    assert settings_of(source) == settings_of(cls)
    assert source.doc.split() == (cls.__doc__ or "").split()


def test_a_field_without_a_default_is_required():
    [name, *_] = read("expunge.cli.settings_help:Setting").fields
    assert (name.name, name.default, name.hint) == ("name", MISSING, str)


def test_what_is_more_than_a_declaration_is_refused():
    with pytest.raises(LookupError, match=r"expunge\.cli\.app declares no nothing"):
        read("expunge.cli.app:nothing")
    with pytest.raises(LookupError, match="more than a declaration"):
        read("expunge.cli.app:SINGLE")
    assert isinstance(read("expunge.cli.app:Verbs"), SourceClass)
    with pytest.raises(AttributeError, match="Verbs declares no threat"):
        read("expunge.cli.app:Verbs").attribute("threat")
