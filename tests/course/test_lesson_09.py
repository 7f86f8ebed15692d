"""The exercises of lesson 09: any sound cure passes, what does not cure is told why, and the patients are ill."""

import keras
import numpy as np
import pytest

import rnnkit
from rnnkit import clinic
from rnnkit.course.exercises import catalogue, evaluate, lesson_09
from rnnkit.course.exercises.lesson_09 import CURES, DIAGNOSES

GateBias = rnnkit.initializers.GateBias


@pytest.fixture(autouse=True)
def _one_training(monkeypatch):
    """One training a check, for time; the notebooks' own runs make both."""
    monkeypatch.setattr(lesson_09, "SEEDS", (0,))


def expect(name, answer, status, words=""):
    outcome = evaluate(name, answer)
    assert outcome.status == status, outcome.message
    assert words in outcome.message


def compiled(layers, optimizer):
    model = keras.Sequential(layers)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


# --- diagnoses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [DIAGNOSES, "dgiaehbc", list("DGIAEHBC"), {n: f"({a})" for n, a in DIAGNOSES.items()}]
)
def test_diagnoses_right(answer):
    expect("diagnoses", answer, "correct", "All eight")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (DIAGNOSES | {1: "a"}, "where do its states stand"),
        (DIAGNOSES | {8: "a", 4: "c"}, "6 of 8 are right: 1, 2, 3, 5, 6, 7"),
        (DIAGNOSES | {6: "c"}, "grey band"),
        (DIAGNOSES | {3: "k"}, "letters a to j"),
        ("dgi", "number of each patient"),
        (7, "number of each patient"),
        (DIAGNOSES | {5: ...}, "dotted lines"),
        (DIAGNOSES | {8: "a"}, "about 0.6 of the gradient"),
    ],
)
def test_diagnoses_wrong(answer, words):
    expect("diagnoses", answer, "not yet", words)


# --- patients and their cures ---------------------------------------------------------------------------------------


def shallow(seed):
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((64,)), keras.layers.Dense(32, "tanh"), keras.layers.Dense(10)]
    return compiled(layers, keras.optimizers.SGD(0.05, momentum=0.9))


def causal_convolution(seed):
    keras.utils.set_random_seed(seed)
    convolution = keras.layers.Conv1D(32, 3, padding="causal", activation="relu")
    layers = [keras.Input((20,), dtype="int32"), keras.layers.Embedding(96, 16), convolution, keras.layers.Dense(96)]
    return compiled(layers, keras.optimizers.Adam(0.01))


def looking_ahead(seed):
    keras.utils.set_random_seed(seed)
    convolution = keras.layers.Conv1D(32, 3, padding="same", activation="relu")
    layers = [keras.Input((20,), dtype="int32"), keras.layers.Embedding(96, 16), convolution, keras.layers.Dense(96)]
    return compiled(layers, keras.optimizers.Adam(0.01))


def gru_that_keeps(seed):
    keras.utils.set_random_seed(seed)
    rnn = keras.layers.GRU(32, bias_initializer=GateBias(update=3.0))
    return compiled([keras.Input((24, 4)), rnn, keras.layers.Dense(4)], keras.optimizers.Adam(0.005))


def adam(seed):
    keras.utils.set_random_seed(seed)
    optimizer = keras.optimizers.Adam(0.005, global_clipnorm=0.001)
    return compiled([keras.Input((8, 8)), keras.layers.GRU(32), keras.layers.Dense(10)], optimizer)


def pooled(seed):
    keras.utils.set_random_seed(seed)
    rnn, pool = keras.layers.GRU(32, return_sequences=True), keras.layers.GlobalMaxPooling1D()
    layers = [keras.Input((40,), dtype="int32"), keras.layers.Embedding(13, 8), rnn, pool, keras.layers.Dense(4)]
    return compiled(layers, keras.optimizers.Adam(0.01))


def smaller_rate(seed):
    keras.utils.set_random_seed(seed)
    return compiled(
        [keras.Input((20, 6)), keras.layers.SimpleRNN(32), keras.layers.Dense(4)], keras.optimizers.Adam(0.003)
    )


def plain_and_orthogonal(seed):
    keras.utils.set_random_seed(seed)
    rnn = keras.layers.SimpleRNN(32)
    return compiled([keras.Input((30, 4)), rnn, keras.layers.Dense(4)], keras.optimizers.Adam(0.005))


def normalised(seed):
    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((8, 8)),
        keras.layers.LayerNormalization(),
        keras.layers.SimpleRNN(32),
        keras.layers.Dense(10),
    ]
    return compiled(layers, keras.optimizers.SGD(0.1))


OTHER_CURES = {
    1: normalised, 2: shallow, 3: causal_convolution, 4: gru_that_keeps,
    5: adam, 6: pooled, 7: smaller_rate, 8: plain_and_orthogonal,
}  # fmt: skip


@pytest.mark.parametrize("number", CURES)
def test_the_cure_that_is_shown_cures(number):
    expect(f"patient_{number}", catalogue()[f"patient_{number}"].reference, "correct", "Proved")


@pytest.mark.parametrize("number", OTHER_CURES)
def test_other_cures_count_too(number):
    expect(f"patient_{number}", OTHER_CURES[number], "correct", "Proved")


def test_a_patient_with_dropout_is_no_longer_the_one_that_came_in():
    expect(
        "patient_3",
        text(lambda: keras.layers.Bidirectional(keras.layers.GRU(32, return_sequences=True, dropout=0.2))),
        "not yet",
        "look ahead",
    )


@pytest.mark.parametrize("number", clinic.PATIENTS)
def test_a_patient_as_it_came_in_is_no_attempt(number):
    expect(f"patient_{number}", clinic.PATIENTS[number].make, "not attempted yet", "as it came in")


def slower(make):
    """The patient with a third of its learning rate: changed, not cured."""

    def patient(seed):
        model = make(seed)
        model.optimizer.learning_rate = float(model.optimizer.learning_rate) / 3
        return model

    return patient


def keras_default(seed):
    keras.utils.set_random_seed(seed)
    rnn = keras.layers.LSTM(32)
    return compiled([keras.Input((30, 4)), rnn, keras.layers.Dense(4)], keras.optimizers.Adam(0.005))


@pytest.mark.parametrize(
    ("number", "answer", "words"),
    [
        (1, slower(clinic.patient_1), "saturate"),
        (2, slower(clinic.patient_2), "first layer"),
        (3, looking_ahead, "look ahead"),
        (4, slower(clinic.patient_4), "path over 23 steps"),
        (5, slower(clinic.patient_5), "after clipping"),
        (8, slower(clinic.patient_8), "bias of that gate"),
        (8, keras_default, "passes with some seeds"),
    ],
)
def test_what_does_not_cure(number, answer, words):
    expect(f"patient_{number}", answer, "not yet", words)


def made(*layers, optimizer):
    """A model's function of the seed, from functions without arguments that make its layers and its optimizer."""

    def patient(seed):
        keras.utils.set_random_seed(seed)
        return compiled([layer() for layer in layers], optimizer())

    return patient


def digits_by_row(*layers, optimizer=lambda: keras.optimizers.SGD(0.1)):
    return made(lambda: keras.Input((8, 8)), *layers, lambda: keras.layers.Dense(10), optimizer=optimizer)


def text(*layers):
    first = (lambda: keras.Input((20,), dtype="int32"), lambda: keras.layers.Embedding(96, 16))
    return made(*first, *layers, lambda: keras.layers.Dense(96), optimizer=lambda: keras.optimizers.Adam(0.01))


def short_words(layer, **settings):
    first = (lambda: keras.Input((40,), dtype="int32"), lambda: keras.layers.Embedding(13, 8))
    return made(*first, layer, lambda: keras.layers.Dense(4), optimizer=lambda: keras.optimizers.Adam(0.01, **settings))


def sixteen_layers(activation="tanh", **settings):
    def dense():
        return keras.layers.Dense(32, activation, kernel_initializer=keras.initializers.RandomNormal(stddev=0.1))

    optimizer = {"learning_rate": 0.05, "momentum": 0.9} | settings
    layers = [lambda: keras.Input((64,)), *[dense] * 16, lambda: keras.layers.Dense(10)]
    return made(*layers, optimizer=lambda: keras.optimizers.SGD(**optimizer))


def two_marks(kernel, optimizer):
    rnn = [lambda: keras.Input((20, 6)), lambda: keras.layers.SimpleRNN(32, recurrent_initializer=kernel())]
    return made(*rnn, lambda: keras.layers.Dense(4), optimizer=optimizer)


def large():
    return keras.initializers.Orthogonal(1.5)


@pytest.mark.thorough  # one training each; what is said to them is in the test above
@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (1, digits_by_row(lambda: keras.layers.SimpleRNN(48))),
        (1, digits_by_row(lambda: keras.layers.Rescaling(0.1), lambda: keras.layers.SimpleRNN(32))),
        (
            1,
            digits_by_row(
                lambda: keras.layers.SimpleRNN(32), optimizer=lambda: keras.optimizers.SGD(0.1, global_clipnorm=1.0)
            ),
        ),
        (2, sixteen_layers("relu")),
        (2, sixteen_layers(global_clipnorm=1.0)),
        (2, sixteen_layers(learning_rate=0.5)),
        (3, text(lambda: keras.layers.Bidirectional(keras.layers.LSTM(32, return_sequences=True)))),
        (3, text(lambda: keras.layers.Bidirectional(keras.layers.GRU(32, return_sequences=True, dropout=0.2)))),
        (3, text(lambda: keras.layers.GRU(32, return_sequences=True, go_backwards=True))),
        *(
            (
                5,
                digits_by_row(
                    lambda: keras.layers.GRU(32), optimizer=lambda given=given: keras.optimizers.SGD(**given)
                ),
            )
            for given in (
                {"learning_rate": 0.3, "global_clipnorm": 0.002},
                {"learning_rate": 0.6, "global_clipnorm": 0.001},
                {"learning_rate": 0.3, "clipnorm": 0.001},
            )
        ),
        (6, short_words(lambda: keras.layers.LSTM(32))),
        (6, short_words(lambda: keras.layers.GRU(32), global_clipnorm=1.0)),
        (6, short_words(lambda: keras.layers.GlobalAveragePooling1D())),
        (7, two_marks(large, lambda: keras.optimizers.SGD(1.0))),
        (7, two_marks(large, lambda: keras.optimizers.SGD(0.3, global_clipnorm=0.001))),
        (7, two_marks(lambda: keras.initializers.RandomNormal(stddev=0.02), lambda: keras.optimizers.SGD(0.3))),
        (8, slower(keras_default)),
    ],
)
def test_more_that_does_not_cure(number, answer):
    expect(f"patient_{number}", answer, "not yet", "prove a cure")


def uncompiled(seed):
    return keras.Sequential([keras.Input((24, 4)), keras.layers.SimpleRNN(32), keras.layers.Dense(4)])


def too_large(seed):
    layers = [keras.Input((24, 4)), keras.layers.SimpleRNN(300), keras.layers.Dense(4)]
    return compiled(layers, "adam")


def other_length(seed):
    return compiled([keras.Input((10, 4)), keras.layers.SimpleRNN(32), keras.layers.Dense(4)], "adam")


def wrong_head(seed):
    return compiled([keras.Input((24, 4)), keras.layers.SimpleRNN(32), keras.layers.Dense(3)], "adam")


def bug(seed):
    return compiled([keras.Input((24, 4)), keras.layers.SimpleRNN(32, "thanh")], "adam")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (gru_that_keeps(0), "without calling it"),
        (uncompiled, "not compiled"),
        (too_large, "25,000 are allowed"),
        (other_length, "not yours to change"),
        (lambda seed: 3, "compiled Keras model"),
        (bug, "thanh"),
    ],
)
def test_what_is_no_cure_at_all(answer, words):
    expect("patient_4", answer, "not yet", words)


# --- unseen tasks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", clinic.UNSEEN)
def test_the_reference_design_does(name):
    expect(f"unseen_{name}", catalogue()[f"unseen_{name}"].reference, "correct", "updates: at least")


def one_direction(seed):
    keras.utils.set_random_seed(seed)
    rnn = keras.layers.GRU(16, return_sequences=True)
    layers = [keras.Input((24,), dtype="int32"), keras.layers.Embedding(8, 8), rnn, keras.layers.Dense(3)]
    return compiled(layers, keras.optimizers.Adam(0.01))


def backwards_only(seed):
    keras.utils.set_random_seed(seed)
    rnn = keras.layers.GRU(16, return_sequences=True, go_backwards=True)
    layers = [keras.Input((24,), dtype="int32"), keras.layers.Embedding(8, 8), rnn, keras.layers.Dense(3)]
    return compiled(layers, keras.optimizers.Adam(0.01))


def plain_stack(seed):
    keras.utils.set_random_seed(seed)
    rnns = [keras.layers.GRU(20, return_sequences=True) for _ in range(4)]
    layers = [keras.Input((16,), dtype="int32"), keras.layers.Embedding(3, 20), *rnns, keras.layers.Dense(3)]
    return compiled(layers, keras.optimizers.Adam(0.01))


def short_memory(seed):
    keras.utils.set_random_seed(seed)
    small = keras.initializers.RandomNormal(stddev=0.05)
    rnn = keras.layers.SimpleRNN(32, recurrent_initializer=small)
    return compiled([keras.Input((50, 6)), rnn, keras.layers.Dense(4)], keras.optimizers.Adam(0.01))


def far(layer):
    return made(
        lambda: keras.Input((50, 6)),
        layer,
        lambda: keras.layers.Dense(4),
        optimizer=lambda: keras.optimizers.Adam(0.01),
    )


def sums(*layers):
    first = (lambda: keras.Input((16,), dtype="int32"), lambda: keras.layers.Embedding(3, 16))
    optimizer = lambda: keras.optimizers.Adam(0.01, global_clipnorm=1.0)  # noqa: E731
    return made(*first, *layers, lambda: keras.layers.Dense(3), optimizer=optimizer)


def flipped_back(seed):
    keras.utils.set_random_seed(seed)
    x = keras.Input((24,), dtype="int32")
    h = keras.layers.GRU(16, return_sequences=True, go_backwards=True)(keras.layers.Embedding(8, 8)(x))
    model = keras.Model(x, keras.layers.Dense(3)(keras.ops.flip(h, axis=1)))
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "answer"),
    [
        (
            "far",
            far(lambda: keras.layers.LSTM(32, unit_forget_bias=False, bias_initializer=GateBias(forget=3.0))),
        ),
        ("ahead", flipped_back),
        ("sums", sums(lambda: keras.layers.GRU(32, return_sequences=True))),
    ],
)
def test_another_design_does(name, answer):
    expect(f"unseen_{name}", answer, "correct", "updates: at least")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("far", far(lambda: keras.layers.LSTM(32, unit_forget_bias=False))),
        ("far", far(lambda: keras.layers.GlobalAveragePooling1D())),
        ("sums", sums()),
        ("sums", sums(lambda: keras.layers.Conv1D(24, 3, padding="causal", activation="relu"))),
        ("sums", sums(lambda: keras.layers.GRU(4, return_sequences=True))),
    ],
)
def test_more_poor_designs(name, answer):
    expect(f"unseen_{name}", answer, "not yet", "are asked for")


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("ahead", one_direction, "Which direction"),
        ("ahead", backwards_only, "flip them back"),
        ("sums", plain_stack, "a plain stack"),
        ("far", short_memory, "so far"),
    ],
)
def test_a_poor_design_is_told_why(name, answer, words):
    expect(f"unseen_{name}", answer, "not yet", words)


def test_a_smaller_model_trains_for_longer():
    small, large = (
        compiled([keras.Input((24,), dtype="int32"), keras.layers.Embedding(8, size), keras.layers.Dense(3)], "adam")
        for size in (300, 3000)
    )
    steps = [clinic.updates("ahead", model) for model in (small, large)]
    assert steps == [min(300, 600_000 // model.count_params()) for model in (small, large)]
    assert steps[0] > steps[1]


def enormous(seed):
    layers = [keras.Input((24,), dtype="int32"), keras.layers.Embedding(8, 9_000), keras.layers.Dense(3)]
    return compiled(layers, "adam")


def test_a_model_that_eats_the_budget_is_refused():
    expect("unseen_ahead", enormous, "not yet", "of a budget of 600,000")


# --- the clinic itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", clinic.CASES)
def test_training_and_test_sets_are_of_one_kind_and_the_model_fits_them(name):
    (x, y), (x_test, y_test) = clinic.data(name)
    assert x.shape[1:] == x_test.shape[1:]
    assert y.shape[1:] == y_test.shape[1:]
    make = clinic.CASES[name].make or catalogue()[f"unseen_{name}"].reference
    model = make(0)
    assert model.count_params() <= clinic.CASES[name].weights
    scores = model.predict(x_test[:2], verbose=0)
    assert scores.shape[:-1] == y_test[:2].shape
    assert y.max() < scores.shape[-1]


def test_next_mark_and_sum_of_sums_against_a_slow_reading():
    x, y = clinic._next_mark(50, seed=3)
    for symbols, answers in zip(x, y, strict=True):
        for step, answer in enumerate(answers):
            marks = [symbol for symbol in symbols[step:] if symbol < 2]
            assert answer == (marks[0] if marks else 2)
    x, y = clinic._sum_of_sums(50, seed=3)
    for symbols, answers in zip(x, y, strict=True):
        one = two = 0
        for symbol, answer in zip(symbols, answers, strict=True):
            one += symbol
            two += one
            assert answer == two % 3


def test_short_words_are_padded_at_the_end_and_asked_for_their_first_letter():
    x, y = clinic._short_words(300, seed=3)
    lengths = (x > 0).sum(axis=1)
    assert set(lengths) == set(range(4, 8))
    assert all((row[:length] > 0).all() and not row[length:].any() for row, length in zip(x, lengths, strict=True))
    np.testing.assert_array_equal(y, (x[:, 0] + 2) // 3 - 1)


def test_with_the_future_unknown_an_oracle_of_the_future_is_worth_nothing_and_one_of_the_past_all():
    class Oracle:
        """Says what it reads `ahead` steps on."""

        def __init__(self, ahead):
            self.ahead = ahead

        def predict(self, x, **_):
            return np.eye(96)[np.roll(x, -self.ahead, axis=1)]

    x, y = clinic.data(3)[1]
    assert (Oracle(1).predict(x)[:, :-1].argmax(-1) == y[:, :-1]).all()
    assert clinic.accuracy(3, Oracle(1)) < 0.15
    assert clinic.accuracy(3, Oracle(0)) == pytest.approx((x == y).mean(), abs=0.03)


@pytest.mark.slow
def test_a_chart_is_what_training_by_hand_gives():
    measured = clinic.chart(0, 4)
    model = clinic.patient_4(0)
    (x, y), _ = clinic.data(4)
    rows = np.random.default_rng(0).permutation(len(x))[:32]
    first = model.evaluate(x[rows], y[rows], verbose=0)
    assert measured["loss"][0] == pytest.approx(first, rel=1e-4)
    steps = clinic.PATIENTS[4].updates
    assert np.isfinite(measured["loss"][:steps]).all()
    assert np.isnan(measured["loss"][steps:]).all()
    assert np.isfinite(measured["norms"][:3, :steps]).all()
    assert np.isfinite(measured["trace"]).sum() == 24


# --- drawing, choices, quiz -----------------------------------------------------------------------------------------


def softmax(scores):
    return np.exp(scores - max(scores)) / np.exp(scores - max(scores)).sum()


def by_loop(scores, temperature, u):
    shares, total = softmax(np.asarray(scores) / temperature), 0.0
    for index, share in enumerate(shares):
        total += share
        if u < total:
            return index
    return len(scores) - 1


def by_counting(scores, temperature, u):
    return np.sum(np.cumsum(softmax(scores / temperature)) < u)


OWN = np.random.default_rng(0)


@pytest.mark.parametrize("answer", [by_loop, by_counting])
def test_draw_right(answer):
    expect("draw_character", answer, "correct")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda scores, temperature, u: int(np.argmax(scores)), "largest score"),
        (lambda scores, temperature, u: np.random.default_rng(0).integers(4), "`u` has no effect"),
        (lambda scores, temperature, u: OWN.choice(4, p=softmax(scores / temperature)), "random number of your own"),
        (lambda scores, temperature, u: by_counting(scores, 1, u), "temperature has no effect"),
        (
            lambda scores, temperature, u: min(3, np.sum(np.cumsum(softmax(scores) / temperature) < u)),
            "you divide the probabilities",
        ),
        (
            lambda scores, temperature, u: np.searchsorted(np.cumsum(np.exp(scores / temperature)), u),
            "always return index 0",
        ),
        (
            lambda scores, temperature, u: np.searchsorted(np.cumsum(np.exp((scores - scores.max()) / temperature)), u),
            "do not add up to 1",
        ),
        (lambda scores, temperature, u: by_counting(scores, temperature, u) - 1, "from 0 to 3; received -1"),
        (lambda scores, temperature, u: by_counting(scores, 1 / temperature, u), "upside down"),
        (
            lambda scores, temperature, u: np.searchsorted(
                np.cumsum(np.exp(scores / temperature) / np.exp(scores / temperature).sum()), u
            ),
            "subtract",
        ),
        (lambda scores, temperature, u: softmax(scores / temperature), "one index"),
        (lambda scores, temperature, u: by_counting(scores, temperature, u) + 2, "lies from 0 to 3"),
    ],
)
def test_draw_wrong(answer, words):
    outcome = evaluate("draw_character", answer)
    assert outcome.status == "not yet"
    assert words in outcome.message.lower()


@pytest.mark.parametrize(
    ("answer", "words"), [("a", "add up to 1"), ("c", "every further step"), ("d", "letters a, b, c")]
)
def test_length_wrong(answer, words):
    expect("twice_as_long", answer, "not yet", words)


@pytest.mark.parametrize("answer", ["b", " (B) "])
def test_length_right(answer):
    expect("twice_as_long", answer, "correct", "1/T")
