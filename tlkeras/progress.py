"""What a person sees while something runs: one line that moves on a terminal, plain lines elsewhere; on stderr."""

import contextlib
import os
import sys
import tempfile
import time


@contextlib.contextmanager
def quiet_descriptor():
    """Keeps what C++ writes to file descriptor 2 away from the terminal, and shows it when the block fails.

    TensorFlow 2.21 writes notes on CUDA while it is imported, and its converter on itself, whatever the log
    level; they would stand above every result.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            notes.seek(0)
            sys.stderr.write(notes.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


class Progress:
    """A line 'label  12/40  30 %  0:21 left  loss 0.412'; off a terminal, one line at the end of each label."""

    def __init__(self, quiet: bool = False):
        self.moving = sys.stderr.isatty() and not os.environ.get("CI")
        self.quiet = quiet
        self.started = self.shown = time.monotonic()
        self.first = self.last = (0.0, 0)

    def start(self) -> None:
        self.started = time.monotonic()
        self.first = self.last = (0.0, 0)

    @property
    def pace(self) -> float | None:
        """Seconds between two things since `start`, what came before the first step left out; None before the second."""
        (since, before), (now, done) = self.first, self.last
        return (now - since) / (done - before) if done > before > 0 else None

    def step(self, label: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        self.first, self.last = (self.first if self.first[1] else (now, done)), (now, done)
        if self.quiet or not self.moving or (now - self.shown < 0.2 and done < total):
            return
        self.shown = now
        left = (now - self.started) / max(done, 1) * (total - done)
        self._write(
            f"\r\x1b[K{label}  {done}/{total}  {100 * done // max(total, 1)} %  {_clock(left)} left  {note}"[
                : _width() + 4
            ]
        )

    def line(self, text: str) -> None:
        """A line that stays."""
        if not self.quiet:
            self._write(f"\r\x1b[K{text}\n" if self.moving else f"{text}\n")

    def _write(self, text: str) -> None:
        # A closed terminal must not end a run of hours.
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (BrokenPipeError, OSError):
            self.quiet = True


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns - 1
