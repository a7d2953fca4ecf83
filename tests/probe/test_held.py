"""The cache as it fills: its bytes, what is in it, and that it changes nothing."""

import numpy as np
import pytest

from instar.config import InputError
from instar.probe.held import hold, page


@pytest.mark.parametrize("shape", ["decoder", "windows", "encoder-decoder"])
def test_bytes_and_states(subject_of, shape):
    """KV: cached = uncached; bytes = 2 L K E (T + S) b = tensor bytes; the engine's blocks hold so many tokens."""
    subject = subject_of(shape)
    trace = subject.capture()
    found, config = hold(trace), subject.model.config
    length = len(subject.tokens) + len(subject.source)
    assert found.nbytes == found.formula == 2 * config.layers * config.kv_heads * 4 * length * 8
    assert found.gap < 1e-12
    assert len(found.seconds) == len(subject.tokens) // 2 == len(subject.tokens) - found.prefilled
    paged = page(subject, trace)
    assert paged.gap < 1e-12
    assert paged.used == paged.meant > 0


def test_what_is_kept_is_what_was_computed(subject_of):
    """The norms of the cache are those of the keys and values that attention was given, of a source too."""
    subject = subject_of("encoder-decoder")
    trace = subject.capture()
    found = hold(trace)
    kinds = [(found.keys, found.values, "self"), (found.source_keys, found.source_values, "cross")]
    for keys, values, which in kinds:
        for layer, seam in enumerate(trace.own.seams(which)):
            for norms, x in ((keys, seam.k), (values, seam.v)):
                np.testing.assert_allclose(norms[layer], x[0].float().norm(dim=(0, 2)), rtol=1e-5)


def test_long_texts_are_read_at_once_but_for_their_end(subject_of):
    """The last 64 tokens are read one by one, of a short text its second half."""
    subject = subject_of("windows", ids=[n % 100 for n in range(150)], vocab_size=100, max_positions=160)
    found = hold(subject.capture())
    assert (found.prefilled, len(found.seconds)) == (86, 64)
    assert [n for n, _ in found.whole][-1] == 150
    assert found.gap < 1e-12


@pytest.mark.parametrize("length", [517, 600])
def test_blocks_behind_a_window_are_given_back(subject_of, length):
    """A prompt longer than one step of the engine: of the layer with a window little is kept."""
    subject = subject_of("windows", ids=[n % 100 for n in range(length)], vocab_size=100, max_positions=640)
    paged = page(subject, subject.capture())
    assert paged.used == paged.meant
    assert paged.meant < 2 * 16 * (length // 16) * 4 * 4 * 8 * 2, "all blocks of both layers"
    assert paged.gap < 1e-12


def test_a_text_of_one_token(subject_of):
    """It is read at once, and nothing is timed after it."""
    found = hold(subject_of(ids=[5], vocab_size=9).capture())
    assert (found.prefilled, found.seconds, found.keys.shape) == (1, [], (2, 1))


def test_an_encoder_keeps_nothing(subject_of):
    """It is refused, with the reason."""
    with pytest.raises(InputError, match="keeps no keys"):
        hold(subject_of("encoder").capture())
