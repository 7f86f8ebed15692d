"""What the lecture says, sentence by sentence, in our words. A claim names the sentence that it measures by its key."""

SENTENCES = {
    # Vanishing gradients
    "vanishing-cause": (
        "Back in time the gradient is a product of one matrix a step; where these are small, it vanishes."
    ),
    "vanishing-problem": (
        "A signal from far away is lost beside one from close by: a model learns near effects, not far ones. And no "
        "gradient can mean no dependency, or wrong weights."
    ),
    "vanishing-tickets": (
        "A language model has to carry a word such as 'tickets' over many others. If the gradient is small, it cannot "
        "learn this dependency, and so cannot predict similar ones."
    ),
    "vanishing-agreement": (
        "Because gradients vanish, RNN language models learn sequential recency better than syntactic recency, and go "
        "by the nearest noun more often than we would like."
    ),
    # LSTM and GRU
    "lstm": (
        "The LSTM makes it easier to preserve information over many steps: for instance, with its forget gate set to "
        "remember everything it keeps its content, while a plain RNN has to learn a kernel that does."
    ),
    "lstm-no-guarantee": "The LSTM does not guarantee that no gradient vanishes or explodes.",
    "gru": "The GRU is a simpler alternative to the LSTM, without a cell state.",
    "rule-of-thumb": (
        "LSTM is a good default, especially if the data have particularly long dependencies or there is a lot of "
        "training data; switch to GRU for speed and fewer parameters."
    ),
    # Exploding gradients
    "exploding-why": (
        "If the gradient is too big, so is the step of gradient descent: a bad update, a large loss, Inf or NaN."
    ),
    "clipping": (
        "Gradient clipping scales a gradient down whose norm is above a threshold: a step in the same direction, but a "
        "smaller one."
    ),
    # Not only RNNs
    "not-only-rnns": "Vanishing gradients trouble all deep networks: their lower layers learn very slowly.",
    "residual": "Residual connections make deep networks much easier to train.",
    "dense": "So do dense connections, from each layer to all that follow.",
    "highway": "So do highway connections, whose gate comes from the LSTM.",
    "rnns-unstable": "RNNs are particularly unstable, for they multiply by the same matrix again and again.",
    # Bidirectional RNNs
    "bidirectional-why": "A word's meaning can hang on what follows it: a bidirectional RNN sees both sides.",
    "bidirectional-not-lm": "Bidirectional RNNs need the whole input: they are of no use for language modelling.",
    # Stacked RNNs
    "stacked-features": "Lower layers of a stacked RNN compute lower-level features, higher layers higher-level ones.",
    "stacked-practice": "RNNs that do well in practice are stacked, 2 to 4 layers deep.",
    "stacked-skips": "Deeper ones need skip connections or dense connections.",
}

# A verdict written by hand, where counting the claims for and against would judge less than the sentence says.
VERDICTS = {
    "vanishing-agreement": (
        "cannot be told from this: the lecture speaks of language models, and these networks choose between two verbs"
    ),
    "lstm": "borne out under its condition, an open forget gate; no plain RNN was trained beside it",
    "rule-of-thumb": (
        "cannot be told from this: fewer parameters, yes; but neither long dependencies nor much data were tried, and "
        "time was measured on one CPU core"
    ),
}
