"""The stages of `results.py`, each in a process of its own, and what is kept of them on disk."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from measure import peak_mb, prepare_process, say
from methods import first, plan_facts


def stage(kind: str, folder: Path, asked: dict) -> dict:
    """The facts of a stage, done in a process of its own (so that peak memory is its own) unless
    `folder` has them.
    """
    facts = folder / f"{kind}.json"
    if not facts.exists():
        say(f"{kind} in {folder}")
        command = [sys.executable, __file__, kind, str(folder), json.dumps(asked)]
        done = subprocess.run(command, stdout=subprocess.DEVNULL)
        if done.returncode:
            sys.exit(done.returncode)
    return json.loads(facts.read_text("utf-8"))


def main(kind: str, folder: str, asked: str) -> None:
    """One stage in this process; its facts, with seconds, processor seconds and peak memory, go to
    `folder`/kind.json.
    """
    started, place = time.perf_counter(), Path(folder)
    prepare_process(int(os.environ["OMP_NUM_THREADS"]))
    from sfumato.errors import SfumatoError
    from sfumato.training import write_file

    place.mkdir(parents=True, exist_ok=True)
    try:
        facts = STAGES[kind](place, **json.loads(asked))
    except SfumatoError as error:
        say(f"{kind}: {error}")
        sys.exit(error.exit_code)
    # Processes that the stage starts, to open pictures for instance, are part of it.
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    facts |= {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in used), 1),
        "peak_mb": peak_mb(),
    }
    write_file(place / f"{kind}.json", json.dumps(facts, indent=1).encode())


def adapt(
    folder: Path, *, data, private, base, words, source, recipe, options, method_name, run, **asked
) -> dict:
    from private_sets import read
    from private_sets import words as words_of

    from sfumato import verbs
    from sfumato.options import Recipe
    from sfumato.runs.folder import Run, code_version

    where, begun = folder / "run", (folder / "run").exists()
    if (where / "model").exists():
        done = Run.open(where)
    else:
        del asked["data_sha256"], asked["base_digest"]
        images, ledger = first(read(data, "train", Path(source)), private), folder / "ledger.sqlite"
        own = asked.pop("method_options") | options.get("method_options", {})
        rest = {name: value for name, value in options.items() if name != "method_options"}
        done = (
            verbs.resume(images, where, ledger=ledger, on_stage=say)
            if begun
            else verbs.adapt(
                images,
                anyway=True,
                yes_public=True,
                output=where,
                # public pictures: the user's own ledger is not for them
                ledger=ledger,
                base=base,
                recipe=Recipe(**recipe),
                seed=run,
                on_stage=say,
                **{**asked, **words_of(data, words), **own, **rest},
            )
        )
    plan = done.plan
    facts = {
        "plan": (
            plan_facts(done)
            | {
                "draws": plan.noise_draws,
                "delta": plan.delta,
                "prompts": list(plan.prompts),
            }
        )
    }
    # seconds of a resumed stage are those of its last part
    return facts | {"code": code_version(), "resumed": begun}


def synthesize(
    folder: Path,
    *,
    run,
    images,
    scheduler,
    sampler_steps,
    guidance,
    public_seed,
    class_moments=0,
) -> dict:
    from shutil import rmtree

    from sfumato import verbs
    from sfumato.errors import SfumatoError

    # of a stage that was stopped before its facts were written
    rmtree(folder / "release", ignore_errors=True)
    sampling = sampling_of(scheduler, sampler_steps, guidance, public_seed, class_moments)
    release = verbs.release(verbs.synthesize(run, images, folder / "release", sampling=sampling))
    if not verbs.verify(release).ok:
        raise SfumatoError(f"{release} does not verify: please report this")
    return {
        "certificate_sha256": hashlib.sha256((release / "privacy.json").read_bytes()).hexdigest()
    }


def public(
    folder: Path,
    *,
    run,
    data,
    words,
    resolution,
    images,
    scheduler,
    sampler_steps,
    guidance,
    public_seed,
    **asked,
):
    """As many public pictures as synthetic ones: those of --public, or drawn by the base as it
    came.
    """
    from private_sets import public_pictures

    from sfumato.runs.folder import Run
    from sfumato.verbs.row_images import draw, public_base

    if asked["public"]:
        found = public_pictures(Path(asked["public"]), data, words, images, resolution, public_seed)
    else:
        done, sampling = Run.open(run), sampling_of(scheduler, sampler_steps, guidance, public_seed)
        found = draw(public_base(done), done.plan.prompts, images, sampling)
    np.savez_compressed(folder / "pictures.npz", images=found[0], labels=found[1])
    source = (
        Path(asked["public"]).name if asked["public"] else "drawn by the public base as it came"
    )
    return {
        "source": source,
        "sha256": hashlib.sha256(found[0].tobytes() + found[1].tobytes()).hexdigest(),
    }


def control(
    folder: Path,
    *,
    run,
    images,
    scheduler,
    sampler_steps,
    guidance,
    public_seed,
    steps=None,
) -> dict:
    """As many pictures of the same base after the same recipe without clipping and noise."""
    from sfumato.runs.folder import Run
    from sfumato.verbs.row_images import draw, non_private_base

    done, sampling = Run.open(run), sampling_of(scheduler, sampler_steps, guidance, public_seed)
    found = draw(non_private_base(done, steps=steps), done.plan.prompts, images, sampling)
    np.savez_compressed(folder / "pictures.npz", images=found[0], labels=found[1])
    return {"source": "the run's recipe without clipping and noise"}


def sampling_of(scheduler: str, steps: int, guidance: float, seed: int, class_moments: int = 0):
    from sfumato.options import Sampling

    own = {"guidance_scale": guidance, "seed": seed, "class_moments": class_moments}
    return Sampling(scheduler=scheduler, steps=steps, **own)


STAGES = {"adapt": adapt, "synthesize": synthesize, "public": public, "control": control}


def short(settings: dict) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


if __name__ == "__main__":
    main(*sys.argv[1:])
