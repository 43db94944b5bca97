"""The Open Bandit Pipeline's estimates: of its own sample log, or of slates that we logged.

Usage: bandit.py sample OUT.npz | bandit.py slates IN.npz. Prints {name, version, estimates}. `sample` also writes what went in.

Only the modules that are compared are imported: the package as a whole wants torch, for policies that are not asked here.
"""

import json
import sys
import types
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
from sklearn.linear_model import LogisticRegression

ROOT = find_spec("obp").submodule_search_locations[0]
for name in ("obp", "obp.dataset", "obp.ope", "obp.policy"):
    package = types.ModuleType(name)
    package.__path__ = [ROOT + name[3:].replace(".", "/")]
    sys.modules[name] = package
torch = types.ModuleType("torch")
torch.Tensor = torch.tensor = type("Tensor", (), {})
sys.modules["torch"] = torch

from obp.dataset.real import OpenBanditDataset  # noqa: E402
from obp.ope import estimators, estimators_slate  # noqa: E402
from obp.ope.regression_model import RegressionModel  # noqa: E402
from obp.policy.contextfree import BernoulliTS  # noqa: E402

SWITCH = 10.0


def sample(path):
    log = OpenBanditDataset(behavior_policy="random", campaign="all").obtain_batch_bandit_feedback()
    rounds, actions = log["n_rounds"], log["n_actions"]
    policy = BernoulliTS(n_actions=actions, len_list=3, random_state=1, is_zozotown_prior=True, campaign="all")
    chances = policy.compute_batch_action_dist(n_sim=10_000, n_rounds=rounds)
    model = RegressionModel(
        n_actions=actions,
        len_list=3,
        action_context=log["action_context"],
        base_model=LogisticRegression(C=1.0, max_iter=1_000, random_state=1),
    )
    q = model.fit_predict(
        context=log["context"].astype(float),
        action=log["action"],
        reward=log["reward"],
        position=log["position"],
        pscore=log["pscore"],
        action_dist=chances,
        n_folds=2,
        random_state=1,
    )
    common = {
        "reward": log["reward"],
        "action": log["action"],
        "position": log["position"],
        "pscore": log["pscore"],
        "action_dist": chances,
        "estimated_rewards_by_reg_model": q,
    }
    which = {
        "ips": estimators.InverseProbabilityWeighting(),
        "snips": estimators.SelfNormalizedInverseProbabilityWeighting(),
        "dr": estimators.DoublyRobust(),
        "switch_dr": estimators.SwitchDoublyRobust(lambda_=SWITCH),
    }
    row = np.arange(rounds)
    np.savez(
        path,
        reward=log["reward"],
        action=log["action"],
        pscore=log["pscore"],
        chances=chances[row, :, log["position"]],
        predicted=q[row, :, log["position"]],
        switch=SWITCH,
    )
    return {name: estimator.estimate_policy_value(**common) for name, estimator in which.items()}


def slates(path):
    log = np.load(path)
    rounds, slots, candidates = log["predicted"].shape
    common = {
        "slate_id": np.repeat(np.arange(rounds), slots),
        "position": np.tile(np.arange(slots), rounds),
        "reward": log["rewards"].ravel(),
        "action": log["slates"].ravel(),
        "pscore_cascade": np.exp(log["logging"]).ravel(),
        "evaluation_policy_pscore_cascade": np.exp(log["target"]).ravel(),
        "q_hat": log["predicted"].ravel(),
        "evaluation_policy_action_dist": log["chances"].ravel(),
        # Of the whole slate, for the estimators that look at nothing less.
        "pscore": np.repeat(np.exp(log["logging"][:, -1]), slots),
        "evaluation_policy_pscore": np.repeat(np.exp(log["target"][:, -1]), slots),
    }
    which = {
        "ips": estimators_slate.SlateStandardIPS(len_list=slots),
        "snips": estimators_slate.SelfNormalizedSlateStandardIPS(len_list=slots),
        "rips": estimators_slate.SlateRewardInteractionIPS(len_list=slots),
        "sn_rips": estimators_slate.SelfNormalizedSlateRewardInteractionIPS(len_list=slots),
        "dr": estimators_slate.SlateCascadeDoublyRobust(len_list=slots, n_unique_action=candidates),
    }
    return {name: estimator.estimate_policy_value(**common) for name, estimator in which.items()}


found = {"sample": sample, "slates": slates}[sys.argv[1]](sys.argv[2])
print(
    json.dumps(
        {
            "name": "Open Bandit Pipeline",
            "version": version("obp"),
            "estimates": {name: float(value) for name, value in found.items()},
        }
    )
)
