"""What stands beside a token in a report: two public controls, finite numbers, plain pictures, and
nothing under another name.
"""

from __future__ import annotations

import base64
import copy
import io

import pytest
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.pages.forecast import WORDS
from sfumato.releases.beside import MOST_PICTURES, ROWS, check_beside, outcome


def png() -> str:
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


GOOD = {
    "expected": {"signal": 0.4, "noise": 0.6, "cosine": 0.55, "known": False},
    "rows": {name: {"from_anchor": 0.1, "cosine_with_anchor": 1.0} for name in ROWS},
    "pictures": {name: [png()] * MOST_PICTURES for name in ROWS},
}


def test_what_a_run_writes_passes():
    found = check_beside(GOOD)
    assert found["rows"] == GOOD["rows"] and found["pictures"]["anchor"][0].startswith(b"\x89PNG")
    assert check_beside({k: v for k, v in GOOD.items() if k != "pictures"})["pictures"] == {}
    assert check_beside(None) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["rows"].update({"non-private": body["rows"]["anchor"]}),
        lambda body: body["rows"].pop("anchor"),
        lambda body: body["rows"]["anchor"].update(accuracy=0.9),
        lambda body: body["rows"]["anchor"].update(from_anchor=float("nan")),
        lambda body: body["rows"]["anchor"].update(from_anchor="a name"),
        lambda body: body["expected"].update(measured=0.5),
        lambda body: body["expected"].update(known="a name"),
        lambda body: body["pictures"].update({"one-image": [png()]}),
        lambda body: body["pictures"].update(anchor=[]),
        lambda body: body["pictures"]["anchor"].append(png()),
        lambda body: body["pictures"]["anchor"].__setitem__(0, "no base64"),
        lambda body: body["pictures"]["anchor"].__setitem__(
            0, base64.b64encode(b"no picture").decode()
        ),
        lambda body: body["expected"].update(word="everything can be learned"),
        lambda body: body["expected"].update(word=["something can be learned"]),
        lambda body: body["expected"].update(word=None),
        lambda body: body.update(exact=1.0),
        lambda body: body.update(rows=[]),
    ],
)
def test_anything_else_is_refused(change):
    body = copy.deepcopy(GOOD)
    change(body)
    with pytest.raises(SfumatoError, match="controls in the draft|is not a PNG"):
        check_beside(body)


def test_the_word_of_the_forecast_is_one_of_three_and_may_be_missing_in_an_earlier_draft():
    assert check_beside(GOOD)["expected"]["word"] is None
    for word in WORDS:
        body = copy.deepcopy(GOOD)
        body["expected"]["word"] = word
        assert check_beside(body)["expected"]["word"] == word


def test_a_token_as_far_from_its_anchor_as_noise_alone_may_be_noise():
    def rows(own, noise):
        return {"released": {"from_anchor": own}, "noise-only": {"from_anchor": noise}}

    for own, noise in ((0.0, 0.0), (0.1, 0.1), (0.2, 0.1)):
        assert "may be noise" in outcome(rows(own, noise))
    assert "lies 8 times as far from its anchor" in outcome(rows(0.8, 0.1))
    assert "more than a thousand times as far" in outcome(rows(0.8, 0.0))
