"""Tables, labels and prompts (BT)."""

from __future__ import annotations

import pytest

from sfumato import verbs
from sfumato.bases import load_base
from sfumato.methods.prompts import choose_prompts
from sfumato.planning.inputs import prepare_as_asked
from sfumato.planning.task import task_of
from sfumato.records import describe, load_records

from .making import ROWS, TABLE, folder_of
from .reading import each, ends, outcome, stay_small, table

WIDE = "file_name,label," + ",".join(f"c{i}" for i in range(10**6)) + "\n"


def formula(kit) -> str:
    root = folder_of(kit.tmp / "d")
    (root / "metadata.csv").write_text(TABLE.replace(",b", ",=1+1").replace(",a", ",@x"))
    assert load_records(root).classes == ("=1+1", "@x")
    # A release has no CSV: what a spreadsheet would run is a JSON string there.
    return "read 8"


def quoted(kit) -> str:
    root = folder_of(kit.tmp / "d")
    (root / "metadata.csv").write_text(TABLE.replace(",b", ',"b, ""x""\ny"'))
    records = load_records(root)
    assert records.classes == ("a", 'b, "x"\ny')
    assert (
        "\n" not in choose_prompts(load_base(kit.base), records.classes, embedder=False).prompts[1]
    )
    return f"read {records.n}"


def prompts(text: str):
    def act(kit) -> str:
        def run() -> str:
            opened = load_base(kit.base)
            chosen = choose_prompts(opened, ["a"], prompt={"a": text}, embedder=False)
            opened.condition(chosen.prompts)
            return f"read as {chosen.prompts[0]!r}"

        return outcome(run)

    return act


def private_caption(kit) -> str:
    root = folder_of(kit.tmp / "d")
    (root / "metadata.csv").write_text(
        "file_name,label,text\n"
        + ROWS.replace(",a", ",a,A  picture of a cross").replace(",b", ",b,x")
    )
    records = load_records(root, caption_column="text")
    said = {
        "delta": 1e-2,
        "base": str(kit.base),
        "prompt": {"a": "a picture of a cross", "b": "a square"},
        "embedder": False,
    }
    allowed = prepare_as_asked(records, task_of(**said, epsilon=4.0, allow_caption_prompts=True)[2])
    assert any("caption" in words for words in allowed.options["statements"]["opt_ins"])
    return outcome(lambda: str(prepare_as_asked(records, task_of(**said, epsilon=4.0)[2])))


def lone_class(kit) -> str:
    root = folder_of(kit.tmp / "d")
    (root / "metadata.csv").write_text(TABLE.replace("a/3.png,a", "a/3.png,rare"))
    declared_ = load_records(root, classes=["a", "b", "rare"])
    assert declared_.usable.all() and any(
        "'rare' has one record" in w for w in describe(declared_).warnings
    )
    records = load_records(root)
    assert records.few == {"rare": 1} and "rare" not in records.classes and records.usable.all()
    assert any("set apart" in w for w in describe(records).warnings)
    return outcome(lambda: str(verbs.plan(root, base=str(kit.base), epsilon=4.0)))


INPUTS = (
    (
        "BT01",
        "missing label",
        table(TABLE.replace("a/3.png,a", "a/3.png,")),
        "read 8, zero 1: missing label",
    ),
    (
        "BT02",
        "class outside the declared list",
        table(TABLE.replace("a/3.png,a", "a/3.png,z"), classes=["a", "b"]),
        "read 8, zero 1: label not in the class list",
    ),
    ("BT03", "comma, quote, newline in label", quoted, "read 8"),
    ("BT04", "byte-order mark", table("\ufeff" + TABLE), "read 8"),
    (
        "BT05",
        "latin-1 table",
        table(TABLE.replace(",b", ",b\xe9"), "latin-1"),
        "refuse 10: .*looks like latin-1",
    ),
    ("BT06", "cell starts with = + - @", formula, "read 8"),
    (
        "BT07",
        "row with a million columns",
        each(table(WIDE + ROWS), table("file_name,label\na/0.png" + ",x" * 10**6 + "\n")),
        "refuse 10: .*(columns|cells)",
    ),
    (
        "BT08",
        "prompt of 100 kB, control characters",
        each(prompts("long words " * 10_000), prompts("a\x1b[2J b"), prompts("a\nb")),
        "refuse 2: .*(longer than|control characters)",
    ),
    (
        "BT09",
        "prompt equals a private caption",
        private_caption,
        "refuse 2: 1 of the prompts or --init texts are, or contain, captions",
    ),
    ("BT10", "class used once", lone_class, "refuse 10: 1 of the 3 classes found in the data"),
    ("BT08 empty", "prompt empty", prompts(""), "read as ''"),
)


@pytest.mark.parametrize(
    ("name", "what", "act", "expected"), INPUTS, ids=[row[0] for row in INPUTS]
)
def test_bad_input(kit, name, what, act, expected):
    ends(act(kit), what, expected)


def test_all_10_are_here():
    assert [row[0] for row in INPUTS][:10] == [f"BT{i:02d}" for i in range(1, 11)]


def test_they_all_stay_small():
    stay_small()
