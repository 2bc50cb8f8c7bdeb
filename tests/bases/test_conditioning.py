"""Rows of conditions, of one tensor and of several, are taken, joined and chosen alike."""

import torch

from sfumato.bases import conditioning


def told(rows: int) -> dict[str, torch.Tensor]:
    text = torch.arange(rows * 6.0).view(rows, 3, 2)
    return {"text": text, "mask": text.sum((1, 2)).long()}


def same(a: conditioning.Conditioning, b: conditioning.Conditioning) -> bool:
    one, other = conditioning.tensors(a), conditioning.tensors(b)
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_several_tensors_go_row_by_row_as_one_does() -> None:
    many, index = told(4), torch.tensor([2, -1, 2])
    taken = conditioning.rows(many, index)
    alone = conditioning.rows(many["text"], index)
    assert same(alone, conditioning.tensors(taken)["text"])
    assert torch.equal(conditioning.tensors(taken)["mask"], many["mask"][index])
    halves = [conditioning.rows(many, slice(2)), conditioning.rows(many, slice(2, None))]
    assert same(conditioning.concatenate(halves), many)
    assert same(conditioning.concatenate([many["text"][:1], many["text"][1:]]), many["text"])
    assert conditioning.tensors(conditioning.repeat(conditioning.rows(many, slice(1)), 5))[
        "text"
    ].shape == (5, 3, 2)


def test_where_chooses_whole_rows_in_the_format_of_the_other() -> None:
    yes, no = told(1), conditioning.each(told(3), lambda part: (part + 100).to(part.dtype))
    no = conditioning.tensors(no) | {"text": conditioning.tensors(no)["text"].bfloat16()}
    chosen = conditioning.tensors(conditioning.where(torch.tensor([False, True, False]), yes, no))
    assert chosen["text"].dtype == torch.bfloat16
    assert torch.equal(chosen["text"][1].float(), yes["text"][0])
    assert torch.equal(chosen["text"][[0, 2]], no["text"][[0, 2]])
    assert chosen["mask"].tolist()[1] == int(yes["mask"][0])
