"""Where the time of a call went."""

from siglip.v1 import types_pb2

from gateway.call import Call
from gateway.embedded import Embedded


def of(call: Call, *sides: Embedded, score_us: int = 0) -> types_pb2.Timing:
    """The largest over the sides, which ran at the same time; all in microseconds."""
    return types_pb2.Timing(
        decode_us=max(side.decode_us for side in sides),
        queue_us=max(side.queue_us for side in sides),
        compute_us=max(side.compute_us for side in sides),
        score_us=score_us,
        total_us=call.elapsed_us(),
    )
