"""Augmentation: equal to torchvision's maps, and random numbers by seed, epoch and sample alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from biril_nm.data import Batches, Split, load_data
from biril_nm.data.augmentation import CHANGES, Augmentation, affine_map, parse_change
from biril_nm.errors import ConfigError

functional = pytest.importorskip("torchvision.transforms.v2.functional")
RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.integers(1, 256, (24, 3, 8, 7), dtype=np.uint8)
FRAMES = RANDOM.integers(0, 4, (6, 5, 2, 8, 8), dtype=np.uint8)
ALL = tuple(name for name, change in CHANGES.items() if not change.mixes)


def split(raw, steps=False):
    return Split(raw, np.arange(len(raw)) % 3, 255, steps)


def batches(augment, raw=PICTURES, size=5, epoch=0, seed=1, **options):
    """Values and labels of all samples of an epoch, in the order of the samples."""
    made = Batches(split(raw, raw.ndim == 5), size, seed=seed, augment=augment, **options)
    values, labels = zip(*made.epoch(epoch))
    return np.concatenate(values, axis=int(raw.ndim == 5)), np.concatenate(labels)


@pytest.mark.parametrize("nearest", [False, True])
def test_affine_maps_equal_those_of_torchvision(nearest):
    n = len(PICTURES)
    angles, scales = RANDOM.uniform(-40, 40, n), RANDOM.uniform(0.7, 1.4, n)
    moves = np.rint(RANDOM.uniform(-3, 3, (n, 2)))
    found = affine_map(PICTURES, angles, moves, scales, nearest)
    mode = (
        functional.InterpolationMode.NEAREST if nearest else functional.InterpolationMode.BILINEAR
    )
    for i in range(n):
        expected = functional.affine(
            torch.from_numpy(PICTURES[i]), angles[i], list(moves[i]), scales[i], [0.0, 0.0], mode
        )
        np.testing.assert_array_equal(found[i], expected.numpy())
    turned = affine_map(PICTURES, -angles, moves, scales, nearest)
    assert (turned != found).any(), "the direction of the rotation would not be seen"


def test_crops_and_flips_are_parts_of_the_padded_picture():
    found, _ = batches(("crop:2", "flip"))
    seen = set()
    for image, picture in zip((found * 255).round().astype(np.uint8), PICTURES):
        padded = np.pad(picture, ((0, 0), (2, 2), (2, 2)))
        places = [
            (y, x, mirror)
            for y in range(5)
            for x in range(5)
            for mirror in (1, -1)
            if np.array_equal(padded[:, y : y + 8, x : x + 7][..., ::mirror], image)
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) > 10 and {mirror for *_, mirror in seen} == {1, -1}


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes:UserWarning")
@pytest.mark.parametrize("augment", [(name,) for name in ALL] + [ALL])
def test_a_sample_changes_by_seed_and_epoch_alone(augment):
    state = torch.get_rng_state()
    found, labels = batches(augment)
    for other in ({"size": 24}, {"size": 7, "workers": 2}):
        np.testing.assert_array_equal(batches(augment, **other)[0], found)
    for other in ({"epoch": 1}, {"seed": 2}):
        assert (batches(augment, **other)[0] != found).any()
    plain, same = batches(())
    assert (plain != found).any() and plain.shape == found.shape
    np.testing.assert_array_equal(labels, same)
    assert found.dtype == np.float32 and 0 <= found.min() <= found.max() <= 1
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers are used up"


def test_all_frames_of_a_sample_change_alike_and_stay_counts():
    same = np.repeat(FRAMES[:, :1], 5, axis=1)
    found, _ = batches(("crop:2", "affine:20:0.1:0.8:1.2"), same)
    assert found.shape == (5, 6, 2, 8, 8) and found.dtype == np.uint8
    assert set(np.unique(found)) <= set(np.unique(same))
    np.testing.assert_array_equal(found, np.repeat(found[:1], 5, axis=0))
    assert (found != np.moveaxis(same, 1, 0)).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flop", "augment 'flop' is unknown; expected one of crop, flip.*Did you mean 'flip'"),
        ("crop:x", "augment is 'crop:x'; expected crop:pixels with numbers from 0 to 10000"),
        ("crop:1:2", "augment is 'crop:1:2'; expected crop:pixels"),
        ("crop:4.5", "'crop:4.5', with pixels 4.5; expected a whole number from 0 to 10000"),
        ("rand_augment:1.5", "with count 1.5; expected a whole number from 0 to 10000"),
        ("rand_augment:2:31", "with magnitude 31; expected a whole number from 0 to 30"),
        ("rotate:-1", "augment is 'rotate:-1'; expected rotate:degrees"),
        ("rotate:nan", "augment is 'rotate:nan'"),
        ("affine:1:0:2:1", "with a scale of 2 to 1; expected a range above 0"),
        ("affine:1:0:0", "with a scale of 0 to 1.1; expected a range above 0"),
    ],
)
def test_changes_that_make_no_sense_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        Batches(split(PICTURES), 4, augment=(text,))


@pytest.mark.parametrize(
    "name", [name for name, change in CHANGES.items() if "probability" in change.numbers]
)
def test_probabilities_are_at_most_1(name):
    assert parse_change(f"{name}:1")[1] == (1,)
    with pytest.raises(ConfigError, match="with probability 1.5; expected a number from 0 to 1"):
        parse_change(f"{name}:1.5")


def test_the_largest_magnitude_is_one_that_torchvision_has():
    found, _ = batches(("rand_augment:2:30",))
    assert (found != batches(())[0]).any()


def test_values_of_fewer_grey_values_stay_below_their_top():
    digits = load_data("digits").head(200)  # 0 to 16
    for text in CHANGES:
        if not CHANGES[text].mixes:
            found = np.concatenate([x for x, _ in Batches(digits.train, 50, augment=(text,))])
            assert found.min() >= 0 and 0.9 < found.max() <= 1, text


def test_frames_refuse_changes_of_brightness_and_the_old_crop():
    with pytest.raises(
        ConfigError, match="'rand_augment' is for pictures, and the samples are counts"
    ):
        Augmentation(("rand_augment",), 0, frames=True)
    with pytest.raises(ConfigError, match=r"crop_pad is 2, .*Use augment=\('crop:2',\)"):
        Batches(split(FRAMES, True), 4, crop_pad=2)


def test_numbers_that_are_left_out_take_their_defaults():
    assert parse_change("affine:20")[1] == (20, 0.1, 0.9, 1.1)
    assert parse_change("flip")[1] == (0.5,)
    assert parse_change("rotate:7.5")[1] == (7.5,)


def test_a_crop_is_no_larger_than_the_picture():
    for pad in (9, 10**9):
        with pytest.raises(
            ConfigError, match=f"crop_pad is {pad}, and the samples have 8 x 7 pixels"
        ):
            Batches(split(PICTURES), 4, crop_pad=pad)
    with pytest.raises(
        ConfigError, match="crop is 9, and the samples have 8 x 7 .*expected 0 to 8"
    ):
        batches(("crop:9",))
    assert batches(("crop:8",))[0].shape == PICTURES.shape
