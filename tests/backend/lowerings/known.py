"""Node cases that the lowerings fail, and why. A case that passes has to leave this list."""

_DRAWN = "numbers are drawn by numpy's generator"

KNOWN: dict[str, str] = {
    "test_bernoulli": _DRAWN,
    "test_bernoulli_double": _DRAWN,
    "test_bernoulli_double_expanded": _DRAWN,
    "test_bernoulli_expanded": _DRAWN,
    "test_bernoulli_seed": _DRAWN,
    "test_bernoulli_seed_expanded": _DRAWN,
    "test_training_dropout": _DRAWN,
    "test_training_dropout_default": _DRAWN,
    "test_training_dropout_default_mask": _DRAWN,
    "test_training_dropout_mask": _DRAWN,
}
