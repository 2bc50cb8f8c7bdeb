"""An adaptation of matrices that are, or will be, chosen by a ranking."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from ...errors import SfumatoError
from ...privacy.mechanisms.votes import Probe
from ..adaptation import Adaptation


@dataclass(frozen=True, kw_only=True)
class Ranked(Adaptation):
    """Adapters on matrices out of `groups` (name -> matrices), of which some are chosen.

    `probe` is a ranking of the groups to be paid for before training (None: nothing left to
    choose); until it is made, all candidates are adapted. What is chosen as one is also clipped as
    one, where clipping is per group.
    """

    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    probe: Probe | None = None

    def without(self, names: Collection[str]) -> Self:
        """As `Adaptation.without`; matrices of which nothing is left are no candidates."""
        rest = super().without(names)
        start = {m: f"{self.base.prefix}.{m}." for g in self.groups.values() for m in g}
        left = {m for m in start if any(name.startswith(start[m]) for name in rest.trainable)}
        kept = {g: tuple(m for m in members if m in left) for g, members in self.groups.items()}
        groups = {group: members for group, members in kept.items() if members}
        if self.probe is None:
            return replace(rest, groups=groups)
        try:
            return replace(rest, groups=groups, probe=replace(self.probe, groups=tuple(groups)))
        except ValueError as error:
            raise SfumatoError(f"--method saliency: {error}") from error

    @property
    def owners(self) -> Mapping[str, str]:
        """Prefix of a tensor's name -> the group that it is clipped and chosen with."""
        return {**super().owners} | {
            f"{self.base.prefix}.{matrix}.": group
            for group, members in self.groups.items()
            for matrix in members
        }

    @property
    def most_trainable(self) -> int:
        """Numbers that train, at most, once the probe has chosen."""
        if self.probe is None:
            return super().most_trainable
        size = {
            group: sum(self.trainable[n].numel() for n in names)
            for group, names in self.clip_groups.items()
        }
        rest = sum(count for group, count in size.items() if group not in self.groups)
        return rest + sum(sorted(size[group] for group in self.groups)[-self.probe.keep :])

    @property
    def clip_group_count(self) -> int:
        """How many groups there are once the probe has chosen: known, and public, before it has."""
        if self.probe is None:
            return super().clip_group_count
        return self.probe.keep + sum(group not in self.groups for group in self.clip_groups)
