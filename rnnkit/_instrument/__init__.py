"""Everything that reaches into Keras: loops, gates, training steps, optimizers, precision, and checks of models."""
