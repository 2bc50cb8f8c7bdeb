"""Options as tables of a file: every field survives, and what is wrong is refused by its place."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence

import pytest

from sfumato.errors import SfumatoError
from sfumato.options import Declared, Options, declared, toml
from sfumato.planning.config import TABLES, Config

HEAD = "format = 1\nsfumato = '0.1.0'\n"
FIELDS = [(table, one) for table, kind in TABLES.items() for one in declared(kind)]
# Where a class accepts less than the type of a field says.
VALID = {
    ("project", "method"): "lora",
    ("reading", "yes_public"): ("cat", "dog"),  # `true` would declare what nobody has seen
    ("reading", "value_range"): (0.0, 4095.0),
    ("reading", "window"): (2000.0, 500.0),
    ("reading", "frames"): "3",
    ("recipe", "buckets"): ("16x32", "8x8"),
    ("schedule", "time"): 1200.0,
    ("judging", "classifiers"): ("cnn",),
    ("judging", "seeds"): (1, 5),
    **{(name, "warm_up_rounds"): 1 for name in ("attention", "lora", "full")},
}


def other(table: str, one: Declared) -> list[typing.Any]:
    """Values of an option that differ from its default, one for each type that it takes."""
    if (table, one.name) in VALID:
        return [VALID[table, one.name]]
    union = typing.get_origin(one.kind) in (typing.Union, types.UnionType)
    parts = typing.get_args(one.kind) if union else (one.kind,)
    return [value for part in parts for value in sample(part, one) if value != one.default]


def sample(kind: typing.Any, one: Declared) -> list[typing.Any]:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    low = 0 if one.least is None else one.least
    if kind is bool:
        return [True, False]
    if kind is int:
        return [max(1, int(low)) + 1]
    if kind is float:
        return [low + 0.25]
    if kind is str:
        return ['a "b" \\ ü\n{class}']
    if origin is typing.Literal:
        return list(inner)
    if origin is tuple and Ellipsis not in inner:
        return [tuple(i + sample(part, one)[0] for i, part in enumerate(inner))]
    if issubclass(origin, Mapping):
        return [{"a b": "x, y", "ü": "="}]
    assert issubclass(origin, Sequence), kind
    return [tuple(sample(inner[0], one))]


@pytest.mark.parametrize(("table", "one"), FIELDS, ids=lambda x: getattr(x, "name", x))
def test_every_option_survives_a_file(table, one, tmp_path):
    """Of all classes there are, so that an option that somebody adds is in it, too."""
    values = other(table, one)
    assert values
    for value in values:
        said = TABLES[table](**{one.name: value})
        Config.of(tmp_path / "a.toml", **{table: said}).write(force=True)
        again = Config.read(tmp_path / "a.toml").tables
        assert again == {table: said} and type(getattr(again[table], one.name)) is type(value)


def test_a_whole_config_survives(tmp_path):
    """All tables at once, each with all of its fields that go together."""
    objects: dict[str, Options] = {}
    for table, kind in TABLES.items():
        said = kind()
        for one in declared(kind):
            for value in other(table, one)[:1]:
                try:
                    said = dataclasses.replace(said, **{one.name: value})
                except SfumatoError:
                    continue  # excludes a field before it
        objects[table] = said
    made = Config.of(tmp_path / "a.toml", **objects)
    made.write()
    assert Config.read(made.path).tables == {n: o for n, o in objects.items() if o.given()}


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("[performance]\nmemory_budget = '2GB'", 2**31),
        ("[performance]\nprecision = 'no'", "float32"),
        ("[execution]\nshard = '1/4'", (1, 4)),
        ("[saliency]\nkeep = '25%'", 0.25),
        ("[reading]\nclasses = 'a, b'", ("a", "b")),
        ("[prompting]\nprompt = ['a=x', 'b=y']", {"a": "x", "b": "y"}),
    ],
)
def test_a_value_may_be_written_as_on_the_command_line(said, value, tmp_path):
    (tmp_path / "a.toml").write_text(HEAD + said)
    ((_, found),) = Config.read(tmp_path / "a.toml").tables.items()
    assert list(found.given().values()) == [value]


BAD = [
    ("", "has no format number"),
    ("format = 2\nsfumato = '9.0'", "has the format 2, written by sfumato 9.0"),
    ("format = true", "has the format True"),
    ("format = '1'", "has the format '1'"),
    ("format = 1\n[privacy", "is not TOML: "),
    ("a = " + "[" * 9000, "is not TOML: "),
    (HEAD + "[privcy]\nepsilon = 4", "there is no table [privcy]: did you mean [privacy]?"),
    (HEAD + "[qqq]", "there is no table [qqq]: there are project, "),
    (HEAD + "epsilon = 4", "'epsilon' stands outside its table: put it under [privacy]"),
    (HEAD + "privacy = 4", "privacy must be a table: write [privacy]"),
    (HEAD + "[privacy]\nepsilom = 4", "[privacy]: there is no option 'epsilom': did you mean"),
    (HEAD + "[schedule]\nmax-train-steps = 4", "did you mean 'steps'?"),
    (HEAD + "[privacy]\nunit = 'x'", "no option 'unit' here: it belongs under [reading]"),
    (HEAD + "[privacy]\nqqq = 'x'", "docs/options.md lists all"),
    (HEAD + "[privacy]\nepsilon = 'four'", "[privacy] epsilon: must be a number, not 'four'"),
    (HEAD + "[privacy]\nepsilon = -1", "[privacy]: --epsilon -1: must be above 0"),
    (HEAD + "[privacy]\nepsilon = true", "must be a number, not True"),
    (HEAD + "[privacy]\nepsilon = 2026-01-01", "must be a number, not a date"),
    (HEAD + "[privacy]\nrelation = 3", "--relation 3: must be one of zero-out"),
    (HEAD + "[privacy]\nanyway = 'yes'", "must be true or false, not 'yes'"),
    (HEAD + "[schedule]\nsteps = 1.5", "must be a whole number, not 1.5"),
    (HEAD + "[reading]\nlabels = ['a']", "must be text in quotes, not such an array"),
    (HEAD + "[reading]\nclasses = [1]", "must be an array of texts, not such an array"),
    (HEAD + "[prompting]\ninit = {a = 1}", "must be a table of texts, not a table"),
    (HEAD + "[execution]\nshard = [1]", "must be an array of 2 values"),
    (HEAD + "[execution]\nshard = 'x'", "--shard x: write I/N"),
    (HEAD + "[performance]\nprecision = 'half'", "--mixed-precision half: choose auto, no, bf16"),
    (HEAD + "[lora]\nrank = 0", "[lora]: --rank 0: must be at least 1"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_what_is_wrong_is_refused_in_one_line_that_names_the_file(text, words, tmp_path):
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(SfumatoError) as found:
        Config.read(tmp_path / "own.toml")
    said = str(found.value)
    assert words in said and said.startswith("own.toml") and found.value.exit_code == 2
    assert len(said.splitlines()) == 1


def test_a_file_of_another_version_says_so_where_it_is_not_understood(tmp_path):
    text = "format = 1\nsfumato = '0.9.9'\n[privacy]\nwhatever = 1"
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(SfumatoError, match=r"the file is of sfumato 0\.9\.9, this is "):
        Config.read(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text("format = 1\nsfumato = '0.9.9'\n[privacy]\nepsilon = 1")
    assert Config.read(tmp_path / "a.toml").table("privacy") == {"epsilon": 1}


def test_what_is_no_text_file_is_refused(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"format = 1 # \xff")
    with pytest.raises(SfumatoError, match="is not UTF-8"):
        Config.read(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_bytes(b"#" * (toml.LARGEST + 1))
    with pytest.raises(SfumatoError, match="larger than 1 MB"):
        Config.read(tmp_path / "a.toml")
    with pytest.raises(SfumatoError, match="cannot be read") as found:
        Config.read(tmp_path)
    assert found.value.exit_code == 14
    with pytest.raises(SfumatoError, match="no config at .*sfumato start") as found:
        Config.read(tmp_path / "none.toml")
    assert found.value.exit_code == 2
