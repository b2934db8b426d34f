"""Work on many values by a few threads, in order and in bounded memory."""

import collections


def in_order(pool, function, values, window: int):
    """Yields function(value) in order, never holding more than `window` values at work."""
    waiting = collections.deque()
    try:
        for value in values:
            waiting.append(pool.submit(function, value))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
