"""The mutants: each is one wrong line, of the kind that people write, and the tests that have to notice it."""

from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parents[2] / "tests"


class Mutant(NamedTuple):
    """One way in which the library could be wrong.

    Args:
        what: the mistake, in a few words.
        file: the module it is made in, below `rnnkit/`.
        old: text that stands in it exactly once.
        new: what stands there instead.
        tests: ids of the tests that should fail; no two files of tests have the same name, so that it is enough.
    """

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, package):
        """Make the mistake in a copy of the package.

        Args:
            package: folder of that copy.

        Raises:
            ValueError: if the old text does not stand there exactly once: the mutant has to follow its module.
        """
        path = Path(package) / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(
                f"A mutant's old text stands exactly once in its file. Received: {self.what!r}, whose text stands "
                f"{text.count(self.old)} times in {self.file}. Write the mistake anew for the module as it is now."
            )
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


def found(file):
    """Return where a file of tests lies, by its name."""
    (path,) = TESTS.rglob(file)
    return path


_NORMS = "test_recorders.py::test_norms_are_those_of_the_gradients_used_before_and_after_clipping"
_ANGLE = "test_recorders.py::test_angle_between_the_step_before_clipping_and_after"
_MEASURES = "test_recorders.py::test_measures_are_those_of_the_gradients_and_of_the_change"
_ACCUMULATION = "test_recorders.py::test_accumulation_shows_each_step_and_what_became_of_their_mean"
_DIFFERENCES = "test_every_model.py::test_state_gradients_are_central_differences_of_nudged_forward_passes"
_GATES = "test_gates.py::test_gates_are_those_of_the_published_equations"
_GATE_RECORDER = "test_gates.py::TestGateRecorder"
_FLOW_RECORDER = "test_recorders.py::TestStateGradientRecorder"
_OPTIMIZERS = "test_training_modes.py::test_every_optimizer_trains_as_without_a_recorder_and_shows_its_gradients"
_CHANGES = "test_updates.py::test_what_a_callback_changes_changes_the_same_with_a_recorder"
_LAYERS = "test_layers.py::test_the_gru_does_what_its_docstring_says"

MUTANTS = [
    # --- the gradient recorder ---------------------------------------------------------------------------------------
    Mutant(
        "the gradient of the step after",
        "_backend/tensorflow.py",
        "self._step_of_row.scatter_nd_update([[place]], [self._step])",
        "self._step_of_row.scatter_nd_update([[place]], [self._step + 1])",
        (f"{_NORMS}[none]",),
    ),
    Mutant(
        "rows written one place further on",
        "_backend/tensorflow.py",
        "place = self._written % tf.shape(self._ring, tf.int64)[0]",
        "place = (self._written + 1) % tf.shape(self._ring, tf.int64)[0]",
        (f"{_NORMS}[none]",),
    ),
    Mutant(
        "the first row of each reading lost",
        "_backend/tensorflow.py",
        "places = np.arange(self._read + lost, written) % self.rows",
        "places = np.arange(self._read + lost + 1, written) % self.rows",
        (f"{_NORMS}[none]",),
    ),
    Mutant(
        "the log read when it has overflowed",
        "recorders/_row_reader.py",
        "nearly_full = 2 * self._calls_unread * self._rows_per_call >= self.buffer.rows",
        "nearly_full = self._calls_unread * self._rows_per_call > self.buffer.rows + 1",
        ("test_recorders.py::test_a_long_run_is_read_back_before_the_log_is_full",),
    ),
    Mutant(
        "rows lost where the recording grows",
        "recorders/_recording.py",
        "grown[: self._count] = self._rows[: self._count]",
        "grown[: self._count - 1] = self._rows[: self._count - 1]",
        ("test_recording_memory.py",),
    ),
    Mutant(
        "pre- and post-clip swapped",
        "recorders/_gradient_rows.py",
        '"norm": self._each(_backend.norm, update.gradients, update, missing=LEFT_ALONE),',
        '"norm": self._each(_backend.norm, update.used_and_clipped()[1], update, missing=LEFT_ALONE),',
        (f"{_ACCUMULATION}[clipnorm-compiling1]",),
    ),
    Mutant(
        "the norm after clipping taken before it",
        "recorders/_gradient_rows.py",
        '"clipped_norm": self._norms(clipped, update),',
        '"clipped_norm": self._norms(used, update),',
        (f"{_NORMS}[clipvalue]",),
    ),
    Mutant(
        "the names of the weights in another order than their norms",
        "recorders/_recording.py",
        "for name, view in zip(self.weights, views, strict=True)}",
        "for name, view in zip(self.weights[::-1], views, strict=True)}",
        (f"{_NORMS}[none]",),
    ),
    Mutant(
        "norms added up as if they were squares",
        "recorders/_gradient_rows.py",
        "return _backend.norm(ops.stack([_backend.norm(tensor) for tensor in tensors]))",
        "return ops.sum(ops.stack([_backend.norm(tensor) for tensor in tensors]))",
        (f"{_NORMS}[none]",),
    ),
    Mutant(
        "mean for sum in the norm",
        "_backend/__init__.py",
        "ops.sqrt(ops.sum(ops.square(tensor / scale), axis=axis, keepdims=True))",
        "ops.sqrt(ops.mean(ops.square(tensor / scale), axis=axis, keepdims=True))",
        (f"{_NORMS}[none]",),
    ),
    Mutant(
        "squares that underflow",
        "_backend/__init__.py",
        "scale = ops.where(ops.logical_and(ops.isfinite(largest), largest > 0), largest, ops.ones_like(largest))",
        "scale = ops.ones_like(largest)",
        ("test_recorders.py::test_a_norm_survives_where_its_squares_would_underflow_or_overflow",),
    ),
    Mutant(
        "float32 for float64 in the norm",
        "_backend/__init__.py",
        'if keras.backend.standardize_dtype(tensor.dtype) != "float64":',
        "if True:",
        ("test_precision.py::test_norms_are_those_of_the_gradients",),
    ),
    Mutant(
        "clipnorm as a floor instead of a ceiling",
        "recorders/_recording.py",
        "left[at] *= _scale(norms[at], bound)",
        "left[at] /= _scale(norms[at], bound)",
        (f"{_NORMS}[clipnorm]",),
    ),
    Mutant(
        "global_clipnorm stretches what is short",
        "recorders/_recording.py",
        "scale = bounds / np.maximum(norms, bounds)",
        "scale = bounds / norms",
        ("test_files.py::test_clipping_shortens_what_is_long_and_leaves_what_is_short",),
    ),
    Mutant(
        "each weight clipped by its own norm under global_clipnorm",
        "recorders/_recording.py",
        "left[at] *= _scale(self.global_norm[at], bound)",
        "left[at] *= _scale(norms[at], bound)",
        (f"{_NORMS}[global_clipnorm]",),
    ),
    Mutant(
        "the clip angle halved",
        "recorders/_recording.py",
        "np.degrees(2 * np.arcsin(np.minimum(chord / 2, 1)))",
        "np.degrees(np.arcsin(np.minimum(chord / 2, 1)))",
        (f"{_ANGLE}[clipnorm]",),
    ),
    Mutant(
        "the clip angle by the length of the step too",
        "recorders/_gradient_rows.py",
        "other / ops.cast(after, other.dtype)",
        "other / ops.cast(before, other.dtype)",
        (f"{_ANGLE}[clipvalue]",),
    ),
    Mutant(
        "gradients in units of the loss scale",
        "_instrument/optimizer_hook.py",
        "None if gradient is None else _unscaled(gradient, self.loss_scale) for gradient, _ in pairs",
        "None if gradient is None else gradient for gradient, _ in pairs",
        (f"{_OPTIMIZERS}[loss scaled by hand-eager]",),
    ),
    Mutant(
        "repeated rows of an Embedding not added up",
        "_backend/tensorflow.py",
        "return tf.convert_to_tensor(gradient)",
        'return getattr(gradient, "values", gradient)',
        ("test_recorders.py::test_a_repeated_index_of_an_embedding_is_summed_before_the_norm",),
    ),
    Mutant(
        "the sum of accumulated gradients for their mean",
        "_instrument/optimizer_hook.py",
        "(gradient + total) / steps",
        "(gradient + total)",
        (f"{_ACCUMULATION}[none-compiling0]",),
    ),
    Mutant(
        "the accumulated mean shown one step late",
        "_instrument/optimizer_hook.py",
        "ops.equal((ops.convert_to_tensor(_iteration(self.optimizer)) + 1) % steps, 0)",
        "ops.equal(ops.convert_to_tensor(_iteration(self.optimizer)) % steps, 0)",
        (f"{_ACCUMULATION}[none-compiling0]",),
    ),
    Mutant(
        "a row for a batch that never came",
        "_backend/tensorflow.py",
        "with tf.control_dependencies([row]):",
        "with tf.control_dependencies([]):",
        ("test_updates.py::test_data_that_ends_when_it_ends_has_a_row_for_each_batch[graph-filter]",),
    ),
    Mutant(
        "the step as it was traced before the model was compiled again",
        "_instrument/training_step.py",
        "self._original, self._step = train_function, None",
        "self._original, self._step = train_function, self._step",
        (f"{_CHANGES}[thaw-as an epoch begins]",),
    ),
    Mutant(
        "a train function made in a batch that has begun is not hooked",
        "_instrument/training_step.py",
        "            self.model.make_train_function(force)\n            self._stand_in_for(self.model.train_function)",
        "            self.model.make_train_function(force)",
        (f"{_CHANGES}[make_anew-after the recorder]",),
    ),
    Mutant(
        "the scales of float8 taken for weights",
        "_instrument/traversal.py",
        'if not getattr(variable, "overwrite_with_gradient", False)\n    }',
        "if True\n    }",
        ("test_updates.py::test_what_keras_overwrites_with_a_gradient_is_no_gradient",),
    ),
    Mutant(
        "an optimizer of one's own clipped a second time",
        "_instrument/optimizer_hook.py",
        "if (self.applies_now is not None or self.applied is not True) and _is_keras_own(self.optimizer):",
        "if True:",
        ("test_updates.py::test_clipping_that_remembers_is_done_once",),
    ),
    Mutant(
        "rows of an embedding clipped as if they were merged",
        "_instrument/optimizer_hook.py",
        "if clipping_follows(self.optimizer, self._replicas) and not (rule and sparse):",
        "if clipping_follows(self.optimizer, self._replicas):",
        ("test_updates.py::test_clipped_is_what_plain_descent_takes_from_the_weights[clipnorm-plain]",),
    ),
    Mutant(
        "nobody is told that nothing is recorded",
        "recorders/_gradients.py",
        "if self._batches == 1 and not self._rows.reached:",
        "if False:",
        ("test_training_loops.py::test_train_step_by_hand_between_callbacks_is_refused_and_nothing_is_left",),
    ),
    Mutant(
        "an update inside another counted twice",
        "_instrument/optimizer_hook.py",
        "self._local.update, self._local.inside = update, True",
        "self._local.update, self._local.inside = update, False",
        ("test_updates.py::test_clipped_is_what_plain_descent_takes_from_the_weights[none-lookahead]",),
    ),
    Mutant(
        "lost rows are not counted",
        "recorders/_row_reader.py",
        "        if lost:\n            warnings.warn(",
        "        if False:\n            warnings.warn(",
        ("test_training_loops.py::test_rows_that_find_no_room_are_counted",),
    ),
    Mutant(
        "the train function that was traced in a block stays",
        "_instrument/training_step.py",
        "model.train_function = None if compiled else before",
        "pass",
        ("test_training_loops.py::test_train_on_batch_in_a_block_leaves_the_model_its_own_train_function",),
    ),
    Mutant(
        "the change of a weight not by its size",
        "recorders/_gradient_rows.py",
        'parts["update_ratio"] = [change / weight for change, weight in norms]',
        'parts["update_ratio"] = [change for change, weight in norms]',
        (_MEASURES,),
    ),
    Mutant(
        "the largest entry without its sign taken off",
        "recorders/_gradient_rows.py",
        '"max": lambda gradient: ops.max(ops.abs(gradient)),',
        '"max": lambda gradient: ops.max(gradient),',
        (_MEASURES,),
    ),
    Mutant(
        "a histogram shifted by a bin",
        "recorders/_gradient_rows.py",
        "bins = ops.floor(ops.log10(size) - HISTOGRAM_EDGES[0]) + 1",
        "bins = ops.floor(ops.log10(size) - HISTOGRAM_EDGES[0])",
        (_MEASURES,),
    ),
    Mutant(
        "what is not zero counted as zero",
        "recorders/_gradient_rows.py",
        'ops.mean(ops.cast(ops.equal(gradient, 0), "float32"))',
        'ops.mean(ops.cast(ops.not_equal(gradient, 0), "float32"))',
        ("test_recorders.py::test_entries_that_are_zero_are_counted",),
    ),
    Mutant(
        "the last gradient that is not finite for the first",
        "recorders/_recording.py",
        "int(steps[rows[0]])",
        "int(steps[rows[-1]])",
        ("test_files.py::test_the_first_gradient_that_is_not_finite_is_named",),
    ),
    Mutant(
        "the norms of the table before clipping in both columns",
        "recorders/_recording.py",
        "[weight] * len(norms), norms, clipped[name]]",
        "[weight] * len(norms), norms, norms]",
        ("test_recorders.py::test_recording_is_saved_loaded_and_tabled",),
    ),
    # --- files -------------------------------------------------------------------------------------------------------
    Mutant(
        "pickles in a recording are opened",
        "recorders/_recording.py",
        "allow_pickle=False",
        "allow_pickle=True",
        ("test_files.py::test_a_pickle_in_a_recording_is_never_opened",),
    ),
    Mutant(
        "a file written in its place",
        "_files.py",
        "os.replace(scratch, target)",
        "target.write_bytes(scratch.read_bytes())",
        ("test_export.py", "test_files.py::test_a_disk_that_fails_leaves_the_older_file_and_nothing_else"),
    ),
    Mutant(
        "settings left out of what a kept run is known by",
        "sweeps/_cache.py",
        "fingerprint((same, settings, seed))",
        "fingerprint((same, seed))",
        ("test_sweep_cache.py::test_what_was_measured_is_read_again_to_the_bit",),
    ),
    Mutant(
        "a lesson with the outputs of its solution",
        "authoring/notebooks.py",
        "cell.outputs, cell.execution_count = [], None",
        "cell.execution_count = None",
        ("test_notebooks.py::test_a_lesson_is_its_solution_with_exercises_open",),
    ),
    Mutant(
        "a lesson with the answers in it",
        "authoring/notebooks.py",
        "elif begun:\n            stub_open = False",
        "elif begun:\n            lines.append(line)",
        ("test_notebooks.py::test_a_lesson_is_its_solution_with_exercises_open",),
    ),
    # --- state gradients, Jacobians, gates ---------------------------------------------------------------------------
    Mutant(
        "h for c in an LSTM",
        "_instrument/perturbation.py",
        "c = perturbed_c[0]\n",
        "c = perturbed_c[0] - delta_c\n",
        (f"{_DIFFERENCES}[sequential-False]",),
    ),
    Mutant(
        "the perturbations of h and c swapped",
        "_instrument/perturbation.py",
        "delta_h, delta_c, *others = deltas",
        "delta_c, delta_h, *others = deltas",
        (f"{_DIFFERENCES}[sequential-False]",),
    ),
    Mutant(
        "the path through the output alone",
        "_instrument/perturbation.py",
        "return after, moved",
        "return after, new",
        (f"{_DIFFERENCES}[initial state made from an input-False]",),
    ),
    Mutant(
        "the path through the next state alone",
        "_instrument/perturbation.py",
        "return after, moved",
        "return output, moved",
        (f"{_DIFFERENCES}[initial state made from an input-False]",),
    ),
    Mutant(
        "the mask ignored",
        "_instrument/rnn_loop.py",
        "mask = keras.tree.flatten(mask)[0] if mask is not None else None",
        "mask = None",
        ("test_probes.py::test_masked_steps_hold_zero_and_the_others_what_the_short_sequence_has",),
    ),
    Mutant(
        "dL/dc_t of a cell of one's own without what reads c_t in its gates",
        "_instrument/perturbation.py",
        'candidate = c + delta_c - gates()["forget"] * before[1]',
        'candidate = c + 0 * delta_c - gates()["forget"] * before[1]',
        ("test_own_cells.py::test_state_gradients_of_an_lstm_of_ones_own_are_central_differences_of_its_equations",),
    ),
    Mutant(
        "gates named by the order of the calls, whatever the equations say",
        "_instrument/gate_capture.py",
        "for order in permutations(_GATES[kind][0])",
        "for order in [_GATES[kind][0]]",
        ("test_own_cells.py::test_gates_of_an_lstm_of_ones_own_have_the_names_of_its_equations[forget gate first]",),
    ),
    Mutant(
        "the arrays of a dict taken in the order of the alphabet",
        "_instrument/batch.py",
        "pairs = [(named[name], tensor) for name, tensor in zip(names, declared, strict=True)]",
        "pairs = [(named[name], tensor) for name, tensor in zip(sorted(names), declared, strict=True)]",
        ("test_probe_batches.py::test_inputs_are_found_by_their_names_in_any_order[False]",),
    ),
    Mutant(
        "dropout off in what runs as in training",
        "probes/_states.py",
        "prediction = model(x, training=training)",
        "prediction = model(x, training=False)",
        ("test_every_model.py::test_dropout_is_drawn_alike_each_time_until_training_goes_on",),
    ),
    Mutant(
        "sample weights ignored",
        "probes/_states.py",
        "model.compute_loss(x, y, prediction, sample_weight)",
        "model.compute_loss(x, y, prediction)",
        ("test_probes.py::test_sample_weights_scale_the_gradient_of_their_example",),
    ),
    Mutant(
        "a sum over the batch for a mean",
        "probes/_states.py",
        "ops.mean(_backend.norm(g, axis=-1), axis=0)",
        "ops.sum(_backend.norm(g, axis=-1), axis=0)",
        (f"{_FLOW_RECORDER}::test_records_the_probe_before_the_steps_it_names",),
    ),
    Mutant(
        "the norm of the mean for the mean of the norms",
        "probes/_states.py",
        "ops.mean(_backend.norm(g, axis=-1), axis=0)",
        "_backend.norm(ops.mean(g, axis=0), axis=-1)",
        (f"{_FLOW_RECORDER}::test_records_the_probe_before_the_steps_it_names",),
    ),
    Mutant(
        "float32 for float64 in a layer",
        "_instrument/precision.py",
        'yield layer, "_dtype_policy", _Policy(dtype, layer.variable_dtype)',
        'yield layer, "_dtype_policy", _Policy("float32", layer.variable_dtype)',
        ("test_precision.py::test_a_thousand_steps_hold_no_spurious_zero[GRU]",),
    ),
    Mutant(
        "Jacobians transposed",
        "probes/_jacobians.py",
        "return jacobians.reshape(batch, time, total, total)",
        "return jacobians.reshape(batch, time, total, total).swapaxes(-1, -2)",
        ("test_probes.py::test_joint_jacobians_are_central_differences_of_the_cell[GRU]",),
    ),
    Mutant(
        "Jacobians of a backward layer in reading order",
        "probes/_jacobians.py",
        "return jacobians[:, ::-1] if recurrent.go_backwards else jacobians",
        "return jacobians",
        ("test_probes.py::test_joint_jacobians_are_central_differences_of_the_cell[LSTM, backwards]",),
    ),
    Mutant(
        "the last steps left out where Jacobians are measured in parts",
        "probes/_jacobians.py",
        "size = -(-steps // parts)",
        "size = steps // parts",
        ("test_probes.py::test_jacobians_in_parts_are_those_measured_at_once",),
    ),
    Mutant(
        "the mask ignored in Jacobians",
        "probes/_jacobians.py",
        "jacobians[~trajectory.present] = np.eye(total)",
        "pass",
        ("test_probes.py::test_masked_steps_are_the_identity_jacobian",),
    ),
    Mutant(
        "c asked for, h measured",
        "probes/_jacobians.py",
        "start = sum(sizes[: names.index(state)])",
        "start = 0",
        ("test_probes.py::test_the_block_of_a_state_is_its_own",),
    ),
    Mutant(
        "singular values off by one in time",
        "probes/_spectra.py",
        'jacobians[:, 1:], state_slice(recurrent, "h")',
        'jacobians[:, :-1], state_slice(recurrent, "h")',
        ("test_probes.py::test_singular_values_are_those_of_the_plain_product",),
    ),
    Mutant(
        "singular values of a backward layer in reading order",
        "probes/_spectra.py",
        "logs = logs[:, ::-1] if recurrent.go_backwards else logs",
        "logs = logs * 1",
        ("test_probes.py::test_singular_values_of_a_backward_layer_end_at_the_first_input",),
    ),
    Mutant(
        "a kernel transposed in the chain",
        "probes/_graded_svd.py",
        "_row_sorted_qr(directions.swapaxes(-1, -2) @ basis)",
        "_row_sorted_qr(directions @ basis)",
        ("test_spectrum.py::test_values_are_those_of_a_product_with_many_digits",),
    ),
    Mutant(
        "Lyapunov exponents by one step too few",
        "probes/_spectra.py",
        "_graded_svd.last_log_singular_values(jacobians) / jacobians.shape[1]",
        "_graded_svd.last_log_singular_values(jacobians) / (jacobians.shape[1] - 1)",
        ("test_spectrum.py",),
    ),
    Mutant(
        "gates permuted",
        "_instrument/gate_capture.py",
        '["input", "forget", "output"]',
        '["forget", "input", "output"]',
        (f"{_GATES}[LSTM]",),
    ),
    Mutant(
        "backward index of the gates not flipped",
        "_instrument/gate_capture.py",
        "values = ops.flip(values, axis=1) if self._layer.go_backwards else values",
        "values = values * 1",
        (f"{_GATES}[GRU, backwards]",),
    ),
    Mutant(
        "masked gates of 0 for NaN",
        "_instrument/gate_capture.py",
        'ops.cast(keras.tree.flatten(mask)[0], "bool")[..., None], values, float("nan"))',
        'ops.cast(keras.tree.flatten(mask)[0], "bool")[..., None], values, 0.0)',
        ("test_gates.py::test_masked_steps_are_nan_and_the_others_are_those_of_the_short_sequence[GRU-False]",),
    ),
    Mutant(
        "quantiles swapped",
        "_instrument/gate_capture.py",
        "for share in (LOW, HIGH)",
        "for share in (HIGH, LOW)",
        (f"{_GATE_RECORDER}::test_records_the_statistics_of_the_probe_before_the_steps_it_names",),
    ),
    Mutant(
        "masked steps counted",
        "_instrument/gate_capture.py",
        "count = np.count_nonzero(~np.isnan(flat), axis=1)",
        "count = np.full(len(flat), flat.shape[1])",
        (f"{_GATE_RECORDER}::test_masked_steps_do_not_count",),
    ),
    Mutant(
        "the wrong rows for saturation",
        "recorders/_gates.py",
        "np.stack([statistics.closed, statistics.opened])",
        "np.stack([statistics.high, statistics.closed])",
        (f"{_GATE_RECORDER}::test_records_the_statistics_of_the_probe_before_the_steps_it_names",),
    ),
    Mutant(
        "one step counted where several were taken",
        "recorders/_probe_batch.py",
        "self._step += batch - self._begun + 1",
        "self._step += 1",
        (f"{_FLOW_RECORDER}::test_several_steps_an_execution_record_at_the_next_chance",),
    ),
    Mutant(
        "the training batch's dL/dh in units of the loss scale",
        "recorders/_training_batch.py",
        "ops.cast(norms / update.loss_scale,",
        "ops.cast(norms,",
        ("test_training_states.py::test_loss_scaling_is_taken_out_and_a_skipped_step_has_no_record",),
    ),
    Mutant(
        "a record due a step early",
        "recorders/_training_batch.py",
        "np.unique(steps // self._every, return_index=True)",
        "np.unique((steps + 1) // self._every, return_index=True)",
        ("test_training_states.py::test_every_so_many_steps",),
    ),
    Mutant(
        "saliency of all units for that of the one predicted",
        "probes/_saliency.py",
        "return ops.max(prediction, axis=-1)",
        "return ops.sum(prediction, axis=-1)",
        ("test_saliency.py::test_by_default_it_is_the_unit_that_each_example_predicts",),
    ),
    # --- layers and initializers -------------------------------------------------------------------------------------
    Mutant(
        "the update gate's convention turned round",
        "layers/cells.py",
        'keep = gate["update"] if self.convention == "keras" else 1 - gate["update"]',
        'keep = 1 - gate["update"] if self.convention == "keras" else gate["update"]',
        (f"{_LAYERS}[True-keras]",),
    ),
    Mutant(
        "the blocks of an LSTM permuted",
        "layers/cells.py",
        "i, f, g, o = ops.split(",
        "i, f, o, g = ops.split(",
        ("test_layers.py::test_all_outputs_equal_kerass_to_1e_6",),
    ),
    Mutant(
        "the output gate on the candidate for on the state",
        "layers/cells.py",
        'h = gate["output"] * self.activation(c)',
        'h = gate["output"] * gate["candidate"]',
        ("test_layers.py::test_all_outputs_equal_kerass_to_1e_6",),
    ),
    Mutant(
        "the reset gate after the product for before it",
        "layers/cells.py",
        "else (r * h) @ W_g))",
        "else r * (h @ W_g)))",
        ("test_layers.py::test_all_outputs_equal_kerass_to_1e_6",),
    ),
    Mutant(
        "a residual connection round the first layer too",
        "layers/stacked.py",
        'elif self.skips == "residual" and place:',
        'elif self.skips == "residual" and says.shape == reads.shape:',
        ("test_stacked.py::test_a_residual_stack_has_no_connection_round_its_first_layer",),
    ),
    Mutant(
        "what a dense stack reads in another order",
        "layers/stacked.py",
        "reads = ops.concatenate([reads, says], axis=-1)",
        "reads = ops.concatenate([says, reads], axis=-1)",
        ("test_stacked.py::test_the_stack_computes_what_a_plain_loop_does",),
    ),
    Mutant(
        "the last step of a padded sequence for its last word",
        "layers/stacked.py",
        "last = ops.argmax(ops.where(mask, steps, 0), axis=1)",
        "last = ops.argmax(ops.where(mask, steps, steps), axis=1)",
        ("test_stacked.py::test_padding_does_not_count",),
    ),
    Mutant(
        "the highway's gate turned round",
        "layers/connections.py",
        "return transform * self.layer(inputs) + (1 - transform) * inputs",
        "return (1 - transform) * self.layer(inputs) + transform * inputs",
        ("test_connections.py::test_a_connection_computes_its_equation",),
    ),
    Mutant(
        "a gate's bias in the row of the state",
        "initializers.py",
        "part[0] = values.get(name, 0.0)",
        "part[-1] = values.get(name, 0.0)",
        ("test_initializers.py::test_a_gate_bias_goes_to_its_gate_of_a_gru",),
    ),
    Mutant(
        "chrono's input bias with the sign of its forget bias",
        "initializers.py",
        '"input": -log}',
        '"input": log}',
        ("test_initializers.py::test_chrono_draws_what_the_paper_says",),
    ),
    Mutant(
        "the largest singular value for the spectral radius",
        "initializers.py",
        "np.abs(np.linalg.eigvals(matrix)).max()",
        "np.linalg.norm(matrix, 2)",
        ("test_initializers.py::test_spectral_radius_is_as_asked_and_the_largest_singular_value_above_it",),
    ),
    # --- tasks -------------------------------------------------------------------------------------------------------
    Mutant(
        "both marks of the adding problem anywhere",
        "tasks/classic.py",
        "marks[rows, draw.integers(length // 2, length, size=n)] = 1",
        "marks[rows, draw.integers(0, length, size=n)] = 1",
        ("test_tasks.py::test_adding_problem_marks_one_step_in_each_half_and_asks_for_their_sum",),
    ),
    Mutant(
        "the order of the two marks turned round",
        "tasks/classic.py",
        "(2 * marks[:, 0] + marks[:, 1])",
        "(marks[:, 0] + 2 * marks[:, 1])",
        ("test_tasks.py::test_temporal_order_hides_two_marks_where_it_says_and_asks_for_them_in_order",),
    ),
    Mutant(
        "the last symbol asked for instead of the first",
        "tasks/classic.py",
        'drawn[:, 0].astype("int32")',
        'drawn[:, -1].astype("int32")',
        ("test_tasks.py::test_first_symbol_recall_asks_for_the_first_symbol_and_nothing_else_tells_it",),
    ),
    Mutant(
        "the go of copy memory a step late",
        "tasks/classic.py",
        "seen[:, copied + delay - 1] = go",
        "seen[:, copied + delay] = go",
        ("test_tasks.py::test_copy_memory_shows_waits_says_go_and_asks_for_all_of_it",),
    ),
    Mutant(
        "the label shifted by a step",
        "tasks/classic.py",
        "(once.cumsum(axis=1) % modulus)",
        "(np.roll(once.cumsum(axis=1), 1, axis=1) % modulus)",
        ("test_tasks.py::test_double_sum_weighs_each_digit_by_how_long_ago_it_was",),
    ),
    Mutant(
        "the character just read for the one that follows",
        "tasks/text.py",
        "return windows[:, :-1], windows[:, 1:]",
        "return windows[:, :-1], windows[:, :-1]",
        ("test_tasks.py::test_text_is_that_of_help_and_what_follows_follows",),
    ),
    Mutant(
        "new images among those for training",
        "tasks/digits.py",
        "order[: len(x) - n_new], order[len(x) - n_new :]",
        "order[: len(x) - n_new], order[:n_new]",
        ("test_tasks.py::test_digit_images_are_all_of_them_in_two_parts",),
    ),
    # --- claims, sweeps, figures -------------------------------------------------------------------------------------
    Mutant(
        "the mean of the runs for their median",
        "course/claims.py",
        "statistics.median(self.values)",
        "statistics.mean(self.values)",
        ("test_claims.py",),
    ),
    Mutant(
        "over for at least",
        "course/claims.py",
        '_RELATIONS = {">=": operator.ge,',
        '_RELATIONS = {">=": operator.gt,',
        ("test_claims.py",),
    ),
    Mutant(
        "any run for all of them",
        "course/claims.py",
        "return self.runs_held >= self.runs_needed",
        "return self.runs_held >= 1",
        ("test_claims.py",),
    ),
    Mutant(
        "sweep seeds mixed with settings",
        "sweeps/_sweep.py",
        "[(combination, seed) for combination in combinations for seed in seeds]",
        "[(combination, seed) for seed in seeds for combination in combinations]",
        ("test_sweep_cache.py::test_new_seeds_and_settings_alone_are_trained",),
    ),
    Mutant(
        "the same random numbers for every seed",
        "sweeps/_workers.py",
        "keras.utils.set_random_seed(seed)",
        "keras.utils.set_random_seed(0)",
        ("test_sweeps.py::test_each_run_draws_its_own_numbers",),
    ),
    Mutant(
        "the mean over the seeds for the median",
        "sweeps/_result.py",
        "np.median(self.values(name, **where)",
        "np.mean(self.values(name, **where)",
        ("test_sweeps.py::test_median_spread_and_success_are_over_the_seeds",),
    ),
    Mutant(
        "spread over the settings",
        "sweeps/_result.py",
        "return sum(isinstance(pick, slice) for pick in self._picks(where))",
        "return 0",
        ("test_sweeps.py::test_median_spread_and_success_are_over_the_seeds",),
    ),
    Mutant(
        "the distance drawn from the wrong end",
        "plot/_gradients.py",
        "by_distance = values.reshape(-1, *values.shape[-2:])[:, ::-1]",
        "by_distance = values.reshape(-1, *values.shape[-2:])",
        ("test_plot.py::TestSingularValues",),
    ),
    Mutant(
        "the middle half for the middle 80 % in a figure",
        "plot/_gates.py",
        "np.quantile(kept, [0.1, 0.9])",
        "np.quantile(kept, [0.25, 0.75])",
        ("test_plot.py::TestGates",),
    ),
    Mutant(
        "norms over the batch for over the units in a figure",
        "plot/_gradients.py",
        "np.linalg.norm(values, axis=-1).mean(axis=0)",
        "np.linalg.norm(values, axis=0).mean(axis=-1)",
        ("test_plot.py::TestGradientFlow",),
    ),
]
