"""The words are true: commands in README and docs parse, files and make targets exist, defaults
agree with the code.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import json
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
PAGES = (
    *("README.md", "CONTRIBUTING.md", "SECURITY.md"),
    *sorted(page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md")),
)
HOWTOS = tuple(page for page in PAGES if page.startswith("docs/howto/"))
SHORT = {
    "plan": ["--steps", "3", "--clip-norm", "1"],
    "adapt": ["--steps", "3", "--clip-norm", "1", "--anyway", "--yes-public"],
    "synthesize": ["--steps", "2"],
    "evaluate": ["--steps", "2", "--seeds", "1"],
}
SHORT_INVERSION = ["--inversion-steps", "2", "--inversion-draws", "1", "--anyway", "--yes-public"]
# Other people's programs, with which a reader fetches public data and bases.
FETCHING = {"apt-get", "cd", "hf", "mkdir", "npm", "rm", "sh"}
PIPS = (["install", "."], ["install", "-U", "huggingface_hub"], ["install", "sfumato[studio]"])
# The tiny base knows few words and reads eight tokens.
TINY_WORDS = {"10000": "30", "100": "10", "a photograph of a {class}": "a picture of a {class}"}


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    text = (ROOT / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The shell commands of a block as words; comments are dropped, `;`, `&&` and `|` separate."""
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split, lexer.commenters = True, "#"
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set(";&|"):
                if words:
                    found.append(words)
                words = []
            else:
                words.append(word)
    return found


def all_commands() -> list[tuple[str, list[str]]]:
    return [
        (page, words) for page in PAGES for block in blocks(page, "sh") for words in commands(block)
    ]


def test_a_block_is_split_into_commands():
    assert commands("a b  # c; d\ne 'f g' ; h && i\n\n# only\n") == [
        ["a", "b"],
        ["e", "f g"],
        ["h"],
        ["i"],
    ]
    assert [words[1] for words in commands(own_images_block())] == [
        *("inspect", "split", "plan", "adapt", "synthesize", "evaluate", "release", "verify"),
    ]


@pytest.mark.parametrize(
    "page, words",
    all_commands(),
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_command_exists_and_parses(page, words):
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    elif words[0] == "sfumato":
        parse(words[1:])
    elif words[0] == "torchrun":
        assert words[3:5] == ["-m", "sfumato"]
        parse(words[5:])
    elif words[0] == "python":
        if words[1].endswith("verify_privacy.py"):
            assert (ROOT / "sfumato" / "releases" / "verify_privacy.py").is_file()
        elif words[1] == ".ci/files":
            assert words[2:] == [] and (ROOT / words[1]).is_file()
        elif words[1].startswith("benchmarks/"):
            options = (ROOT / words[1]).read_text("utf-8")
            assert all(f'"{word}"' in options for word in words[2:] if word.startswith("--"))
        else:
            assert words[1:3] == ["-m", "tests.gradients.test_denoisers"] or words[1:4] == [
                "-m", "pytest", "tests/gradients",
            ]  # fmt: skip
    elif words[0] == "pip":
        assert words[1:] in PIPS or words[1] == "download"
    elif words[0] in FETCHING:
        assert words[0] != "hf" or (
            words[1:] == ["auth", "login"] or (words[1] == "download" and "--local-dir" in words)
        )
    elif words[0] == "pre-commit":
        assert words[1:] == ["install"] and (ROOT / ".pre-commit-config.yaml").is_file()
    else:
        assert words == [".ci/run"] and (ROOT / ".ci" / "run").is_file()


def parse(words: list[str]) -> None:
    """Let the real command line parse the words, without running the verb."""
    from sfumato.cli.app import command

    group = command()
    with group.make_context("sfumato", list(words)) as context:
        name, verb, rest = group.resolve_command(context, words)
        with verb.make_context(name, list(rest), parent=context):
            pass


def help_examples() -> list[list[str]]:
    """Every example line on the help page of every verb."""
    from sfumato.cli import ledger
    from sfumato.cli.app import VERBS, about

    pages = [about, *VERBS, ledger.show, ledger.cap, ledger.reset, ledger.export]
    lines = [line.strip() for page in pages for line in (page.__doc__ or "").splitlines()]
    found = [
        w for line in lines if line.startswith(("sfumato ", "torchrun ")) for w in commands(line)
    ]
    assert {verb.__name__ for verb in VERBS} <= {words[1] for words in found}
    return found


@pytest.mark.parametrize("words", help_examples(), ids=" ".join)
def test_every_example_of_a_help_page_parses(words):
    words = words[: words.index(">")] if ">" in words else words
    parse(words[5:] if words[0] == "torchrun" else words[1:])


def test_the_glossary_is_sorted_short_and_linked():
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)[1:]
    terms = [term for term, _ in rows]
    assert 20 <= len(terms) <= 48 and terms == sorted(set(terms), key=str.lower)
    assert all(meaning.count(". ") <= 2 for _, meaning in rows)
    for page in ("README.md", "docs/tour.md", "docs/cli.md", *HOWTOS):
        assert "glossary.md)" in (ROOT / page).read_text("utf-8"), page
    assert "glossary.md" in (ROOT / "mkdocs.yml").read_text("utf-8")


def test_parsing_refuses_what_does_not_exist():
    from typer import TyperException

    for words in (["adpat", "x"], ["adapt", "x", "-o", "y", "--sigma", "1"], ["verify", "a", "b"]):
        with pytest.raises(TyperException):
            parse(words)


def test_every_verb_has_its_section_and_its_line():
    from sfumato.cli.app import VERBS

    headings = " ".join(
        re.findall(r"^## (.*)$", (ROOT / "docs" / "cli.md").read_text("utf-8"), re.MULTILINE)
    )
    assert not [
        verb.__name__ for verb in VERBS if verb.__name__ not in headings.replace(",", "").split()
    ]


@pytest.mark.parametrize("page", PAGES)
def test_links_and_files_exist(page):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or ((ROOT / page).parent / target).exists(), target
    for path in re.findall(r"`((?:sfumato|tests|docs|examples|recipes)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path


def test_python_block_uses_what_the_package_offers():
    import sfumato

    (block,) = blocks("docs/reference.md", "python")
    used = {
        node.attr
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "sfumato"
    }
    assert used >= {"plan", "adapt", "synthesize", "evaluate", "release", "verify"} and used <= set(
        sfumato.__all__
    )


def test_what_the_page_of_options_names_is_there():
    import sfumato

    text = (ROOT / "docs" / "options.md").read_text("utf-8")
    named = set(re.findall(r"`sfumato\.(\w+)`", text))
    assert named and not {name for name in named if not hasattr(sfumato, name)}


def test_tables_of_methods_and_bases_are_complete():
    from sfumato.bases import bundled_bases
    from sfumato.methods import METHODS

    text = "".join((ROOT / "docs" / page).read_text("utf-8") for page in ("methods.md", "bases.md"))
    sections = re.findall(
        r"^## (\w+) \(", (ROOT / "docs" / "methods.md").read_text("utf-8"), re.MULTILINE
    )
    assert set(sections) == set(METHODS)
    for name in (*METHODS, *bundled_bases()):
        assert f"| `{name}`" in text


def test_defaults_are_those_of_the_code():
    from sfumato.methods.given import ADAPTER_LEARNING_RATE, LEARNING_RATE
    from sfumato.methods.trained import CLIP_NORM
    from sfumato.options import Performance, Recipe
    from sfumato.planning.prepare import default_ema_decay

    known = {
        field.name: field.default
        for kind in (Recipe, Performance)
        for field in dataclasses.fields(kind)
    }
    known |= {"learning_rate": LEARNING_RATE, "adapter_learning_rate": ADAPTER_LEARNING_RATE}
    known["ema_decay"] = default_ema_decay(100)
    known["clip_norm"] = CLIP_NORM
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d.]+) \|",
        (ROOT / "docs" / "methods.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert len(rows) >= 9
    for name, value in rows:
        assert float(value) == known[name], name


def test_certificate_fields_are_all_explained():
    from sfumato.releases import certificate

    text = (ROOT / "docs" / "releasing.md").read_text("utf-8")
    (body,) = [
        node.value
        for node in ast.walk(ast.parse(inspect.getsource(certificate.build_privacy_json)))
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict)
    ]
    fields = [key.value for key in body.keys if key.value != "verify"]
    assert len(fields) > 15
    assert not [name for name in (*fields, "k_table", "artefacts") if f"`{name}`" not in text]


def test_words_to_avoid():
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8").lower()
        if page != "CONTRIBUTING.md":
            assert not re.search(
                r"anonymi[sz]|anonymous|gdpr|cannot leak|guaranteed private", text
            ), page


def own_images_block() -> str:
    """The block of the README that a person with their own images copies."""
    (block,) = [block for block in blocks("README.md", "sh") if "sfumato inspect" in block]
    return block


@pytest.mark.end_to_end
def test_own_images_block_runs(tiny_base, tiny_images, tmp_path, monkeypatch, capfd):
    """Word for word, but for fewer images and steps, and the example's folders in place."""
    from sfumato.cli import main

    shutil.copytree(tiny_images, tmp_path / "scans")
    shutil.copytree(tiny_images, tmp_path / "held-out")
    for place in (tmp_path / "held-out").rglob("*.png"):  # other images than those of the run
        Image.open(place).rotate(90).save(place)
    shutil.copytree(tiny_base, tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    for words in commands(own_images_block()):
        assert words[0] == "sfumato"
        words = ["30" if word == "10000" else word for word in words[1:]]
        code = main([*words, *SHORT.get(words[0], [])])
        assert code == 0, capfd.readouterr().err
    assert (tmp_path / "run" / "PRIVATE").is_file()
    assert (tmp_path / "run" / "evaluation" / "utility.json").is_file()
    files = {
        path.relative_to(tmp_path / "release").parts[0]
        for path in (tmp_path / "release").rglob("*")
    }
    section = (
        (ROOT / "docs" / "tour.md")
        .read_text("utf-8")
        .partition("## What lies there afterwards")[2]
        .partition("\n## ")[0]
    )
    assert files == set(re.findall(r"^\| `([\w.]+)", section, re.MULTILINE))
    assert files >= set(
        re.findall(r"^- `([\w.]+)`", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    )


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 850


def run_blocks(page: str, capfd) -> None:
    """Run every shell command of a page, word for word, but for fewer images and steps."""
    from sfumato.cli import main

    for block in blocks(page, "sh"):
        for words in commands(block):
            assert words[0] == "sfumato"
            words = [TINY_WORDS.get(word, word) for word in words[1:]]
            short = SHORT_INVERSION if "inversion" in words else SHORT.get(words[0], [])
            assert main([*words, *short]) == 0, (words, capfd.readouterr().err)


def table_of_scans(folder: Path, patients: range) -> None:
    """Three pictures of each patient, and a metadata.csv that says whose they are."""
    (folder / "pictures").mkdir(parents=True)
    rng = np.random.default_rng(patients.start)
    rows = ["file_name,diagnosis,patient_id"]
    for patient in patients:
        for k in range(3):
            name = f"pictures/{patient:03d}-{k}.png"
            Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8)).save(folder / name)
            rows.append(f"{name},{('benign', 'malignant')[patient % 2]},P{patient:03d}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n", "utf-8")


@pytest.mark.end_to_end
def test_hospital_page_runs(tiny_base, tiny_images, tmp_path, monkeypatch, capfd):
    from sfumato.cli import main

    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_base, "base")
    table_of_scans(Path("scans"), range(60))  # so many that the held-out part is not empty
    run_blocks("docs/howto/hospital.md", capfd)
    certificate = json.loads(Path("release", "privacy.json").read_text("utf-8"))
    assert "patient_id" in json.dumps(certificate)
    # What the page says of the cap: a run that would go over it is refused, with code 12.
    (adapt,) = [
        w for b in blocks("docs/howto/hospital.md", "sh") for w in commands(b) if "run-2/" in w
    ]
    again = [{"run-2/": "run-3", "3": "7"}.get(word, word) for word in adapt[1:]]
    assert main([*again, *SHORT["adapt"]]) == 12 and not Path("run-3").exists()


@pytest.mark.end_to_end
def test_config_page_runs(tiny_base, tiny_images, tmp_path, monkeypatch, capfd):
    import sfumato

    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_base, "base")
    shutil.copytree(tiny_images, "scans")
    run_blocks("docs/howto/config.md", capfd)
    assert "from sfumato.toml: " in capfd.readouterr().err
    (script,) = blocks("docs/howto/config.md", "python")
    exec(compile(script, "docs/howto/config.md", "exec"), {})
    (shown,) = blocks("docs/howto/config.md", "toml")
    Path("shown.toml").write_text(shown, "utf-8")
    said, made = (sfumato.Config.read(name).tables for name in ("shown.toml", "sfumato.toml"))
    assert said["project"] == made["project"] and said["privacy"] == made["privacy"]


@pytest.mark.end_to_end
def test_museum_page_runs(tiny_base, tiny_images, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_base, "base")
    for source, name in (("circle", "harbour"), ("cross", "market"), ("square", "street")):
        shutil.copytree(tiny_images / source, Path("photographs", name))
    run_blocks("docs/howto/museum.md", capfd)
    assert (
        list(Path("release", "data").glob("*.parquet")) and Path("model-release", "model").is_dir()
    )


@pytest.mark.end_to_end
def test_artist_page_runs(tiny_base, tiny_images, tmp_path, monkeypatch, capfd):
    import diffusers

    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_base, "base")
    Path("artwork").mkdir()
    for path in sorted(tiny_images.rglob("*.png")):
        shutil.copy(path, Path("artwork", f"{path.parent.name}-{path.name}"))
    run_blocks("docs/howto/artist.md", capfd)
    (block,) = blocks("docs/howto/artist.md", "python")
    drawn = diffusers.StableDiffusionPipeline.__call__
    short = functools.partialmethod(drawn, num_inference_steps=2)
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "__call__", short)
    exec(compile(block, "docs/howto/artist.md", "exec"), {})
    assert Path("bicycle.png").is_file()


@pytest.mark.end_to_end
def test_quickstart_runs(tiny_base, tiny_images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["quickstart.py", str(tiny_images), str(tiny_base)])
    import sfumato

    # 24 pictures teach nothing, and the script would rightly stop
    monkeypatch.setattr(sfumato, "adapt", functools.partial(sfumato.adapt, anyway=True))
    runpy.run_path(str(ROOT / "examples" / "quickstart.py"), run_name="__main__")
    assert capsys.readouterr().out.strip().endswith("verified")
