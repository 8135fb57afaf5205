"""Writes tests/fixtures/align/{objective,decide,method,noise,pick}.json: losses and gradients by
torch autograd, which are written only if objective_numpy.py computes the same, and decisions
by plain numpy. Everything is computed in float64 and from the formulas of the papers, not
from the C code.

Run with a Python that has torch and numpy:  python align_fixtures.py ../fixtures/align"""
import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

import objective_numpy

DEFAULT = dict(tau=0.2, alpha=0.9, rank_loss="hinge", weighted_loss="softmax",
               weight_temperature=1.0, reward_norm="zscore", threshold="decay",
               quantile_start=0.5, quantile_end=0.5, mean_k=0.0, reverse="weighted", beta=0.1,
               label_smoothing=0.0, length_normalize=True, loss_aggregation="token",
               reference_weight=1.0, list_temperature=2.0,
               sft_weight=1.0, curriculum_temperature=10.0, noise_share=0.1, noise_window=200, noise_start=0.2,
               noise_smoothing=0.1, decoupling=0.5, weight_beta=1.0, optimism=0.001, margin_beta=0.1,
               margin_limit=40.0, rho=-0.5, **{"lambda": 1.0})


def clean(x):
    """Replaces NaN, which JSON does not have, by None (null)."""
    if isinstance(x, dict):
        return {k: clean(v) for k, v in x.items()}
    if isinstance(x, (list, tuple, np.ndarray)):
        return [clean(v) for v in x]
    if isinstance(x, (bool, np.bool_)):
        return bool(x)
    if isinstance(x, (int, np.integer)):
        return int(x)
    if isinstance(x, str) or x is None:
        return x
    return float(x) if np.isfinite(x) else None


# --- objectives -----------------------------------------------------------------------------

def adaptive(h, rho):
    """Returns the minimum over t in [0.1, 5] of -t log sigma(h/t) + rho t, found by golden-section
    search. In the gradient t counts as a constant, because the derivative by t is 0 at the minimum,
    and at a bound t does not change."""
    value = lambda t: -t * F.logsigmoid(h.detach() / t) + rho * t
    low, high = 0.1, 5.0
    for _ in range(200):
        a, b = high - 0.6180339887498949 * (high - low), low + 0.6180339887498949 * (high - low)
        low, high = (low, b) if value(a) < value(b) else (a, high)
    # Golden-section search finds t only to the square root of the rounding error. A bisection of the
    # slope finds it exactly.
    slope = lambda t: F.softplus(-h.detach() / t) + h.detach() / t * torch.sigmoid(-h.detach() / t) + rho
    t = (low + high) / 2
    a, b = max(0.1, t - 1e-3), min(5.0, t + 1e-3)
    if slope(a) < 0 < slope(b):
        for _ in range(100):
            t = (a + b) / 2
            a, b = (a, t) if slope(t) > 0 else (t, b)
    elif slope(a) >= 0:
        t = a
    else:
        t = b
    return -t * F.logsigmoid(h / t) + rho * t


def vcb(s, x, y, ref, r, p):
    std = ((r - r.mean()) ** 2).mean().sqrt() + 1e-6
    u = s - p["reference_weight"] * ref - p["lambda"] * r / std
    m = len(s)
    return sum((u[i] - u[j]) ** 2 for i in range(m) for j in range(i)) / (m * (m - 1) / 2)


def rrhf(s, x, y, ref, r, p):
    loss = -p["sft_weight"] * y[r.argmax()]
    for i in range(len(s)):
        for j in range(len(s)):
            if r[i] < r[j]:
                loss = loss + torch.relu(x[i] - x[j])
    return loss


def lire(s, x, y, ref, r, p):
    return -(torch.softmax(s / p["list_temperature"], 0) * torch.softmax(r, 0)).sum()


def pro(s, x, y, ref, r, p):
    order = sorted(range(len(s)), key=lambda i: -r[i])
    loss = -p["sft_weight"] * y[order[0]]
    for k in range(len(order) - 1):
        rest = order[k + 1:]
        own = x[order[k]] * (r[order[k]] - r[order[-1]])
        others = torch.stack([x[i] * (r[order[k]] - r[i]) for i in rest])
        loss = loss - own + torch.logsumexp(torch.cat([own[None], others]), 0)
    return loss


def imitated(s, size, mean_len, p):
    """Returns what each sequence adds to an imitation term: s over the batch's mean length, s over its own
    length, or s."""
    return s / mean_len if p["loss_aggregation"] == "token" else s / size if p["loss_aggregation"] == "sequence" else s


GROUP = dict(vcb=vcb, rrhf=rrhf, lire=lire, pro=pro)


def logistic(h, e):
    return -(1 - e) * F.logsigmoid(h) - e * F.logsigmoid(-h)


PAIR_KINDS = ("dpo", "ipo", "reward", "rdo", "aps", "dlma")


def pair_term(kind, p, s, ref, x, reward, score, w, l, e):
    """Returns the loss of the pair in which w is preferred to l, with label smoothing e."""
    d = s - ref
    if kind == "hinge":
        return torch.relu(x[l] - x[w])
    if kind == "hinge_prob":
        return torch.relu(torch.exp(x[l]) - torch.exp(x[w]))
    if kind == "logistic":
        return logistic(p["beta"] * (x[w] - x[l]), e)
    if kind == "dpo":
        return logistic(p["beta"] * (d[w] - d[l]), e + p["label_smoothing"])
    if kind == "rdo":
        gap = reward[w] - reward[l]
        return gap * logistic(p["beta"] * (d[w] - d[l]), e + p["label_smoothing"])
    if kind == "dlma":
        aim = min(max(reward[w] - reward[l], -p["margin_limit"]), p["margin_limit"])
        h = p["beta"] * (d[w] - d[l]) - p["margin_beta"] * aim
        return logistic(h, e + p["label_smoothing"])
    if kind == "aps":
        return adaptive(p["beta"] * (d[w] - d[l]), p["rho"])
    if kind == "ipo":
        return (d[w] - d[l] - 1 / (2 * p["beta"])) ** 2
    return logistic(score[w] - score[l], e)


PAIRS = [(0, 1, 0.0, 1.0), (3, 2, 0.1, 1.0), (4, 8, 0.0, 0.25), (1, 7, 0.0, 1.0)]


def objective_case(rng, name, pairs=PAIRS, one_token=False, weighted=True, **over):
    p = {**DEFAULT, **over}
    n = 9
    length = np.ones(n, int) if one_token else rng.integers(1, 40, n)
    s = torch.tensor(-rng.gamma(2.0, 1.0, n) * length, dtype=torch.float64, requires_grad=True)
    ref = torch.tensor(-rng.gamma(2.0, 1.0, n) * length, dtype=torch.float64)
    score = torch.tensor(rng.normal(size=n) * 3, dtype=torch.float64, requires_grad=True)
    weight = np.where(rng.random(n) < 0.5, rng.random(n), 0.0) * weighted
    group, whole = [0, 4, 7, 9], name in GROUP
    side = np.random.default_rng(int(length.sum()))
    reward = side.normal(size=n).round(3)
    if p["rank_loss"] == "none" or name == "sft" or whole:
        pairs = []
    if name == "rdo":
        reward[[0, 3, 4, 1]] = reward[[1, 2, 8, 7]].max() + side.random(4)
        reward[0] = reward[1] + 0.5
    scale = 1.0 / 7
    size = torch.tensor(length, dtype=torch.float64)
    x = s / size if p["length_normalize"] else s
    # an arbitrary value: the mean length is that of the global batch, which a case does not have
    mean_len = 1.5 + float(length.mean())
    y = imitated(s, size, mean_len, p)
    loss = torch.zeros((), dtype=torch.float64)

    for w, l, e, c in pairs:
        kind = name if name in PAIR_KINDS else "dpo" if name == "selm" else p["rank_loss"]
        loss = loss + scale * c * pair_term(kind, p, s, ref, x, reward, score, w, l, e)
    for a, b in zip(group, group[1:]) if whole else ():
        loss = loss + scale * GROUP[name](s[a:b], x[a:b], y[a:b], ref[a:b], torch.tensor(reward[a:b]), p)
    if name == "selm":
        d = imitated(s - ref, size, mean_len, p)
        loss = loss + scale * p["optimism"] * p["beta"] * (torch.tensor(weight) * d).sum()
    if name in ("psle", "sft"):
        loss = loss - scale * (torch.tensor(weight) * y).sum()
    loss.backward()
    zero = torch.zeros(n, dtype=torch.float64)
    case = dict(objective=name, param=over, n=n, logp=s.tolist(), logp_ref=ref.tolist(),
                score=score.tolist(), len=length.tolist(), mean_len=mean_len, weight=weight.tolist(),
                reward=reward.tolist(), group=group,
                pair=[[w, l, 0.0 if name == "aps" else e, c] for w, l, e, c in pairs], scale=scale, loss=loss.item(),
                dlogp=(s.grad if s.grad is not None else zero).tolist(),
                dscore=(score.grad if score.grad is not None else zero).tolist())
    objective_numpy.check(case, p)
    return case


def objective_cases():
    rng = np.random.default_rng(11)
    out = [objective_case(rng, "psle", rank_loss=kind, length_normalize=norm, beta=beta)
           for kind in ("hinge", "logistic", "hinge_prob", "dpo", "none")
           for norm, beta in ((True, 0.1), (False, 0.7))]
    out += [objective_case(rng, "psle", rank_loss="dpo", label_smoothing=0.2),
            objective_case(rng, "sft"), objective_case(rng, "sft", loss_aggregation="sequence"),
            objective_case(rng, "dpo"), objective_case(rng, "dpo", beta=0.5, label_smoothing=0.3),
            objective_case(rng, "ipo"), objective_case(rng, "ipo", beta=0.02),
            objective_case(rng, "reward")]
    rng = np.random.default_rng(12)
    out += [objective_case(rng, "rdo"), objective_case(rng, "rdo", beta=0.4, label_smoothing=0.1),
            objective_case(rng, "aps"), objective_case(rng, "aps", rho=-0.1, beta=0.01),
            objective_case(rng, "aps", rho=-0.65, beta=1.0),
            objective_case(rng, "vcb"), objective_case(rng, "vcb", reference_weight=0.0),
            objective_case(rng, "vcb", reference_weight=0.4, **{"lambda": 2.5}),
            objective_case(rng, "rrhf"), objective_case(rng, "rrhf", length_normalize=False),
            objective_case(rng, "rrhf", sft_weight=0.0), objective_case(rng, "lire"),
            objective_case(rng, "lire", list_temperature=20.0), objective_case(rng, "pro"),
            objective_case(rng, "pro", length_normalize=False, sft_weight=0.05)]
    rng = np.random.default_rng(13)
    out += [objective_case(rng, "selm"), objective_case(rng, "selm", optimism=0.3, beta=0.5, label_smoothing=0.1),
            objective_case(rng, "selm", optimism=0.0), objective_case(rng, "dlma"),
            objective_case(rng, "dlma", margin_limit=0.4, margin_beta=2.0),
            objective_case(rng, "dlma", margin_beta=0.0, beta=0.6, label_smoothing=0.2)]
    rng = np.random.default_rng(14)
    out += [objective_case(rng, name, loss_aggregation=kind, length_normalize=norm, **over)
            for name, over in (("psle", {}), ("psle", dict(rank_loss="none")), ("sft", {}), ("rrhf", {}), ("pro", {}),
                               ("selm", dict(optimism=0.3)))
            for kind in ("sequence", "sum", "token") for norm in (True, False)]
    return out


# --- decisions ------------------------------------------------------------------------------

def normalised(r, norm):
    ok = r[np.isfinite(r)]
    if norm == "zscore":
        return (r - ok.mean()) / ok.std()
    return 1 / (1 + np.exp(-r)) if norm == "sigmoid" else r


def best(norm, which):
    """Returns the index of the largest value among the indices `which`; of equal values, the first index.
    Returns None if there is none."""
    which = [i for i in which if np.isfinite(norm[i])]
    return max(which, key=lambda i: (norm[i], -i)) if which else None


EXTREMES = ("dpo", "vcb", "psle_curriculum", "spa", "optune", "ipo", "rdo", "aps", "dlma", "selm", "rrhf",
            "lire", "pro")
PRINCIPLED = ("psle", "psle_curriculum", "context_distillation")


def extremes(norm, which):
    """Returns the indices of the largest and of the smallest value; of equal values, the first
    index."""
    return best(norm, which), best(-norm, which)


def decide(method, p, state, kind, reward, group, total):
    n, prompts = len(kind), len(kind) // group
    r = np.where(kind > 0, reward, np.nan)
    z = normalised(r, p["reward_norm"])
    plain = [[i for i in range(q * group, (q + 1) * group) if kind[i] == 1] for q in range(prompts)]
    guided = [[i for i in range(q * group, (q + 1) * group) if kind[i] == 2] for q in range(prompts)]
    top = [(best(z, guided[q]), best(z, plain[q])) for q in range(prompts)]
    if method in EXTREMES:
        top = [extremes(z, plain[q] + guided[q]) for q in range(prompts)]
    margin = np.array([np.nan if None in t else z[t[0]] - z[t[1]] for t in top])
    if method in EXTREMES:
        margin[margin == 0] = np.nan
    if method == "raft":
        margin[:] = np.nan
    m = margin[np.isfinite(margin)]
    i = state["iteration"]
    if p["threshold"] == "decay":
        tau = p["tau"] * p["alpha"] ** i
    elif p["threshold"] == "quantile":
        part = i / (total - 1) if total > 1 else 0.0
        tau = np.quantile(m, p["quantile_start"] + part * (p["quantile_end"] - p["quantile_start"]))
    elif p["threshold"] == "mean_decay":
        tau = p["alpha"] ** i * (m.mean() + p["mean_k"] * m.std())
    else:
        tau = 0.0
    state["iteration"] += 1
    branch, win, lose, weight, entropy = [], [], [], np.zeros(n), []
    for q in range(prompts):
        a, b = top[q]
        if method == "raft":
            a, b = best(z, plain[q] + guided[q]), None
            where = "skip" if a is None else "weighted"
            if a is not None:
                weight[a] = 1
        elif method == "context_distillation":
            where = "weighted" if guided[q] else "skip"
            weight[guided[q]] = 1 / max(1, len(guided[q]))
        elif a is None or b is None:
            where = "skip"
        elif method in EXTREMES:
            where = "skip" if not margin[q] > 0 else "group" if method in GROUP else "rank"
        elif p["rank_loss"] != "none" and margin[q] > tau:
            where = "rank"
        elif p["rank_loss"] != "none" and p["reverse"] == "swap" and -margin[q] > tau:
            where, a, b = "swap", b, a
        elif p["weighted_loss"] == "none":
            where = "skip"
        else:
            where = "weighted"
            part = guided[q] if p["weighted_loss"] == "principled_only" else guided[q] + plain[q]
            part = [i for i in part if np.isfinite(z[i])]
            e = np.exp(z[part] / p["weight_temperature"])
            if p["weighted_loss"] == "principled_only":
                e[:] = 1
            weight[part] = e / e.sum()
        if where == "weighted":
            w = weight[q * group:(q + 1) * group]
            entropy.append(-(w[w > 0] * np.log(w[w > 0])).sum())
        branch.append(where)
        win.append(-1 if a is None else a)
        lose.append(-1 if b is None else b)
    choice_weight = [1 / (1 + np.exp(-margin[q] / p["curriculum_temperature"]))
                     if method == "psle_curriculum" and margin[q] < tau else 1.0
                     for q in range(prompts)]
    if method == "optune":
        choice_weight = [1 / (1 + np.exp(-p["weight_beta"] * margin[q])) if branch[q] == "rank" else 1.0
                         for q in range(prompts)]
    ok = np.isfinite(r)
    mean = lambda v: v.mean() if len(v) else np.nan
    stats = dict(completions=(kind > 0).sum(), missing=((kind > 0) & ~ok).sum(),
                 reward_mean=mean(r[ok]), reward_std=r[ok].std(),
                 reward_plain_mean=mean(r[ok & (kind == 1)]),
                 reward_principled_mean=mean(r[ok & (kind == 2)]), margins=len(m),
                 margin_mean=mean(m), margin_std=m.std() if len(m) else np.nan,
                 margin_quantile=[np.quantile(m, x) if len(m) else np.nan
                                  for x in (.05, .25, .5, .75, .95)])
    mass = choice_weight if method == "psle_curriculum" else [1.0] * prompts
    return dict(tau=tau, norm=z, margin=margin, branch=branch, win=win, lose=lose, weight=weight,
                choice_weight=choice_weight, choice_mass=mass,
                weight_entropy=mean(np.array(entropy)), stats=stats)


def fixed(method, over):
    """Returns all parameters of a case: the defaults, those in `over`, and those that the method
    itself sets."""
    p = {**DEFAULT, **over}
    if method == "psle_curriculum":
        p.update(threshold="quantile")
    if method in ("spa", "dlma"):
        p.update(reward_norm="none")
    if method == "context_distillation":
        p.update(rank_loss="none", weighted_loss="principled_only")
    return p


def decide_case(rng, method, group, prompts, missing=0.0, **over):
    p = fixed(method, over)
    state, total, iterations = dict(iteration=0), 3, []
    for _ in range(total):
        kind = np.tile(np.where(np.arange(group) < group // 2, 1, 2), prompts)
        if method not in PRINCIPLED:
            kind[:] = 1
        reward = np.round(rng.normal(size=prompts * group) * 2 + 0.3 * kind, 3)
        reward[rng.random(prompts * group) < missing] = np.nan
        expect = decide(method, p, state, kind, reward, group, total)
        iterations.append(dict(kind=kind, reward=reward, expect=expect))
    return dict(method=method, param=over, group_size=group, prompts=prompts, iterations=iterations)


def decide_cases():
    rng = np.random.default_rng(23)
    case = lambda *a, **k: decide_case(rng, *a, **k)
    return [case("psle", 2, 12), case("psle", 2, 12, missing=0.25), case("psle", 4, 8, missing=0.2),
            case("psle", 2, 12, reverse="swap"), case("psle", 6, 5, reverse="swap", tau=1.0),
            case("psle", 2, 10, reward_norm="sigmoid", tau=0.3, alpha=0.5),
            case("psle", 2, 10, reward_norm="none", weight_temperature=0.3, tau=2.0),
            case("psle", 2, 11, threshold="quantile", quantile_start=0.8, quantile_end=0.2),
            case("psle", 4, 9, threshold="mean_decay", mean_k=0.5, alpha=0.7),
            case("psle", 2, 9, threshold="none"), case("psle", 4, 6, rank_loss="none"),
            case("psle", 4, 6, weighted_loss="principled_only", missing=0.3),
            case("psle", 2, 8, weighted_loss="none"),
            case("context_distillation", 4, 6, missing=0.3), case("raft", 4, 6, missing=0.4),
            case("dpo", 3, 9, missing=0.4), case("dpo", 2, 6, reward_norm="none"),
            case("psle_curriculum", 4, 9, quantile_start=0.9, quantile_end=0.5,
                 curriculum_temperature=0.8, missing=0.2),
            case("vcb", 4, 7, missing=0.5), case("spa", 2, 9),
            case("optune", 3, 8, missing=0.2, weight_beta=0.7)]


# --- a method's loss, from rewards to derivatives ---------------------------------------------

def method_case(rng, method, group, prompts, missing=0.0, **over):
    """Returns the decisions of one iteration, and the loss and its derivatives for all its
    prompts as one batch."""
    p, n = fixed(method, over), prompts * group
    case = decide_case(rng, method, group, prompts, missing, **over)
    first = case["iterations"][0]
    d, r = first["expect"], np.array(first["expect"]["norm"])
    length = rng.integers(1, 40, n + prompts)
    s = torch.tensor(-rng.gamma(2.0, 1.0, n + prompts) * length, requires_grad=True)
    ref = torch.tensor(-rng.gamma(2.0, 1.0, n + prompts) * length)
    x = s / torch.tensor(length) if p["length_normalize"] else s
    weight = np.array(d["weight"])
    extra = [n + q for q in range(prompts) if method == "selm" and d["branch"][q] != "skip"]
    best = [d["win"][q] for q in range(prompts) if d["branch"][q] == "group"]
    tokens = (weight * length[:n]).sum() + length[extra + best].sum()
    y = imitated(s, torch.tensor(length), tokens / max(1e-9, weight.sum() + len(extra + best)), p)
    z = imitated(s - ref, torch.tensor(length), tokens / max(1e-9, weight.sum() + len(extra + best)), p)
    doubt = np.zeros(prompts)
    if method == "spa":
        m = np.array(d["margin"])
        seen = m[np.isfinite(m)][-p["noise_window"]:]
        doubt = np.where(m < np.quantile(seen, p["noise_share"]), p["noise_smoothing"], 0.0)
    kind = method if method in PAIR_KINDS else p["rank_loss"] if method == "psle" else "dpo"
    loss, terms = torch.zeros((), dtype=torch.float64), 0.0
    for q, where in enumerate(d["branch"]):
        w, l, c = d["win"][q], d["lose"][q], d["choice_weight"][q]
        if where in ("rank", "swap"):
            term = pair_term(kind, p, s, ref, x, r, None, w, l, doubt[q])
        elif where == "weighted":
            one = slice(q * group, (q + 1) * group)
            term = -(torch.tensor(d["weight"][one]) * y[one]).sum()
        elif where == "group":
            part = [i for i in range(q * group, (q + 1) * group) if np.isfinite(r[i])]
            term = GROUP[method](s[part], x[part], y[part], ref[part], torch.tensor(r[part]), p)
        if where != "skip":
            if method == "selm": # sequence n + q is the greedy answer of the reference to prompt q
                term = term + p["optimism"] * p["beta"] * z[n + q]
            loss, terms = loss + c * term, terms + d["choice_mass"][q]
    (loss / terms).backward()
    return dict(method=method, param=over, group_size=group, prompts=prompts, kind=first["kind"],
                reward=first["reward"], logp=s.tolist(), logp_ref=ref.tolist(), len=length,
                loss=loss.item() / terms, dlogp=s.grad.tolist())


def method_cases():
    rng = np.random.default_rng(61)
    case = lambda *a, **k: method_case(rng, *a, **k)
    return [case("psle", 2, 6), case("psle", 2, 6, rank_loss="logistic", reverse="swap"),
            case("psle", 4, 4, rank_loss="hinge_prob", missing=0.2, tau=0.8),
            case("psle", 6, 4, rank_loss="dpo", reverse="swap", weight_temperature=0.3),
            case("psle", 4, 4, rank_loss="none", loss_aggregation="sum"),
            case("psle", 4, 5, weighted_loss="principled_only", tau=1.0),
            case("psle", 2, 8, weighted_loss="none", threshold="quantile"),
            case("psle_curriculum", 4, 8, quantile_start=0.9, curriculum_temperature=0.8),
            case("context_distillation", 4, 4), case("context_distillation", 2, 4, loss_aggregation="sequence"),
            case("raft", 4, 5, missing=0.3), case("dpo", 3, 5, missing=0.2, label_smoothing=0.1),
            case("ipo", 2, 5), case("rdo", 3, 5), case("aps", 3, 5), case("spa", 2, 9, noise_share=0.4),
            case("spa", 2, 6, noise_smoothing=0.0), case("optune", 3, 6, weight_beta=0.7),
            case("selm", 3, 4, optimism=0.2), case("dlma", 3, 5, margin_limit=1.5),
            case("vcb", 4, 4, missing=0.2), case("vcb", 2, 4, reference_weight=0.3, **{"lambda": 2.0}),
            case("rrhf", 4, 4), case("lire", 4, 4, missing=0.2), case("pro", 4, 4, sft_weight=0.45),
            *(case(method, 4, 5, loss_aggregation=kind, **over)
              for method, over in (("psle", dict(missing=0.2)), ("raft", {}), ("rrhf", {}), ("pro", dict(missing=0.2)),
                                   ("selm", dict(optimism=0.2)))
              for kind in ("token", "sequence", "sum"))]


# --- smoothed labels of pairs with small margins (noise_*) ------------------------------------

def noise_case(rng, batch, steps, none=0.0, **over):
    """Returns a case of `steps` steps with `batch` prompts each. The margins of a step enter the window before the
    labels of the step are used."""
    p = {**DEFAULT, **over}
    margin, tau, smooth = [], [], []
    for step in range(steps):
        fresh = np.round(rng.normal(size=batch), 3)
        fresh[rng.random(batch) < none] = np.nan
        margin += list(fresh)
        seen = [m for m in margin if np.isfinite(m)][-p["noise_window"]:]
        tau.append(np.quantile(seen, p["noise_share"]) if seen else np.nan)
        late = step / steps >= p["noise_start"]
        smooth += [p["noise_smoothing"] if late and m < tau[-1] else 0.0 for m in fresh]
    return dict(param=over, batch=batch, steps=steps, margin=margin, tau=tau, smooth=smooth)


def noise_cases():
    rng = np.random.default_rng(31)
    return [noise_case(rng, 8, 10), noise_case(rng, 8, 10, noise_window=20),
            noise_case(rng, 7, 6, none=0.4, noise_window=5, noise_share=0.35),
            noise_case(rng, 3, 12, none=0.2, noise_start=0.5, noise_smoothing=0.3),
            noise_case(rng, 4, 5, noise_share=0.0), noise_case(rng, 4, 5, noise_share=1.0, noise_start=0.0)]


# --- pairs by similarity --------------------------------------------------------------------

def pick_case(rng, n, c, alike=False):
    e = rng.normal(size=(n, c)).astype(np.float32)
    if alike: # two loose clusters, and two equal vectors
        e = (e * 0.3 + np.where(np.arange(n) % 2, 1, -1)[:, None]).astype(np.float32)
        e[n - 1] = e[0]
    u = e.astype(np.float64)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    cos = u @ u.T
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    easy = min(pairs, key=lambda p: (round(cos[p], 12), p))
    hard = min(pairs, key=lambda p: (-round(cos[p], 12), p))
    best = None
    for bits in range(1, 2 ** (n - 1)):
        side = np.array([0] + [bits >> i & 1 for i in range(n - 1)])
        spread = sum(((u[side == s] - u[side == s].mean(0)) ** 2).sum() for s in (0, 1))
        if best is None or spread < best[0] - 1e-12:
            best = (spread, side)
    near = []
    for s in (0, 1):
        centre = u[best[1] == s].mean(0)
        members = np.flatnonzero(best[1] == s)
        near.append(int(min(members, key=lambda i: (round(((u[i] - centre) ** 2).sum(), 12), i))))
    share = {k: sorted(sorted(range(n), key=lambda i: (f * round(cos[i, 0], 12), i))[:n // 2])
             for k, f in (("easy", 1), ("hard", -1))}
    return dict(n=n, c=c, e=e.ravel(), cosine=cos.ravel(), easy=easy, hard=hard, centroid=sorted(near),
                share_easy=share["easy"], share_hard=share["hard"])


def pick_cases():
    rng = np.random.default_rng(41)
    return [pick_case(rng, n, c, alike) for n, c, alike in
            ((2, 5, False), (3, 4, False), (4, 16, False), (4, 16, True), (6, 3, True), (8, 32, False),
             (10, 8, True))]


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, cases in (("objective", objective_cases()), ("decide", decide_cases()),
                        ("method", method_cases()), ("noise", noise_cases()),
                        ("pick", pick_cases())):
        text = "[\n" + ",\n".join(json.dumps(clean(c)) for c in cases) + "\n]\n"
        (folder / f"{name}.json").write_text(text)


if __name__ == "__main__":
    main(sys.argv[1])
