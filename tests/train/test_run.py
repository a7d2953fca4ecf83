"""The folder of a run takes in what is its own and nobody else; signals are asked for, not obeyed at once."""

import os
import signal

import pytest

from instar.config import InputError
from instar.train.run import SIGNALS, RunFolder, stop_on_signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_asks_and_the_second_stops(number):
    """One is noted, a second ends the run at once, and afterwards signals mean what they meant before."""
    before = [signal.getsignal(each) for each in SIGNALS]
    with stop_on_signal() as asked:
        assert not asked()
        os.kill(os.getpid(), number)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_what_a_killed_process_left_is_no_stranger(tmp_path):
    """Killed before its recipe was there, a run leaves a lock and drafts: the next start takes the folder and sweeps
    it; a file of somebody else is still refused."""
    for name in (".lock", ".instar.yaml.tmp-0123abcd", ".model.safetensors.4242"):
        (tmp_path / name).touch()
    with RunFolder(tmp_path, resume=False).held():
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    (tmp_path / ".notes.txt").touch()
    with pytest.raises(InputError, match=r"1 files that are not a run of instar, \.notes\.txt"):
        RunFolder(tmp_path, resume=False)
