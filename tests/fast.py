"""What spares tests time and changes nothing of what they look at."""

import keras

# For `compile`: what XLA compiles comes on top of tracing. TensorFlow and torch can do without, JAX cannot.
FAST = {} if keras.backend.backend() == "jax" else {"jit_compile": False}
