"""What an action asks before it does anything."""

from __future__ import annotations

from collections.abc import Mapping

from . import forms, standing
from .forms import Wrong
from .project import Changed, Project

Form = Mapping[str, str]
SPENT = "the run was started, and its answers stay as they are: begin a new project to change them"


def version(project: Project, form: Form) -> int:
    """The answers that the page showed when the form was filled in."""
    return forms.whole(form, "version", 0, 999_999)


def require_shown(project: Project, form: Form) -> None:
    """Changed where the page showed other answers than today's: what is done follows from them."""
    if version(project, form) != project.version:
        raise Changed


def require_free(project: Project) -> None:
    """Wrong once a run was begun: what it was begun with is on the page."""
    if standing.begun(project):
        raise Wrong(SPENT)


def require_images(project: Project) -> None:
    """Wrong before a folder was chosen."""
    if not project.said("images"):
        raise Wrong("choose the folder of the images first")


def require_finished(project: Project) -> None:
    """Wrong before the run has its model."""
    if not project.finished:
        raise Wrong("the run has no model yet")
