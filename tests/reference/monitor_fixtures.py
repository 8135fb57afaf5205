"""Writes tests/fixtures/monitor/events.bin: the TensorBoard events that plumb's report.to must
write for three lines of metrics.

The events are serialised and framed by tensorboard's own classes.

Run with a Python that has tensorboard:  python monitor_fixtures.py"""
import io
import pathlib

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

OUT = pathlib.Path(__file__).parent.parent / "fixtures" / "monitor"
ROWS = [(1_700_000_000.25, 0, {"loss": 0.6931471805599453}),
        (1_700_000_010.5, 7, {"loss": 0.5, "learning_rate": 1e-5, "psle/tau": 0.0, "kl": float("nan"), "time/rollout": 1.25}),
        (1_700_000_020.75, 123_456_789_012, {"loss": -3.5e-39, "num_tokens": 1e12})]


def events():
    raw = io.BytesIO()
    writer = RecordWriter(raw)
    writer.write(event_pb2.Event(wall_time=1_700_000_000.0, file_version="brain.Event:2").SerializeToString())
    for wall, step, scalars in ROWS:
        summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=k, simple_value=v) for k, v in scalars.items()])
        writer.write(event_pb2.Event(wall_time=wall, step=step, summary=summary).SerializeToString())
    return raw.getvalue()


OUT.mkdir(parents=True, exist_ok=True)
(OUT / "events.bin").write_bytes(events())
