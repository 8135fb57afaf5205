"""predict.py - predicts the time of an iteration on many ranks. Needs the standard library only.

The time of an iteration is the sum of
  work      the time of one rank for its share of the prompts, measured on a single rank, times
  the load imbalance
            (expected load of the rank with the longest completions over the mean load)
  exchange  the gradient exchange of every optimizer step
  control   the small collectives between the phases
The messages and bytes on the longest path of each collective come from bench_schedule, which
runs the code of src/comm for many simulated ranks. Latency and bandwidth come from bench_probe,
which measures the network."""
import bisect
import functools
import json
import math
import random
import subprocess


class Schedule:
    """The output of bench_schedule for each collective. The program runs once per number of
    ranks and vector length."""

    def __init__(self, program):
        self.program = program

    @functools.lru_cache(maxsize=None)
    def of(self, ranks, elements):
        done = subprocess.run([self.program, str(ranks), str(elements)], check=True, text=True, capture_output=True)
        return json.loads(done.stdout)["collectives"]

    def exchange(self, ranks, elements):
        """Returns (messages, bytes) on the longest path of one gradient exchange."""
        of = self.of(ranks, elements)
        parts = of["reduce_tree"], of["allgather_shards"]
        return sum(p["path_messages"] for p in parts), sum(p["path_bytes"] for p in parts)


class Start:
    """The output of bench_start: what a rank needs when there are many ranks. The program runs
    once per number of ranks."""

    def __init__(self, program):
        self.program = program

    @functools.lru_cache(maxsize=None)
    def of(self, ranks):
        return json.loads(subprocess.run([self.program, str(ranks)], check=True, text=True, capture_output=True).stdout)

    def costs(self, ranks, latency):
        """Returns the memory, messages of the start-up and heartbeat of a rank. latency: seconds per message.
        heartbeat_share assumes that a heartbeat message takes `latency` seconds of the rank that sends it, and as long
        again of the rank that receives it."""
        x = self.of(ranks)
        beat = x["heartbeat"]
        sent = beat["notes_per_period"] / beat["period_s"]
        return {"memory_bytes": x["memory"]["bytes"],
                "start_messages": x["start"]["path_messages"], "start_bytes": x["start"]["bytes_of_busiest_rank"],
                "start_s": x["start"]["path_messages"] * latency, "row_messages": x["allgather"]["path_messages"],
                "period_s": beat["period_s"], "notes_per_second": sent, "bytes_per_second": sent * beat["bytes_per_note"],
                "notes_of_a_wait": beat["notes_of_a_wait"], "heartbeat_share": 2 * sent * latency}


def start_formula(ranks):
    """Returns the number of messages on the longest path of the start-up for a power of two of ranks, by arithmetic.
    bench_start must count the same number. The ranks agree once, and twice gather one row from each rank. Each of
    these gathers first exchanges the sizes of the rows."""
    rounds = ranks.bit_length() - 1
    return rounds + 2 * (rounds + rounds)


def formula(ranks, elements, block):
    """Returns (messages, bytes) on the longest path of one gradient exchange for a power of two of
    ranks, by arithmetic. bench_schedule must count the same numbers. The exchange has log2 W
    halvings of the vector and as many doublings. A piece is cut at a multiple of `block` floats,
    and its lower half is never the smaller one."""
    piece, messages, total = elements, 0, 0
    while ranks > 1:
        lower = min(math.ceil(math.ceil(piece / block) / 2) * block, piece)
        messages += 2
        total += 2 * 4 * lower
        piece, ranks = lower, ranks // 2
    return messages, total


class Link:
    """latency: seconds per message. points: seconds per byte for several lengths of the vector
    in bytes."""

    def __init__(self, latency, points):
        self.latency = latency
        # [(bytes of the vector, seconds per byte on the longest path)]
        self.points = sorted(points)

    @classmethod
    def probed(cls, probe, schedule):
        """Returns a Link from the output of bench_probe."""
        ranks = probe["ranks"]
        latency = probe["allreduce_s"] / schedule.of(ranks, 1)["allreduce"]["path_messages"]
        points = []
        for point in probe["exchange"]:
            messages, path = schedule.exchange(ranks, point["elements"])
            points.append((4 * point["elements"], max(point["seconds"] - messages * latency, 0) / path))
        return cls(latency, points)

    def per_byte(self, size):
        """Returns the seconds per byte for a vector of `size` bytes, interpolated on a
        logarithmic scale of sizes. Outside of the measured range, returns the value at its
        end."""
        sizes = [s for s, _ in self.points]
        i = bisect.bisect_left(sizes, size)
        if i == 0 or i == len(sizes):
            return self.points[min(i, len(sizes) - 1)][1]
        (s0, t0), (s1, t1) = self.points[i - 1:i + 1]
        return t0 + (t1 - t0) * math.log(size / s0) / math.log(s1 / s0)


def imbalance(lengths, prompts, ranks, draws=200, seed=1):
    """Returns the expected load of the busiest rank over the mean load. lengths: completion tokens of each
    measured prompt (not all 0). The prompts of every simulated rank are drawn at random from this list."""
    share = max(1, round(prompts / ranks))
    if ranks == 1 or not lengths:
        return 1.0
    rng = random.Random(seed)
    # with many ranks, one draw already averages over many values
    draws = max(10, min(draws, draws * 64 // ranks))
    busiest = sum(max(sum(rng.choices(lengths, k=share)) for _ in range(ranks)) for _ in range(draws)) / draws
    return busiest / (share * sum(lengths) / len(lengths))


def line(points):
    """Returns the least-squares line through the points [(x, y)] as a function. For a single
    point, returns the line through it and the origin."""
    if len(points) == 1:
        (x0, y0), = points
        return lambda x: y0 * x / x0
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    slope = sum((x - mx) * (y - my) for x, y in points) / sum((x - mx) ** 2 for x, _ in points)
    return lambda x: max(my + slope * (x - mx), 0.0)


class Model:
    """single: [(prompts, {phase: seconds})] measured on one rank. steps: optimizer steps of an
    iteration. elements: floats in the gradient exchange. control: (collectives, bytes) of an
    iteration, counted on 2 ranks."""

    WORK = ("rollout", "reward", "reference", "train")

    def __init__(self, single, lengths, steps, elements, control, link, schedule):
        self.work = {phase: line([(p, t[phase]) for p, t in single]) for phase in self.WORK}
        self.rest = line([(p, t["other"]) for p, t in single])
        self.lengths, self.steps, self.elements = lengths, steps, elements
        self.control, self.link, self.schedule = control, link, schedule

    def iteration(self, ranks, prompts):
        """Returns the predicted seconds of one iteration over `prompts` prompts: {part:
        seconds}."""
        share = prompts / ranks
        uneven = imbalance(self.lengths, prompts, ranks)
        out = {phase: self.work[phase](share) * uneven for phase in self.WORK}
        out["other"] = self.rest(share)
        out["exchange"] = out["control"] = 0.0
        if ranks > 1:
            messages, path = self.schedule.exchange(ranks, self.elements)
            out["exchange"] = self.steps * (messages * self.link.latency + path * self.link.per_byte(4 * self.elements))
            hops = self.schedule.of(ranks, 1)["allreduce"]["path_messages"]
            calls, size = self.control
            out["control"] = hops * (calls * self.link.latency + size * self.link.per_byte(0))
        out["iteration"] = sum(out.values())
        out["imbalance"] = uneven
        return out
