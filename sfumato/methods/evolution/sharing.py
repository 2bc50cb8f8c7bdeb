"""How several processes evolve one population: each draws its share, and one of them votes.

Ranks talk to each other; shards (`--shard I/N`) are started on their own and meet in the run
folder. What they hand each other are public pictures and noisy votes.
"""

from __future__ import annotations

import io
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save

from ...compute import ranks
from ...errors import Interrupted, SfumatoError
from ...privacy.files import lock
from ...training.checkpoint import write_file

FOLDER = "shares"  # in the run folder, while it runs
PAUSE = 0.5  # seconds between two looks for the others' pictures


class Sharing(ABC):
    """Who draws which of a round's pictures, and who does what is done once."""

    @property
    @abstractmethod
    def own(self) -> slice:
        """Which of a list of pictures this process draws."""

    @abstractmethod
    def together(self, name: str, drawn: torch.Tensor, count: int) -> torch.Tensor:
        """All pictures, of which `drawn` are this process's own.

        Args:
            name: Of the round and of what is drawn.
            drawn: Latents [own, C, h, w].
            count: How many there are in all.
        """

    @abstractmethod
    def once(self, name: str, action: Callable[[], np.ndarray]) -> np.ndarray:
        """What `action` returns, done by one process."""

    def any(self, asked: bool) -> bool:
        """Whether any process was asked to stop, as far as this one knows."""
        return asked


class Ranks(Sharing):
    """The processes of torchrun, or one alone."""

    @property
    def own(self) -> slice:
        """Every so-manieth."""
        return slice(ranks.rank(), None, ranks.world_size())

    def together(self, name: str, drawn: torch.Tensor, count: int) -> torch.Tensor:
        """Adds up shares that are zero elsewhere, which changes no number."""
        if ranks.world_size() == 1:
            return drawn
        whole = torch.zeros((count, *drawn.shape[1:]), dtype=drawn.dtype)
        whole[self.own] = drawn
        ranks.sum_over_ranks({name: whole})
        return whole

    def once(self, name: str, action: Callable[[], np.ndarray]) -> np.ndarray:
        """By the first rank."""
        return ranks.on_first_rank(action)

    def any(self, asked: bool) -> bool:
        """On any rank."""
        return ranks.any_rank(asked)


@dataclass(frozen=True)
class Shards(Sharing):
    """Processes that meet in the run folder.

    Attributes:
        folder: The run's.
        shard: Number of this one, and how many there are.
        attempt: Of the run.
        stop: Says whether this process was asked to stop while it waits.
    """

    folder: Path
    shard: tuple[int, int]
    attempt: int
    stop: Any

    @property
    def own(self) -> slice:
        """Every N-th, from I."""
        return slice(self.shard[0], None, self.shard[1])

    def _place(self, name: str) -> Path:
        place = self.folder / FOLDER
        place.mkdir(mode=0o700, exist_ok=True)
        return place / f"{self.attempt}-{name}"

    def together(self, name: str, drawn: torch.Tensor, count: int) -> torch.Tensor:
        """Writes its own share, and waits for the files of the others."""
        number, of = self.shard
        place = self._place(f"{name}-{number}-of-{of}.safetensors")
        if not place.exists():  # a resume goes on with what the others may have seen
            write_file(place, save({"latents": drawn.half().contiguous()}))
        whole = torch.zeros((count, *drawn.shape[1:]), dtype=drawn.dtype)
        for other in range(of):
            place = self._place(f"{name}-{other}-of-{of}.safetensors")
            while not place.exists():
                if self.stop.asked:
                    raise Interrupted("stopped while it waited for the other shards")
                time.sleep(PAUSE)
            held = load_file(place)["latents"].to(drawn.dtype)
            share = range(count)[other::of]
            if held.shape != (len(share), *drawn.shape[1:]):
                raise SfumatoError(
                    f"the pictures of shard {other}/{of} are of another plan: remove {FOLDER}/ in"
                    " the run folder, and start all shards again with --resume"
                )
            whole[other::of] = held
        return whole

    def once(self, name: str, action: Callable[[], np.ndarray]) -> np.ndarray:
        """By whoever comes first; the others read what it left."""
        place = self._place(f"{name}.npy")
        with open(self._place("once.lock"), "a+") as turn:
            lock(turn)
            if not place.exists():
                found = action()
                held = io.BytesIO()
                np.save(held, found, allow_pickle=False)
                write_file(place, held.getvalue())
        return np.load(place, allow_pickle=False)
