"""How a request fails: TensorFlow's name for the status, the HTTP code that stands for it, and the text."""

HTTP_STATUS = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
    # Limits that TensorFlow Serving does not have, so it has no status for them either.
    "TOO_SLOW": 408,
    "TOO_LARGE": 413,
    "UNKNOWN_ENCODING": 415,
}

CANONICAL = tuple(HTTP_STATUS)[:16]  # in the order of TensorFlow's and gRPC's numbers, which begin at 1


class Refused(Exception):
    """A request that gets no answer. `code` is a key of HTTP_STATUS; the text is what the client reads."""

    def __init__(self, code: str, text: str):
        self.code = code
        super().__init__(text)

    @property
    def http(self) -> int:
        return HTTP_STATUS[self.code]


def invalid(text: str) -> Refused:
    return Refused("INVALID_ARGUMENT", text)
