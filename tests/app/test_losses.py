#!/usr/bin/env python3
"""test_losses.py: computes in plain Python the first step's loss of every method that compares answers, from the run's
answers and from log-probs by `plumb logprob`, and compares it with the loss of the run. Two ranks must write what one
rank writes."""
import math

import common

BETA, GROUP, PROMPTS = 0.1, 4, 8
REWARD = "reward.functions=[{name: length, target: 40}, {name: repetition, weight: 0.3}]"


def mean(values):
    return sum(values) / len(values)


def std(values):
    return math.sqrt(mean([(x - mean(values)) ** 2 for x in values]))


def quantile(values, q):
    values, at = sorted(values), (len(values) - 1) * q
    low = int(at)
    return values[low] + (at - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def unsure(h, doubt=0.0):
    """Returns -log sigma(h) with label smoothing: the label is wrong with probability `doubt`."""
    return (1 - doubt) * math.log1p(math.exp(-h)) + doubt * math.log1p(math.exp(h))


def softmax(values):
    shares = [math.exp(x - max(values)) for x in values]
    return [x / sum(shares) for x in shares]


# ---- losses of a pair (w: preferred, l: other) or of the answers to a prompt; r: normalised reward,
# s: log-prob, d = s - s_ref ----


def h_of(w, l):
    return BETA * (w["d"] - l["d"])


def dpo(w, l):
    return unsure(h_of(w, l))


def ipo(w, l):
    return (w["d"] - l["d"] - 1 / (2 * BETA)) ** 2


def rdo(w, l):
    return (w["r"] - l["r"]) * dpo(w, l)


def aps(w, l, rho=-0.5):
    """Returns the minimum of the loss over t in [0.1, 5]. The loss is convex in t, so a ternary
    search finds it."""
    def at(t):
        return t * unsure(h_of(w, l) / t) + rho * t
    low, high = 0.1, 5.0
    for _ in range(200):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, b) if at(a) < at(b) else (a, high)
    return at(low)


def dlma(w, l, limit=3.0):
    return unsure(h_of(w, l) - 0.1 * min(w["r"] - l["r"], limit))


def vcb(g):
    unit = std([a["r"] for a in g]) + 1e-6
    u = [a["d"] - a["r"] / unit for a in g]
    return mean([(x - y) ** 2 for i, x in enumerate(u) for y in u[:i]])


def rrhf(g):
    return sum(max(0, a["x"] - b["x"]) for a in g for b in g if a["r"] < b["r"])


def lire(g):
    return -sum(q * p for q, p in zip(softmax([a["s"] / 2 for a in g]), softmax([a["r"] for a in g])))


def pro(g):
    g = sorted(g, key=lambda a: -a["r"])
    loss = 0
    for k, a in enumerate(g[:-1]):
        gaps = [a["r"] - b["r"] for b in g[k + 1:]]
        behind = sum(math.exp(b["x"] * gap) for b, gap in zip(g[k + 1:], gaps))
        loss += math.log(math.exp(a["x"] * max(gaps)) + behind) - a["x"] * max(gaps)
    return loss


# ---- the loss of an iteration from the losses of its prompts --------------------------------------


def extremes(g):
    """Returns the answers with the highest and the lowest score; of equal scores, the first answer.
    Returns None if all scores are equal."""
    g = [a for a in g if not math.isnan(a["r"])]
    w, l = max(g, key=lambda a: a["r"]), min(g, key=lambda a: a["r"])
    return (w, l) if w["r"] > l["r"] else None


def of_pairs(loss, weight=lambda margin, margins: 1.0, mass=sum):
    def total(groups):
        pairs = [p for p in map(extremes, groups) if p]
        margins = [w["r"] - l["r"] for w, l in pairs]
        weights = [weight(m, margins) for m in margins]
        return sum(x * loss(w, l) for x, (w, l) in zip(weights, pairs)) / mass(weights)
    return total


def of_groups(loss):
    return lambda groups: mean([loss(g) for g in groups if extremes(g)])


def imitated(weighted):
    """Returns the imitation loss: the weighted sum of -log-probs divided by the weighted number of tokens, over all
    prompts. weighted: (weight, answer) pairs, whose weights add up to 1 for each prompt."""
    return -sum(w * a["s"] for w, a in weighted) / sum(w * len(a["ids"]) for w, a in weighted)


def best(groups):
    return [(1.0, extremes(g)[0]) for g in groups if extremes(g)]


def and_best(loss):
    return lambda groups: of_groups(loss)(groups) + imitated(best(groups))


def weigh(groups):
    """Returns PSLE's loss without ranking: imitation of all answers with weights that are the
    softmax of a prompt's rewards."""
    return imitated([wa for g in groups for wa in zip(softmax([a["r"] for a in g]), g)])


def doubted(groups, share=0.3, doubt=0.1):
    """Returns SPA's loss without decoupling. The labels of the share of pairs with the smallest margins
    are smoothed."""
    h = [h_of(*p) for p in map(extremes, groups) if p]
    return mean([unsure(x, doubt if x < quantile(h, share) else 0) for x in h])


def curriculum(margin, margins):
    """Returns the weight of a pair in psle_curriculum: 1 for the half of the pairs with the
    largest margins, else sigma(margin / 10)."""
    return 1.0 if margin >= quantile(margins, 0.5) else 1 / (1 + math.exp(-margin / 10))


def raw(rewards):
    return rewards


def zscore(rewards):
    known = [r for r in rewards if not math.isnan(r)]
    return [(r - mean(known)) / std(known) for r in rewards]


# Methods whose loss has no reference.
UNREFERENCED = ("rrhf", "lire", "pro", "raft", "psle")
# Methods that are also run on two ranks. On several ranks, the other methods use only code that one
# of these uses.
PARTED = ("optune", "spa", "dlma", "selm", "vcb", "psle", "pro")

# name: (function that maps all groups of answers to the loss, normalisation of rewards, options)
METHODS = {
    "dpo": (of_pairs(dpo), zscore, []),
    "ipo": (of_pairs(ipo), raw, ["reward_norm=none"]),
    "rdo": (of_pairs(rdo), zscore, []),
    "aps": (of_pairs(aps), zscore, []),
    "optune": (of_pairs(dpo, lambda m, _: 1 / (1 + math.exp(-2 * m)), len), zscore, ["weight_beta=2"]),
    "psle_curriculum": (of_pairs(dpo, curriculum), zscore, []),
    "real": (of_pairs(dpo), zscore, []),
    "spa": (doubted, raw, ["method.judge={judge}", "decoupling=0", "noise_start=0", "noise_share=0.3"]),
    "dlma": (of_pairs(dlma), raw, ["method.principles={text}/kind_and_helpful.txt",
                                   "method.contrary={text}/short_answers.txt", "margin_limit=3"]),
    "selm": (of_pairs(dpo), zscore, ["optimism=3"]),
    "vcb": (of_groups(vcb), zscore, []),
    "rrhf": (and_best(rrhf), zscore, []),
    "lire": (of_groups(lire), zscore, []),
    "pro": (and_best(pro), zscore, []),
    "raft": (lambda groups: imitated(best(groups)), zscore, []),
    "psle": (weigh, zscore, ["method.rank_loss=none"]),
}


def examine(bench, answers, policy, reference, norm):
    """Returns the groups of answers of an iteration. Adds to each answer s and s_ref (log-probs under the prompt without a
    principle), d = s - s_ref, x = s / tokens and r, the normalised reward."""
    groups = [answers[i:i + GROUP] for i in range(0, len(answers), GROUP)]
    plain = [next(a["prompt"] for a in g if not a["principled"]) for g in groups for _ in g]
    under = [bench.logprobs(m, [(p, a["ids"]) for p, a in zip(plain, answers)]) for m in (policy, reference)]
    for a, s, ref, r in zip(answers, *under, norm([a["reward"] for a in answers])):
        a.update(s=s, d=s - ref, x=s / len(a["ids"]), r=r)
    return groups


def bonus(bench, groups, policy, reference):
    """Returns SELM's additional term, which has the log-ratios of the reference's greedy answers to the
    prompts that have a pair."""
    path = bench.folder / "asked.jsonl"
    records = (bench.world / "prompts.jsonl").read_text().splitlines(keepends=True)
    asked = [g[0]["record"] for g in groups if extremes(g)]
    path.write_text("".join(records[i] for i in asked))
    lines = bench.good("generate", f"model={reference}", f"prompts={path}", "temperature=0", "max_new_tokens=16").lines()
    pairs = [(x["prompt_ids"], x["completion_ids"]) for x in lines]
    ours, theirs = (bench.logprobs(m, pairs) for m in (policy, reference))
    bench.check(len({tuple(ids) for _, ids in pairs}) > 1 and ours != theirs, "greedy answers", pairs)
    return 3 * BETA * sum(a - b for a, b in zip(ours, theirs)) / sum(len(ids) for _, ids in pairs)


def near(bench, got, want, *what):
    bench.check(math.isclose(got, want, rel_tol=2e-5, abs_tol=1e-6), *what, "loss", got, "expected", want)


def start(bench, out, base, name, *more, iterations=1, ranks=1):
    own = [s.format(judge=bench.judge, text=bench.world / "principles") for s in METHODS[name][2]]
    given = [] if name in ("spa", "dlma") else [REWARD]
    bench.good(*bench.align_args(out, base, *given, *own, *more, method=name, iterations=iterations, prompts=PROMPTS,
                                 group=GROUP), ranks=ranks)
    return common.metrics(out)


def first_steps(bench, base, other):
    for name, (loss, norm, _) in METHODS.items():
        outs = []
        for ranks in (1, 2) if bench.mpirun and name in PARTED else (1,):
            outs.append(bench.folder / f"{name}-{ranks}")
            read = [f"method.reference={other}"] if name not in UNREFERENCED else []
            row, = start(bench, outs[-1], base, name, *read, ranks=ranks)
        bench.same(*(outs[i] / "latest/model.safetensors" for i in (0, -1)), f"{name} on 1 and 2 ranks:")
        groups = examine(bench, common.rollout_answers(outs[-1], 1), base, other, norm)
        want = loss(groups) + (bonus(bench, groups, base, other) if name == "selm" else 0)
        near(bench, row["loss"], want, name)
        used = sum(extremes(g) is not None for g in groups)
        bench.check(used >= PROMPTS / 2, name, "only", used, "prompts have a term")


def references(bench, base, other):
    """Checks the reference in the second iteration: `init` is still the start model, `previous` is the policy
    after the first iteration."""
    for reference, folder in (("init", base), ("previous", None), (other, other)):
        out = bench.folder / f"dpo-{reference}".replace("/", "_")
        rows = start(bench, out, base, "dpo", f"method.reference={reference}", "checkpoint.every=1", iterations=2)
        before = out / "checkpoint-1"
        groups = examine(bench, common.rollout_answers(out, 2), before, folder or before, zscore)
        near(bench, rows[1]["loss"], METHODS["dpo"][0](groups), "iteration 2, reference", reference)


def test(bench):
    base = bench.folder / "able" / "latest"
    bench.good(*bench.sft_args(base.parent, "learning_rate=1e-2", steps=40))
    for name, steps in (("other", 6), ("judge", 3)):
        bench.good(*bench.sft_args(bench.folder / name, f"model={base}", "train.init=checkpoint", steps=steps))
    (bench.world / "principles" / "short_answers.txt").write_text("use few words.\n")
    other, bench.judge = bench.folder / "other/latest", bench.folder / "judge/latest"
    first_steps(bench, base, other)
    references(bench, base, other)


common.main(test)
