"""A parcel to a hub: what is not there yet, in commits that build on each other, and then a look.

A repository of a release holds that release and nothing else, as a folder of it does. What a push
that broke off has left there is kept, if it is the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sfumato.errors import MachineError, SfumatoError
from sfumato.releases.parcel import Item

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ADDED = ".gitattributes"
AT_ONCE = 500  # files of one commit
SPACE = "docker"
MESSAGE = "A release of sfumato, verified before it was sent"


def send(
    items: Sequence[Item],
    repository: str,
    kind: str,
    *,
    public: bool,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> str:
    """Makes the repository if there is none, and sends what it lacks.

    Args:
        items: Every file, those that name the others last.
        repository: ORG/NAME.
        kind: "dataset", "model" or "space".
        public: Everybody may read a new repository.
        progress: Called with how many files are there, and of how many.

    Returns:
        The address of the commit.

    Raises:
        SfumatoError: The repository holds other files, or is as public or private as was not asked.
        MachineError: The hub refuses or does not answer, or holds other bytes than were sent.
    """
    place = os.environ.get("HF_ENDPOINT") or None
    with _in_one_line(repository, place):
        from huggingface_hub import HfApi

        api = HfApi(endpoint=place, library_name="sfumato")
        api.create_repo(
            repository,
            repo_type=kind,
            private=not public,
            exist_ok=True,
            space_sdk=SPACE if kind == "space" else None,
        )
        info = api.repo_info(repository, repo_type=kind)
        # Of a repository that was there, `private` above changes nothing.
        if bool(info.private) == public:
            said = "private, and stays so" if public else "public, and --public was not given"
            raise SfumatoError(
                f"{repository} is {said}: name a new repository, or change that on its settings"
                " page first"
            )
        head, lacking = info.sha, _lacking(api, items, repository, kind)
        progress(len(items) - len(lacking), len(items))
        for start in range(0, len(lacking), AT_ONCE):
            part = lacking[start : start + AT_ONCE]
            made = api.create_commit(
                repository,
                repo_type=kind,
                operations=[_operation(item) for item in part],
                commit_message=MESSAGE,
                parent_commit=head,
            )
            head = made.oid
            progress(len(items) - len(lacking) + start + len(part), len(items))
        if _lacking(api, items, repository, kind):
            raise MachineError(f"{repository} lacks files that were sent: push again")
        return f"{api.endpoint}/{'' if kind == 'model' else kind + 's/'}{repository}/tree/{head}"


def _operation(item: Item) -> Any:
    """One file for a commit: refused if it is not what was verified any more."""
    from huggingface_hub import CommitOperationAdd

    source = item.source if isinstance(item.source, bytes) else str(item.source)
    made = CommitOperationAdd(item.name, source)
    if made.upload_info.sha256.hex() != item.sha256:
        raise SfumatoError(f"{item.name} was changed while it was sent: verify and push again")
    return made


def _lacking(api: HfApi, items: Sequence[Item], repository: str, kind: str) -> list[Item]:
    """What of the files is not there, in order.

    SfumatoError if the repository holds anything else: then it would not verify.
    """
    known = {item.name: item for item in items}
    program = kind == "space"  # replaced where it is another
    there: set[str] = set()
    for found in api.list_repo_tree(repository, repo_type=kind, recursive=True):
        size = getattr(found, "size", None)
        if size is None or found.path == ADDED:
            continue  # a folder, or what the hub keeps for itself
        item, lfs = known.get(found.path), getattr(found, "lfs", None)
        if item is None:
            raise SfumatoError(
                f"{repository} holds {found.path}, which is no file of this release: name a"
                " new repository"
            )
        same = lfs.sha256 == item.sha256 if lfs else found.blob_id == item.git  # pyright: ignore
        if program and not same:
            continue
        if size != item.size or not same:
            raise SfumatoError(
                f"{repository} holds another {found.path}: a release is never changed, so"
                " name a new repository"
            )
        there.add(found.path)
    return [item for item in items if item.name not in there]


@contextmanager
def _in_one_line(repository: str, place: str | None) -> Iterator[None]:
    """What the client of the hub raises, as one line with a cure."""
    try:
        yield
    except SfumatoError:
        raise
    except ImportError as error:
        raise MachineError(
            f"huggingface_hub cannot be imported ({error.name}): install sfumato again"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise _told(error, repository, place) from error
    except Exception as error:
        # httpx's errors have no base of the language's own
        if type(error).__module__.split(".")[0] in ("httpx", "httpx2", "huggingface_hub"):
            raise _told(error, repository, place) from error
        raise


def _told(error: Exception, repository: str, place: str | None) -> SfumatoError:
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    login = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"
    host = urlsplit(place or "https://huggingface.co").netloc
    if isinstance(error, HFValidationError):
        return SfumatoError(f"--to {repository}: not a name on a hub, which is ORG/NAME")
    if isinstance(error, OfflineModeIsEnabled):
        return MachineError("HF_HUB_OFFLINE is set: unset it to push, or say --dry-run")
    if isinstance(error, LocalTokenNotFoundError):
        return MachineError(f"no token for {host}: {login}")
    if isinstance(error, HfHubHTTPError):
        code = error.response.status_code if error.response is not None else 0
        said = " ".join((getattr(error, "server_message", None) or "").split())[:200]
        cure = login if code in (401, 403) else "push again; what is there stays"
        return MachineError(
            f"{host} refused {repository} (code {code}{': ' * bool(said)}{said}): {cure}"
        )
    if isinstance(error, ValueError):
        return SfumatoError(
            f"the hub's client refuses this: {' '.join(str(error).split())[:200]}: correct it, or"
            " name another repository"
        )
    return MachineError(
        f"{host} does not answer ({type(error).__name__}): look at the network and push again;"
        " what is there stays"
    )
