"""The one question before a charge: asked of a person at a terminal, never of a pipe."""

from __future__ import annotations

import io
import sys

import pytest

from sfumato.cli.live import LiveLine, asking, asking_first


class Typed(io.StringIO):
    """What a person, or a pipe, gives."""

    terminal = True

    def isatty(self) -> bool:
        return self.terminal


def line(terminal: bool = True, quiet: bool = False) -> LiveLine:
    made = LiveLine(quiet=quiet)
    made.terminal = terminal
    return made


@pytest.mark.parametrize(
    ("typed", "yes"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_a_person_sees_everything_word_for_word_and_says_yes(typed, yes, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Typed(typed))
    ask = asking(line())
    assert ask is not None and ask([("classes", "Doe^John, circle"), ("prompts", "[x]")]) is yes
    shown = capsys.readouterr().err
    assert "classes: Doe^John, circle" in shown and "prompts: [x]" in shown and "[y/N]" in shown


@pytest.mark.parametrize("who", ["a pipe", "no screen", "another rank"])
def test_nobody_else_is_asked(who, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Typed("y\n"))
    monkeypatch.setattr(Typed, "terminal", who != "a pipe")
    assert asking(line(who != "no screen", who == "another rank")) is None
    assert asking_first(line(who != "no screen", who == "another rank"))(600.0) is True


@pytest.mark.parametrize(("typed", "yes"), [("y\n", True), ("\n", False)])
def test_a_person_is_told_how_long_it_takes_and_may_say_no(typed, yes, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Typed(typed))
    assert asking_first(line())(600.0) is yes
    assert "about 10 min? [y/N]" in capsys.readouterr().err
