"""Forget-Me-Not's loss on maps small enough to do by hand."""

import pytest
import tiny
import torch

from expunge.diffusion.batch import Batch
from expunge.diffusion.networks import Models
from expunge.diffusion.types import Cond, Noised
from expunge.errors import ExpungeError
from expunge.methods.base import Training
from expunge.methods.fmn import FMN
from expunge.runs.unlearn import unlearn
from expunge.storage.cache import Store
from expunge.training.batches import gather
from expunge.training.loop import Trainer
from expunge.training.state import TrainState

COND = Cond(torch.zeros(2, 4, 3), ("a ring", "ring"))
LATENTS = torch.zeros(2, 1, 2, 2)
X = Noised(LATENTS, torch.tensor([5, 6]), COND, ("p", "q"), LATENTS)
SPANS = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 3]])
"""The concept's word is the second token of the first prompt, and the first of the second."""

# [2 points, 1 head, 2 pixels, 4 tokens] and [2 points, 1 head, 1 pixel, 4 tokens]
FINE = torch.tensor([[[[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]]], [[[0.0, 1.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0]]]])
COARSE = torch.tensor([[[[0.0, 0.6, 0.0, 0.4]]], [[[0.2, 0.8, 0.0, 0.0]]]])


def loss(maps: list[torch.Tensor], **settings) -> float:
    models = Models(refused, refused, attention=lambda point: maps)
    [(name, value)] = FMN(**settings)(models, Batch(0, COND, COND[[0]], {"forget": X, "spans": SPANS})).items()
    assert name == "attention"
    return value.item()


def refused(point):
    raise AssertionError("attention alone is looked at")


WORDS = (0.2**2 + 0.3**2 + 0.0**2 + 0.5**2) / 4
END = (0.3**2 + 0.2**2 + 1.0**2 + 0.0**2) / 4
PADDING = (0.4**2 + 0.1**2 + 0.0**2 + 0.5**2) / 4


@pytest.mark.parametrize(("tokens", "expected"), [("words", WORDS), ("end", WORDS + END), ("padding", WORDS + END + PADDING)])
def test_the_loss_is_the_squared_attention_to_the_chosen_tokens(tokens, expected):
    assert loss([FINE], tokens=tokens) == pytest.approx(expected)


def test_layers_count_alike_however_many_pixels_they_have():
    coarse = (0.6**2 + 0.2**2) / 2
    assert loss([FINE, COARSE], tokens="words") == pytest.approx((WORDS + coarse) / 2)


def test_each_row_has_its_own_tokens_where_the_released_code_tiles_the_batch_over_heads():
    """There the heads of a picture lie side by side but the masks of the batch are tiled, so rows get their neighbours' tokens."""
    maps = torch.zeros(2, 2, 1, 4)
    maps[0, :, :, 1] = 1.0  # the first picture's heads look at its word alone, the second's away from its own
    maps[1, :, :, 3] = 1.0
    tiled = maps.flatten(0, 1).masked_select((SPANS == 1)[:, None, :].repeat(2, 1, 1)).square().sum() / 4
    assert loss([maps], tokens="words") == pytest.approx(0.5)
    assert tiled.item() != pytest.approx(0.5)


def trainer(tmp_path, **settings) -> Trainer:
    model, method, training = tiny.model(), FMN(**settings), Training(**tiny.TRAINING)
    batches = gather(tiny.session(model, Store(tmp_path)), tiny.concept(synonyms=("glow",)), method.needs, training, 0)
    return Trainer(tiny.session(model), method, training, batches, TrainState(model, method.scope))


@pytest.mark.parametrize("variant", ["xattn-qk", "xattn", "full"])
def test_training_turns_the_picture_away_from_the_concept(variant, tmp_path):
    made = trainer(tmp_path, variant=variant)

    def attention() -> float:
        with torch.no_grad():
            return FMN(variant=variant)(made.models, made.batches(0))["attention"].item()

    before = attention()
    list(made.fit())
    assert attention() < 0.9 * before


def test_a_batchs_spans_are_those_of_its_own_prompts(tmp_path):
    made = trainer(tmp_path)
    batch, tokenizer = made.batches(0), made.batches.model.pipeline.tokenizer
    for prompt, row in zip(batch.forget.cond.keys, batch.spans.tolist(), strict=True):
        words = tokenizer.convert_ids_to_tokens(tokenizer(prompt).input_ids)
        assert [w for w, kind in zip(words, row, strict=False) if kind == 1] in (["neon</w>"], ["glow</w>"])
        assert words[row.index(2)] == tokenizer.eos_token


def test_activations_that_are_computed_again_are_refused(tmp_path):
    """Under gradient checkpointing the backward pass would look for maps that are kept no longer."""
    with pytest.raises(ExpungeError) as error:
        unlearn(tiny.model(), tiny.concept(), "fmn", training={**tiny.TRAINING, "gradient_checkpointing": True}, out=tmp_path / "r")
    assert error.value.rule == "recomputed-attention"
    assert not (tmp_path / "r").exists()


def test_models_made_by_hand_say_that_they_look_at_nothing():
    with pytest.raises(ExpungeError, match="attention maps come from the trainer"):
        FMN()(Models(refused, refused), Batch(0, COND, COND[[0]], {"forget": X, "spans": SPANS}))
