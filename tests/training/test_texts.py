"""Captions beside the latents: which one a draw reads, and whom it can move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.bases import load_base
from sfumato.gradients import Engine
from sfumato.methods import Given, Lora, Prompts
from sfumato.privacy.clipping import flat
from sfumato.privacy.rounding import Rounding
from sfumato.training import LatentData, Texts, UnitBatch, write_texts
from sfumato.training.objective import READ
from sfumato.training.texts import MOST, captions_of, open_texts, read_alone

CELLS = ("a picture", "", "circle\n\n cross \n small letter", "a square", "digit seven", "")


def tell(texts):
    """Two numbers of each text, of which one is the length of its first word; and a mask."""
    told = torch.tensor([[float(len(t.split()[0])), 0.5] for t in texts])
    return {"text": told, "mask": torch.ones(len(texts), 3, dtype=torch.bool)}


def lengths(batch):
    """The first of them in every draw, -1 where it reads no caption."""
    return torch.where(batch.captioned, batch.text["text"][..., 0].long(), -1)


@pytest.fixture
def texts(tmp_path):
    write_texts(tmp_path, CELLS, tell)
    return open_texts(tmp_path)


@pytest.fixture
def captioned(latents, texts):
    return replace(latents(6), texts=texts)


def batch_of(data, units, key, *, step=0, draws=2, dropout=0.0):
    return UnitBatch(data, np.asarray(units), key, step, 0, draws, 1.5, dropout, 1000)


def test_the_cache_holds_the_captions_of_every_image(texts, tmp_path):
    assert texts.first.tolist() == [0, 1, 1, 4, 5, 6, 6]
    assert texts.told["text"][:, 0].tolist() == [1, 6, 5, 5, 1, 5, 0]
    assert texts.told["mask"].dtype == torch.bool and not texts.told["mask"][-1].any()
    assert open_texts(tmp_path / "none") is None
    assert captions_of("\n".join(map(str, range(100)))) == [str(i) for i in range(MOST)]


def test_a_set_without_any_caption_is_one_too(tmp_path):
    write_texts(tmp_path, ["", " \n"], tell)
    drawn, has = open_texts(tmp_path).drawn(np.array([[0, 1]]), np.zeros((1, 2)))
    assert drawn["text"].shape == (1, 2, 2) and not drawn["text"].any() and not has.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_captions_tell_is_kept_to_the_bit(dtype, tmp_path):
    rows = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    write_texts(
        tmp_path, ["0\n1", "2", "3"], lambda texts: rows[[int(t) if t != "a" else 4 for t in texts]]
    )
    kept = open_texts(tmp_path).told[""]
    assert kept.dtype == dtype and torch.equal(kept[:4], rows[:4]) and not kept[4].any()


def test_every_caption_is_read_alone(tmp_path):
    """How many others there are would set the shape in which it is computed, and its last bits."""
    seen = []

    def told(texts):
        seen.append(list(texts))
        return tell(texts)

    write_texts(tmp_path, CELLS, told)
    captions = [text for cell in CELLS for text in captions_of(cell)]
    assert seen == [["a"], *([text] for text in captions)]


def test_a_draw_reads_its_own_images_captions_and_all_of_them_in_time(captioned, key):
    seen = [set() for _ in CELLS]
    for step in range(40):
        read = lengths(batch_of(captioned, range(6), key, step=step)[0:6])
        for unit, found in enumerate(seen):
            found |= set(read[unit].tolist())
    assert seen == [{1}, {-1}, {6, 5}, {1}, {5}, {-1}]
    # of the third image the second and the third are as often as the first
    batches = [batch_of(captioned, [2], key, step=s, draws=8)[0:1] for s in range(60)]
    read = torch.cat([lengths(batch) for batch in batches])
    assert abs((read == 6).float().mean() - 1 / 3) < 0.1


def test_draws_follow_the_image_that_they_look_at(texts, latents, key):
    data = replace(latents(6, [0, 0, 0, 1, 1, 1]), texts=texts)
    data.mean[:] = np.arange(6).reshape(6, 1, 1, 1)
    for step in range(10):
        part = batch_of(data, range(2), key, step=step, draws=4)[0:2]
        image = part.mean[:, :, 0, 0, 0].long()
        own = [{1}, {-1}, {6, 5}, {1}, {5}, {-1}]
        read = lengths(part).flatten().tolist()
        assert all(t in own[i] for i, t in zip(image.flatten().tolist(), read))


def test_a_units_caption_does_not_depend_on_its_place_or_company(captioned, key):
    for step in range(8):
        alone = lengths(batch_of(captioned, [2], key, step=step, draws=4)[0:1])
        for units, place in (([2, 3], 0), ([0, 1, 2], 2), (range(6), 2)):
            batch = batch_of(captioned, units, key, step=step, draws=4)
            assert torch.equal(lengths(batch[place : place + 1]), alone)
            assert torch.equal(lengths(batch[0 : len(units)])[place : place + 1], alone)


def test_captions_move_no_other_random_number_of_a_run(captioned, key):
    """Runs without captions, of before there were any, go on with the very same draws."""
    plain = batch_of(replace(captioned, texts=None), range(6), key)[0:6]
    told = batch_of(captioned, range(6), key)[0:6]
    assert plain.text == {} and not plain.captioned.any() and told.captioned.any()
    for name, value in plain.tensors.items():
        assert name in READ or torch.equal(value, told.tensors[name])


def test_blanks_and_parts_have_texts_of_the_same_width(captioned, key):
    batch = replace(batch_of(captioned, range(5), key), blanks=2)
    part = batch[3:7]
    assert part.text["text"].shape == (4, 2, 2) and part.captioned.shape == (4, 2)
    assert not part.weight[2:].any() and not part.captioned[2:].any()


@pytest.fixture(scope="module")
def adapted(whole_tiny_base):
    base = load_base(whole_tiny_base)
    prompts = Prompts(("circle", "cross"))
    made = Lora(rank=2).apply(base, Given(prompts))
    with torch.no_grad():
        for name, tensor in made.trainable.items():
            if ".lora_B." in name:  # at zero nothing that is told would matter
                tensor.normal_(generator=torch.Generator().manual_seed(1))
    return made


def told(adapted, key, cells, units=5, draws=2, dropout=0.0):
    """A batch of random latents with captions, by the base's own rule."""
    rng, base = np.random.default_rng(0), adapted.base
    mean = rng.standard_normal((units, *base.latent_shape)).astype(np.float16)
    counts = [len(captions_of(cell)) for cell in cells]
    said = [text for cell in cells for text in captions_of(cell)]
    rows = read_alone(base.condition_of_captions, said)
    texts = Texts(rows, np.concatenate([[0], np.cumsum(counts)]))
    own = np.arange(units)
    data = LatentData(mean, np.full_like(mean, 0.1), own % 2, own, np.arange(units + 1), texts)
    return UnitBatch(data, own, key, 0, 0, draws, 1.5, dropout, base.times)[0:units]


WORDS = ("a circle", "a cross", "", "small letter a", "a picture\nseven")


def test_losses_read_captions_and_prompts_where_there_is_none(adapted, key):
    batch, base = told(adapted, key, WORDS), adapted.base
    with torch.no_grad():
        found = adapted.exact_losses(batch).view(5, 2)
        latent = (batch.mean + batch.std * batch.latent_noise).flatten(0, 1)
        noisy, target = base.corrupt(latent, batch.noise.flatten(0, 1), batch.time.flatten())
        right = []
        for row in range(10):
            unit, draw = divmod(row, 2)
            word = WORDS[unit]
            if "\n" in word:  # the draw has picked one of two
                read, options = batch.text[""][unit, draw], word.split("\n")
                word = next(
                    w for w in options if torch.equal(base.condition_of_captions([w])[0], read)
                )
            told_so = base.condition([word or ("circle", "cross")[unit % 2]])
            time = batch.time.flatten()[row : row + 1]
            predicted = base.predict(noisy[row : row + 1], time, told_so)
            right.append((predicted - target[row : row + 1]).pow(2).mean())
    torch.testing.assert_close(found.flatten(), torch.stack(right), rtol=5e-5, atol=1e-6)


def test_a_dropped_caption_is_the_empty_prompt(adapted, key):
    with torch.no_grad():
        one = adapted.exact_losses(told(adapted, key, WORDS, dropout=1.0))
        other = adapted.exact_losses(told(adapted, key, ("seven",) * 5, dropout=1.0))
        read = adapted.exact_losses(told(adapted, key, ("seven",) * 5))
    assert torch.equal(one, other) and not torch.equal(one, read)


def test_a_caption_moves_no_other_rows_loss(adapted, key):
    with torch.no_grad():
        before = adapted.exact_losses(told(adapted, key, WORDS)).view(5, 2)
        for unit, word in ((0, ""), (1, "small letter " * 99), (2, "\u9ce5"), (4, "a\nb\nc\nd")):
            cells = [word if i == unit else cell for i, cell in enumerate(WORDS)]
            after = adapted.exact_losses(told(adapted, key, cells)).view(5, 2)
            others = [i for i in range(5) if i != unit]
            assert torch.equal(before[others], after[others])
            assert not torch.equal(before[unit], after[unit])


def test_neighbours_that_differ_in_a_caption_stay_within_the_bound(adapted, key):
    """Replace-one of a caption moves the sum by 2 C at most; leaving the unit out by C."""
    bound, count = 1e-3, sum(p.numel() for p in adapted.trainable.values())
    rounding = Rounding.of(bound, count)

    def total(batch) -> torch.Tensor:
        with Engine(adapted.model, adapted.trainable) as engine:
            sums, _ = engine.clipped_sum(
                adapted.row_losses,
                batch,
                draws=2,
                clip=flat(bound).factors,
                micro_batch=2,
                rounding=rounding,
            )
        return torch.cat([value.flatten() for value in sums.values()]).double()

    batch = told(adapted, key, WORDS)
    whole, moved = total(batch), []
    for unit, word in ((0, ""), (2, "\u9ce5 " * 4000), (4, "small letter")):
        cells = [word if i == unit else cell for i, cell in enumerate(WORDS)]
        changed = told(adapted, key, cells)
        assert (total(changed) - whole).norm() <= 2 * rounding.bound
        moved.append(float((total(changed) - whole).norm()))
        for one in (batch, changed):
            weight = one.weight.clone()
            weight[unit] = 0
            gone = total(replace(one, weight=weight))
            assert (total(one) - gone).norm() <= rounding.bound
        # without the unit nothing is left of either caption
        assert torch.equal(gone, total(replace(batch, weight=weight)))
    assert max(moved) > 0.05 * rounding.bound
