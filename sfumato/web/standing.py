"""Where a project stands: which screens it has reached, its plan, and its run."""

from __future__ import annotations

from typing import Any

from . import commands, jobs
from .jobs import Job
from .project import Project


def reached(project: Project) -> list[str]:
    """The screens that can be opened now."""
    found = ["images"]
    if project.said("unit") and project.said("what"):
        found.append("promise")
    if "promise" in found and project.said("epsilon"):
        found.append("plan")
    if "plan" in found and (planned(project) or project.charged or running(project)):
        found.append("run")
    if project.finished:
        found.append("pictures")
    if project.finished and project.handed.exists():
        found.append("hand-over")
    return found


def running(project: Project) -> Job | None:
    """The run's newest job: `adapt`, or one that went on with it."""
    found = [*jobs.jobs_of(project.folder, "adapt"), *jobs.jobs_of(project.folder, "resume")]
    return max(found, key=lambda job: job.started, default=None)


def begun(project: Project) -> bool:
    """Whether a run is under way or done; one that was refused before its charge left no folder."""
    job = running(project)
    return project.charged or (job is not None and job.state in (jobs.RUNNING, jobs.DONE))


def charges_after(project: Project, moment: float) -> bool:
    """Whether the project's run was charged after a moment, or may be yet, as far as files tell.

    Args:
        project: Any project: its images may be another's, too.
        moment: Seconds since the epoch.
    """
    job = jobs.latest(project.folder, "adapt")
    if job is None or job.started > moment:
        return job is not None
    try:
        # made once, right after the charge
        return (project.run / "active.lock").stat().st_mtime > moment
    except OSError:
        return job.state == jobs.RUNNING


def plan_job(project: Project, method: str) -> Job | None:
    """The newest plan of that method, if it is that of today's answers."""
    return jobs.current(project.folder, f"plan-{method}", commands.plan(project, method))


def planned(project: Project) -> dict[str, Any] | None:
    """What the chosen method's plan says, if it is that of today's answers."""
    method = project.said("method")
    found = plan_job(project, method) if method else None
    return None if found is None else found.facts()
