"""The catalogue: the 53 papers of the course, in the order of the book.

Everything that lists papers (table of contents, index page, map of prerequisites, command line, tests) is derived
from `PAPERS` or tested against it. This module imports nothing heavy, so that `minirl list` answers at once.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

PARTS: dict[str, str] = {
    "control": "Continuous control",
    "offline": "Offline and hybrid data",
    "theory": "Theory",
    "worlds": "Simulators and applications",
    "alignment": "Preferences and alignment",
    "reasoning": "Language-model reasoning",
    "agents": "Language agents",
    "gui": "Computer-use agents",
}
"""Folder of a part -> its title, in the order of the book."""


@dataclass(frozen=True)
class Paper:
    """One paper of the course."""

    slug: str  # its name in every path: minirl/<part>/<slug>.py, chapters/<part>/<slug>.ipynb, ...
    title: str
    authors: tuple[str, ...]  # all of them, given name first, in the order of the paper
    year: int  # of the first public version
    arxiv: str  # "1812.05905"; "" if the paper is not on arXiv
    part: str  # a key of PARTS
    idea: str  # one sentence: what the method does
    prerequisites: tuple[str, ...]  # slugs of chapters to read just before; what those need is not repeated
    difficulty: int  # 1 (first weeks of a course) to 5 (research level)
    minutes: int  # to work through the chapter and its assignment
    status: str = "planned"  # "ready" once all seven places of the paper exist and pass
    outcomes: tuple[str, ...] = ()  # what a reader will be able to do; required when ready


class UnknownPaper(KeyError):
    """No paper has this slug. `str(error)` is a sentence that names the nearest ones."""

    def __str__(self) -> str:  # KeyError would print the repr of the sentence, with quotes around it
        return self.args[0]


def paper(slug: str) -> Paper:
    """The paper with this slug.

    Raises UnknownPaper, with the nearest slugs in its message, if there is none.
    """
    for candidate in PAPERS:
        if candidate.slug == slug:
            return candidate
    near = difflib.get_close_matches(slug.lower().replace("-", "_"), [p.slug for p in PAPERS], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`minirl list` shows all of them."
    raise UnknownPaper(f"There is no paper called {slug!r}; {hint}")


PAPERS: tuple[Paper, ...] = (
    # ---- control ----
    Paper(
        slug="sac",
        title="Soft Actor-Critic Algorithms and Applications",
        authors=(
            "Tuomas Haarnoja",
            "Aurick Zhou",
            "Kristian Hartikainen",
            "George Tucker",
            "Sehoon Ha",
            "Jie Tan",
            "Vikash Kumar",
            "Henry Zhu",
            "Abhishek Gupta",
            "Pieter Abbeel",
            "Sergey Levine",
        ),
        year=2018,
        arxiv="1812.05905",
        part="control",
        idea=(
            "Learn from replayed data a policy that maximises return plus entropy, "
            "and tune the weight of the entropy so that the policy keeps a chosen amount of randomness."
        ),
        prerequisites=(),
        difficulty=2,
        minutes=120,
        status="ready",
        outcomes=(
            "derive soft policy iteration and the two SAC losses from the maximum-entropy objective",
            "compute the log-probability of a tanh-squashed Gaussian stably, and say what goes wrong without it",
            "explain the temperature as a dual variable and predict how it reacts to the scale of the reward",
            "read SAC's update line by line and say what each line is there to prevent",
        ),
    ),
    Paper(
        slug="dsac_t",
        title="Distributional Soft Actor-Critic with Three Refinements",
        authors=(
            "Jingliang Duan",
            "Wenxuan Wang",
            "Liming Xiao",
            "Jiaxin Gao",
            "Shengbo Eben Li",
            "Chang Liu",
            "Ya-Qin Zhang",
            "Bo Cheng",
            "Keqiang Li",
        ),
        year=2023,
        arxiv="2310.05858",
        part="control",
        idea=(
            "Train Gaussian critics of the whole return with expected-value targets, twin distributions, "
            "and a clip and step size that follow the standard deviation."
        ),
        prerequisites=("sac",),
        difficulty=3,
        minutes=150,
        status="ready",
        outcomes=(
            "derive the gradient of a Gaussian return distribution and say why it moves uncertain pairs less",
            "explain which instability each of the three refinements removes, and show it by switching it off",
            "check numerically that an update is equivariant to the scale of the reward",
            "tell what an adaptive optimiser hides when critics with different gradient scales are compared",
        ),
    ),
    Paper(
        slug="mdpo",
        title="Mirror Descent Policy Optimization",
        authors=("Manan Tomar", "Lior Shani", "Yonathan Efroni", "Mohammad Ghavamzadeh"),
        year=2020,
        arxiv="2005.09814",
        part="control",
        idea=(
            "Improve the policy by several gradient steps on the linearised return minus a KL term to the "
            "previous policy, which is one step of mirror descent."
        ),
        prerequisites=("sac",),
        difficulty=3,
        minutes=120,
    ),
    Paper(
        slug="pmoe",
        title="Probabilistic Mixture-of-Experts for Efficient Deep Reinforcement Learning",
        authors=("Jie Ren", "Yewen Li", "Zihan Ding", "Wei Pan", "Hao Dong"),
        year=2021,
        arxiv="2104.09122",
        part="control",
        idea=(
            "Let a Gaussian mixture be the policy, and train its gate towards the expert whose action has the highest "
            "value instead of differentiating through the choice."
        ),
        prerequisites=("sac",),
        difficulty=3,
        minutes=100,
    ),
    Paper(
        slug="expo",
        title="EXPO: Stable Reinforcement Learning with Expressive Policies",
        authors=("Perry Dong", "Qiyang Li", "Dorsa Sadigh", "Chelsea Finn"),
        year=2025,
        arxiv="2507.07986",
        part="control",
        idea=(
            "Train a diffusion policy by imitation only, edit its samples with a small Gaussian policy, "
            "and act with whichever candidate has the highest value."
        ),
        prerequisites=("sac",),
        difficulty=4,
        minutes=140,
    ),
    Paper(
        slug="arsq",
        title="Learning from Suboptimal Data in Continuous Control via Auto-Regressive Soft Q-Network",
        authors=("Jijia Liu", "Feng Gao", "Qingmin Liao", "Chao Yu", "Yu Wang"),
        year=2025,
        arxiv="2502.00288",
        part="control",
        idea=(
            "Discretise each action dimension from coarse to fine and predict the soft advantage of one dimension "
            "given the choices already made."
        ),
        prerequisites=("sac",),
        difficulty=4,
        minutes=130,
    ),
    Paper(
        slug="srl",
        title=(
            "Overcoming Slow Decision Frequencies in Continuous Control: "
            "Model-Based Sequence Reinforcement Learning for Model-Free Control"
        ),
        authors=("Devdhar Patel", "Hava Siegelmann"),
        year=2024,
        arxiv="2410.08979",
        part="control",
        idea=(
            "Output several actions for one observation, and during training let a learned model fill in the states "
            "between them so that the critic can grade each action."
        ),
        prerequisites=("sac",),
        difficulty=3,
        minutes=120,
    ),
    Paper(
        slug="stream_x",
        title="Streaming Deep Reinforcement Learning Finally Works",
        authors=("Mohamed Elsayed", "Gautham Vasan", "A. Rupam Mahmood"),
        year=2024,
        arxiv="2410.14606",
        part="control",
        idea=(
            "Learn from each transition once, without a buffer, by combining eligibility traces, normalised signals, "
            "sparse initialisation and a step size that cannot overshoot."
        ),
        prerequisites=(),
        difficulty=3,
        minutes=120,
    ),
    # ---- offline ----
    Paper(
        slug="prdc",
        title="Policy Regularization with Dataset Constraint for Offline Reinforcement Learning",
        authors=("Yuhang Ran", "Yi-Chen Li", "Fuxiang Zhang", "Zongzhang Zhang", "Yang Yu"),
        year=2023,
        arxiv="2306.06569",
        part="offline",
        idea=(
            "Pull the policy's state-action pair towards its nearest neighbour in the data set, "
            "so that actions recorded in similar states may be used too."
        ),
        prerequisites=("sac",),
        difficulty=2,
        minutes=90,
        status="ready",
        outcomes=(
            "say why a critic overestimates actions that nobody recorded, and bound it by the distance to the data",
            "derive the gradient of the distance to a data set, and what its weight beta trades",
            "train a policy that crosses places where every recorded action is wrong, and show by which mechanism",
        ),
    ),
    Paper(
        slug="a2pr",
        title="Adaptive Advantage-Guided Policy Regularization for Offline Reinforcement Learning",
        authors=("Tenglong Liu", "Yang Li", "Yixing Lan", "Hao Gao", "Wei Pan", "Xin Xu"),
        year=2024,
        arxiv="2405.19909",
        part="offline",
        idea=(
            "Regularise the policy towards actions with positive advantage that come either from the data "
            "or from a generative model fitted to its good actions."
        ),
        prerequisites=("prdc",),
        difficulty=3,
        minutes=150,
        status="ready",
        outcomes=(
            "prove that a behaviour policy restricted to its good actions is nowhere worse, and check it exactly",
            "derive the loss of a conditional VAE, and say which distribution it fits when bad samples are weighted 0",
            "predict from the share of good actions and the noise of the critics when an advantage filter fails",
            "tell by ablation which parts of a method carry its effect on a data set, and which do not",
        ),
    ),
    Paper(
        slug="odice",
        title=("ODICE: Revealing the Mystery of Distribution Correction Estimation via Orthogonal-gradient Update"),
        authors=("Liyuan Mao", "Haoran Xu", "Weinan Zhang", "Xianyuan Zhan"),
        year=2024,
        arxiv="2402.00348",
        part="offline",
        idea=(
            "Split the gradient of a DICE value loss into parts through the present and the next state, "
            "and remove from the second what opposes the first."
        ),
        prerequisites=("prdc",),
        difficulty=4,
        minutes=140,
    ),
    Paper(
        slug="dual_rl",
        title="Dual RL: Unification and New Methods for Reinforcement and Imitation Learning",
        authors=("Harshit Sikchi", "Qinqing Zheng", "Amy Zhang", "Scott Niekum"),
        year=2023,
        arxiv="2302.08560",
        part="offline",
        idea=(
            "Write RL as a convex problem over visitation frequencies and take its dual, which explains several "
            "offline methods and yields ReCOIL and f-DVL."
        ),
        prerequisites=("odice",),
        difficulty=5,
        minutes=160,
    ),
    Paper(
        slug="h2o",
        title="When to Trust Your Simulator: Dynamics-Aware Hybrid Offline-and-Online Reinforcement Learning",
        authors=(
            "Haoyi Niu",
            "Shubham Sharma",
            "Yiwen Qiu",
            "Ming Li",
            "Guyue Zhou",
            "Jianming Hu",
            "Xianyuan Zhan",
        ),
        year=2022,
        arxiv="2206.13464",
        part="offline",
        idea=(
            "Train on real data and an imperfect simulator together, and lower the values of simulated pairs "
            "in proportion to an estimate of their dynamics error."
        ),
        prerequisites=("sac",),
        difficulty=3,
        minutes=120,
    ),
    Paper(
        slug="hnpg",
        title="Offline Data Enhanced On-Policy Policy Gradient with Provable Guarantees",
        authors=("Yifei Zhou", "Ayush Sekhari", "Yuda Song", "Wen Sun"),
        year=2023,
        arxiv="2311.08384",
        part="offline",
        idea=(
            "Fit one critic to bootstrapped targets on offline data and to Monte-Carlo returns on fresh data, "
            "then take a natural policy gradient step over both."
        ),
        prerequisites=("mdpo",),
        difficulty=4,
        minutes=140,
    ),
    Paper(
        slug="vlm_reward",
        title="Real-World Offline Reinforcement Learning from Vision Language Model Feedback",
        authors=(
            "Sreyas Venkataraman",
            "Yufei Wang",
            "Ziyu Wang",
            "Navin Sriram Ravie",
            "Zackory Erickson",
            "David Held",
        ),
        year=2024,
        arxiv="2411.05273",
        part="offline",
        idea=(
            "Ask a vision-language model which of two images is closer to the goal, learn a reward from the answers, "
            "and label an offline data set with it."
        ),
        prerequisites=("prdc",),
        difficulty=3,
        minutes=110,
    ),
    # ---- theory ----
    Paper(
        slug="sqirl",
        title="The Effective Horizon Explains Deep RL Performance in Stochastic Environments",
        authors=("Cassidy Laidlaw", "Banghua Zhu", "Stuart Russell", "Anca Dragan"),
        year=2023,
        arxiv="2312.08369",
        part="theory",
        idea=(
            "Explore at random, run a few steps of fitted Q-iteration from the random policy's values, "
            "and act greedily; how many steps suffice measures the environment's difficulty."
        ),
        prerequisites=(),
        difficulty=3,
        minutes=120,
        status="ready",
        outcomes=(
            "compute the values of random play, k steps of Q-value iteration, and the smallest k that solves a task, exactly",
            "derive the effective horizon from the gap, and predict how many episodes random exploration needs",
            "explain why more data can make a look-ahead that is too short worse, and solvable is not the same as near-optimal",
            "separate exploration from regression in deep reinforcement learning, and judge a rank correlation over many tasks",
        ),
    ),
    Paper(
        slug="optimal_actor_critic",
        title="Actor-Critics Can Achieve Optimal Sample Efficiency",
        authors=("Kevin Tan", "Wei Fan", "Yuting Wei"),
        year=2025,
        arxiv="2505.03710",
        part="theory",
        idea=(
            "Combine an optimistic critic of the optimal value with a mirror-descent actor that is reset at rare "
            "critic switches, which gives the optimal order in the accuracy."
        ),
        prerequisites=("mdpo",),
        difficulty=5,
        minutes=180,
    ),
    Paper(
        slug="agnostic_rl",
        title="Agnostic Reinforcement Learning: Foundations and Algorithms",
        authors=("Gene Li",),
        year=2025,
        arxiv="2506.01884",
        part="theory",
        idea=(
            "Ask how many samples finding the best policy of a given class costs when nothing else is assumed, "
            "and measure the class by its spanning capacity."
        ),
        prerequisites=("sqirl",),
        difficulty=5,
        minutes=180,
    ),
    Paper(
        slug="regret_loss",
        title="Do LLM Agents Have Regret? A Case Study in Online Learning and Games",
        authors=("Chanwoo Park", "Xiangyu Liu", "Asuman Ozdaglar", "Kaiqing Zhang"),
        year=2024,
        arxiv="2403.16843",
        part="theory",
        idea=(
            "Measure the regret of language models in online decisions and games, and train a transformer directly on "
            "regret instead of on labelled actions."
        ),
        prerequisites=("mdpo",),
        difficulty=4,
        minutes=130,
    ),
    # ---- worlds ----
    Paper(
        slug="learning_to_fly",
        title="Learning to Fly in Seconds",
        authors=("Jonas Eschmann", "Dario Albani", "Giuseppe Loianno"),
        year=2023,
        arxiv="2311.13081",
        part="worlds",
        idea=(
            "Train rotor-speed control of a quadrotor with an off-policy actor-critic, a critic that sees the full "
            "simulator state, and a curriculum over the reward."
        ),
        prerequisites=("sac",),
        difficulty=3,
        minutes=140,
        status="ready",
        outcomes=(
            "derive the motion of a quadrotor from Newton and Euler, simulate thousands at a time, and test the simulator exactly",
            "explain what slow motors hide from a controller, and how past actions give it back",
            "train an actor on noisy measurements with a critic that sees the true state, and say why the gradient is right",
            "judge a learned controller in the full environment, by one fixed reward, beside a classical one",
        ),
    ),
    Paper(
        slug="gem",
        title="Towards a Reinforcement Learning Environment Toolbox for Intelligent Electric Motor Control",
        authors=("Arne Traue", "Gerrit Book", "Wilhelm Kirchgässner", "Oliver Wallscheid"),
        year=2019,
        arxiv="1910.09434",
        part="worlds",
        idea=(
            "Simulate electric motors, converters and loads behind a gym interface, and compare a learned speed "
            "controller with a cascaded PI controller."
        ),
        prerequisites=("sac",),
        difficulty=2,
        minutes=100,
        status="ready",
        outcomes=(
            "derive the equations of a series DC motor, its steady states and its linearisation, and say why it cannot brake",
            "design a cascade of two PI controllers by the magnitude and the symmetric optimum, with anti-windup",
            "train DDPG on many simulated drives and judge it in another simulator, beside opponents that are not handicapped",
            "choose the reward of a violated limit, and predict what a cheaper one makes an agent do",
        ),
    ),
    Paper(
        slug="tacsl",
        title="TacSL: A Library for Visuotactile Sensor Simulation and Learning",
        authors=("Iretiayo Akinola", "Jie Xu", "Jan Carius", "Dieter Fox", "Yashraj Narang"),
        year=2024,
        arxiv="2408.06506",
        part="worlds",
        idea=(
            "Simulate camera-based touch sensors, and start the training of a touch-only actor from a critic "
            "that was trained on privileged states."
        ),
        prerequisites=("learning_to_fly",),
        difficulty=4,
        minutes=140,
    ),
    Paper(
        slug="marl_dse",
        title="Multi-Agent Reinforcement Learning for Microprocessor Design Space Exploration",
        authors=(
            "Srivatsan Krishnan",
            "Natasha Jaques",
            "Shayegan Omidshafiei",
            "Dan Zhang",
            "Izzeddin Gur",
            "Vijay Janapa Reddi",
            "Aleksandra Faust",
        ),
        year=2022,
        arxiv="2211.16385",
        part="worlds",
        idea=(
            "Give each parameter of a memory controller its own agent with the common reward, "
            "so that the search grows with the sum of the choices, not their product."
        ),
        prerequisites=("sac",),
        difficulty=2,
        minutes=100,
    ),
    Paper(
        slug="sequoia",
        title="Reinforcement learning with combinatorial actions for coupled restless bandits",
        authors=("Lily Xu", "Bryan Wilder", "Elias B. Khalil", "Milind Tambe"),
        year=2025,
        arxiv="2503.01919",
        part="worlds",
        idea=(
            "Write a trained ReLU Q-network as constraints of a mixed-integer program and let a solver find the best "
            "combinatorial action at every step."
        ),
        prerequisites=(),
        difficulty=3,
        minutes=130,
    ),
    Paper(
        slug="tscac",
        title="Two-Stage Constrained Actor-Critic for Short Video Recommendation",
        authors=(
            "Qingpeng Cai",
            "Zhenghai Xue",
            "Chi Zhang",
            "Wanqi Xue",
            "Shuchang Liu",
            "Ruohan Zhan",
            "Xueliang Wang",
            "Tianyou Zuo",
            "Wentao Xie",
            "Dong Zheng",
            "Peng Jiang",
            "Kun Gai",
        ),
        year=2023,
        arxiv="2302.01680",
        part="worlds",
        idea=(
            "Learn one policy for each auxiliary signal first, then optimise the main signal while staying close to "
            "all of those policies."
        ),
        prerequisites=("prdc",),
        difficulty=3,
        minutes=110,
    ),
    Paper(
        slug="dred",
        title="DRED: Zero-Shot Transfer in Reinforcement Learning via Data-Regularised Environment Design",
        authors=(
            "Samuel Garcin",
            "James Doran",
            "Shangmin Guo",
            "Christopher G. Lucas",
            "Stefano V. Albrecht",
        ),
        year=2024,
        arxiv="2402.03479",
        part="worlds",
        idea=(
            "Generate new training levels with a model fitted to the given ones, and replay those with high value "
            "loss, so that variety grows without a distribution shift."
        ),
        prerequisites=(),
        difficulty=4,
        minutes=140,
    ),
    Paper(
        slug="relic",
        title="ReLIC: A Recipe for 64k Steps of In-Context Reinforcement Learning for Embodied AI",
        authors=(
            "Ahmad Elawady",
            "Gunjan Chhablani",
            "Ram Ramrakhya",
            "Karmesh Yadav",
            "Dhruv Batra",
            "Zsolt Kira",
            "Andrew Szot",
        ),
        year=2024,
        arxiv="2410.02751",
        part="worlds",
        idea=(
            "Train a transformer policy over many episodes in one world, with updates inside the rollout and learned "
            "attention sinks, so that it adapts from its context alone."
        ),
        prerequisites=("dred",),
        difficulty=4,
        minutes=140,
    ),
    # ---- alignment ----
    Paper(
        slug="nash_mp",
        title="Accelerating Nash Learning from Human Feedback via Mirror Prox",
        authors=(
            "Daniil Tiapkin",
            "Daniele Calandriello",
            "Denis Belomestny",
            "Eric Moulines",
            "Alexey Naumov",
            "Kashif Rasul",
            "Michal Valko",
            "Pierre Ménard",
        ),
        year=2025,
        arxiv="2505.19731",
        part="alignment",
        idea=(
            "Find the Nash equilibrium of a regularised preference game with mirror prox, "
            "whose look-ahead step makes the last iterate converge linearly."
        ),
        prerequisites=("mdpo",),
        difficulty=5,
        minutes=150,
        status="ready",
        outcomes=(
            "prove that preferences which run in a circle have no Bradley-Terry reward, and measure how wrong the best one is",
            "derive the contraction factor of mirror prox line by line, and check every line in numbers",
            "say when a look-ahead pays for its query, when it does not, and predict measured slopes from the linearised game",
            "estimate a proximal step from sampled comparisons without letting a gradient into the advantage",
        ),
    ),
    Paper(
        slug="spo",
        title="A Minimaximalist Approach to Reinforcement Learning from Human Feedback",
        authors=("Gokul Swamy", "Christoph Dann", "Rahul Kidambi", "Zhiwei Steven Wu", "Alekh Agarwal"),
        year=2024,
        arxiv="2401.04056",
        part="alignment",
        idea=(
            "Sample several trajectories of one policy, compare them with each other, "
            "and use the share of comparisons that a trajectory wins as its reward."
        ),
        prerequisites=("nash_mp",),
        difficulty=3,
        minutes=110,
    ),
    Paper(
        slug="inpo",
        title="Iterative Nash Policy Optimization: Aligning LLMs with General Preferences via No-Regret Learning",
        authors=(
            "Yuheng Zhang",
            "Dian Yu",
            "Baolin Peng",
            "Linfeng Song",
            "Ye Tian",
            "Mingyue Huo",
            "Nan Jiang",
            "Haitao Mi",
            "Dong Yu",
        ),
        year=2024,
        arxiv="2407.00617",
        part="alignment",
        idea=(
            "Let a language model play against itself by online mirror descent, each step of which is a squared loss "
            "on log-probability ratios of preference pairs."
        ),
        prerequisites=("spo",),
        difficulty=4,
        minutes=130,
    ),
    Paper(
        slug="p3o",
        title="Pairwise Proximal Policy Optimization: Harnessing Relative Feedback for LLM Alignment",
        authors=(
            "Tianhao Wu",
            "Banghua Zhu",
            "Ruoyu Zhang",
            "Zhaojin Wen",
            "Kannan Ramchandran",
            "Jiantao Jiao",
        ),
        year=2023,
        arxiv="2310.00212",
        part="alignment",
        idea=(
            "Update on the reward difference of two responses to one prompt, so that adding a constant per prompt to "
            "the reward changes nothing."
        ),
        prerequisites=(),
        difficulty=3,
        minutes=110,
        status="ready",
        outcomes=(
            "prove which rewards no comparison can tell apart, and which updates cannot either",
            "derive the pairwise policy gradient from a baseline, with its variance, and correct it for old answers",
            "say what each of two clips bounds and what neither does, and read it off their gradients",
            "predict when an unknown level of the reward ruins PPO: what its critic can learn and what it cannot",
        ),
    ),
    Paper(
        slug="pf_ppo",
        title="Policy Filtration in RLHF to Fine-Tune LLM for Code Generation",
        authors=(
            "Chuheng Zhang",
            "Wei Shen",
            "Li Zhao",
            "Xuyun Zhang",
            "Xiaolong Xu",
            "Wanchun Dou",
            "Jiang Bian",
        ),
        year=2024,
        arxiv="2409.06957",
        part="alignment",
        idea=(
            "Train PPO only on those sampled responses whose reward range is reliable, "
            "judged by how well the reward model predicts true scores there."
        ),
        prerequisites=("p3o",),
        difficulty=3,
        minutes=100,
    ),
    Paper(
        slug="irl_language",
        title="Imitating Language via Scalable Inverse Reinforcement Learning",
        authors=(
            "Markus Wulfmeier",
            "Michael Bloesch",
            "Nino Vieillard",
            "Arun Ahuja",
            "Jorg Bornschein",
            "Sandy Huang",
            "Artem Sokolov",
            "Matt Barnes",
            "Guillaume Desjardins",
            "Alex Bewley",
            "Sarah Maria Elisabeth Bechtle",
            "Jost Tobias Springenberg",
            "Nikola Momchev",
            "Olivier Bachem",
            "Matthieu Geist",
            "Martin Riedmiller",
        ),
        year=2024,
        arxiv="2409.01369",
        part="alignment",
        idea=(
            "Read a language model's logits as soft Q-values and add a temporal-difference penalty to maximum "
            "likelihood, which is offline inverse reinforcement learning."
        ),
        prerequisites=("sac",),
        difficulty=4,
        minutes=130,
    ),
    Paper(
        slug="rlgf",
        title="Learning to Generate Better Than Your LLM",
        authors=("Jonathan D. Chang", "Kianté Brantley", "Rajkumar Ramamurthy", "Dipendra Misra", "Wen Sun"),
        year=2023,
        arxiv="2306.11816",
        part="alignment",
        idea=(
            "Let a black-box guide model begin or finish some of the rollouts, so that the policy meets good states "
            "early and can learn to beat its guide."
        ),
        prerequisites=("p3o",),
        difficulty=3,
        minutes=120,
    ),
    Paper(
        slug="cory",
        title=(
            "Coevolving with the Other You: "
            "Fine-Tuning LLM with Sequential Cooperative Multi-Agent Reinforcement Learning"
        ),
        authors=("Hao Ma", "Tianyi Hu", "Zhiqiang Pu", "Boyin Liu", "Xiaolin Ai", "Yanyan Liang", "Min Chen"),
        year=2024,
        arxiv="2410.06101",
        part="alignment",
        idea=(
            "Copy the model into a pioneer and an observer that also reads the pioneer's answer, "
            "reward both with the sum, and let them exchange roles periodically."
        ),
        prerequisites=("p3o",),
        difficulty=3,
        minutes=110,
    ),
    # ---- reasoning ----
    Paper(
        slug="nft",
        title="Bridging Supervised Learning and Reinforcement Learning in Math Reasoning",
        authors=(
            "Huayu Chen",
            "Kaiwen Zheng",
            "Qinsheng Zhang",
            "Ganqu Cui",
            "Yin Cui",
            "Haotian Ye",
            "Tsung-Yi Lin",
            "Ming-Yu Liu",
            "Jun Zhu",
            "Haoxiang Wang",
        ),
        year=2025,
        arxiv="2505.18116",
        part="reasoning",
        idea=(
            "Write the distribution of wrong answers through the same network that models the right ones, "
            "so that supervised learning can use both."
        ),
        prerequisites=("p3o",),
        difficulty=3,
        minutes=120,
        status="ready",
        outcomes=(
            "derive a likelihood of wrong answers under a model of right ones, and say where its optimum lies",
            "show that its gradient on fresh answers is that of GRPO, and where the two part",
            "train a small language model with a verifier, and judge what the wrong answers contributed",
        ),
    ),
    Paper(
        slug="dapo",
        title=(
            "Improving Multi-Step Reasoning Abilities of Large Language Models "
            "with Direct Advantage Policy Optimization"
        ),
        authors=(
            "Jiacai Liu",
            "Chaojie Wang",
            "Chris Yuhao Liu",
            "Liang Zeng",
            "Rui Yan",
            "Yiwen Sun",
            "Yang Liu",
            "Yahui Zhou",
        ),
        year=2024,
        arxiv="2412.18279",
        part="reasoning",
        idea=(
            "Estimate with a frozen critic how much each reasoning step changes the chance of success, "
            "then regress the policy's log-ratio onto that advantage."
        ),
        prerequisites=("nft",),
        difficulty=4,
        minutes=130,
    ),
    Paper(
        slug="oreo",
        title="Offline Reinforcement Learning for LLM Multi-Step Reasoning",
        authors=(
            "Huaijie Wang",
            "Shibo Hao",
            "Hanze Dong",
            "Shenao Zhang",
            "Yilin Bao",
            "Ziran Yang",
            "Yi Wu",
        ),
        year=2024,
        arxiv="2412.16145",
        part="reasoning",
        idea=(
            "Learn policy and value function together from stored solutions by making both satisfy the soft Bellman "
            "equation along each of them."
        ),
        prerequisites=("sac", "dapo"),
        difficulty=4,
        minutes=140,
    ),
    Paper(
        slug="critique_grpo",
        title="Critique-GRPO: Advancing LLM Reasoning with Natural Language and Numerical Feedback",
        authors=(
            "Xiaoying Zhang",
            "Hao Sun",
            "Yipeng Zhang",
            "Kaituo Feng",
            "Chaochao Lu",
            "Chao Yang",
            "Helen Meng",
        ),
        year=2025,
        arxiv="2506.03106",
        part="reasoning",
        idea=(
            "Rewrite failed answers with the help of a written critique and train on both kinds in one group, "
            "with more weight on unlikely but correct tokens."
        ),
        prerequisites=("nft",),
        difficulty=3,
        minutes=120,
    ),
    Paper(
        slug="multi_critique",
        title="Training Language Models to Critique With Multi-agent Feedback",
        authors=(
            "Tian Lan",
            "Wenwei Zhang",
            "Chengqi Lyu",
            "Shuaibin Li",
            "Chen Xu",
            "Heyan Huang",
            "Dahua Lin",
            "Xian-Ling Mao",
            "Kai Chen",
        ),
        year=2024,
        arxiv="2410.15287",
        part="reasoning",
        idea=(
            "Merge the critiques of several models into better ones for fine-tuning, "
            "and let the same models' judgements rank critiques for reinforcement learning."
        ),
        prerequisites=("critique_grpo",),
        difficulty=3,
        minutes=110,
    ),
    # ---- agents ----
    Paper(
        slug="agent_optimization",
        title="A Survey on the Optimization of Large Language Model-based Agents",
        authors=(
            "Shangheng Du",
            "Jiabao Zhao",
            "Jinxin Shi",
            "Zhentao Xie",
            "Xin Jiang",
            "Yanhong Bai",
            "Liang He",
        ),
        year=2025,
        arxiv="2503.12434",
        part="agents",
        idea=(
            "Sort the ways to improve language agents into those that change parameters and those that change prompts "
            "or memory, and compare how each gets its data."
        ),
        prerequisites=("p3o",),
        difficulty=1,
        minutes=90,
    ),
    Paper(
        slug="archer",
        title="ArCHer: Training Language Model Agents via Hierarchical Multi-Turn RL",
        authors=("Yifei Zhou", "Andrea Zanette", "Jiayi Pan", "Sergey Levine", "Aviral Kumar"),
        year=2024,
        arxiv="2402.19446",
        part="agents",
        idea=(
            "Learn values of whole utterances off-policy and use their advantages as the reward of an on-policy "
            "gradient over the tokens inside each turn."
        ),
        prerequisites=("sac", "p3o"),
        difficulty=4,
        minutes=140,
        status="ready",
        outcomes=(
            "split a dialogue into a decision process of utterances and one of tokens, and factorise its policy gradient",
            "fit values of utterances off-policy from replayed dialogues and fresh utterances, without importance weights",
            "say what a baseline of tokens and the smaller of two heads do to the noise and the bias of the actor",
            "compare an off-policy critic with token-level PPO and best-of-five sampling at equal numbers of dialogues",
        ),
    ),
    Paper(
        slug="spa",
        title="SPA-RL: Reinforcing LLM Agents via Stepwise Progress Attribution",
        authors=("Hanlin Wang", "Chak Tou Leong", "Jiashuo Wang", "Jian Wang", "Wenjie Li"),
        year=2025,
        arxiv="2505.20732",
        part="agents",
        idea=(
            "Predict for each step a contribution such that the contributions sum to the final reward, "
            "and use them as dense rewards for PPO."
        ),
        prerequisites=("agent_optimization",),
        difficulty=3,
        minutes=110,
    ),
    Paper(
        slug="retroformer",
        title="Retroformer: Retrospective Large Language Agents with Policy Gradient Optimization",
        authors=(
            "Weiran Yao",
            "Shelby Heinecke",
            "Juan Carlos Niebles",
            "Zhiwei Liu",
            "Yihao Feng",
            "Le Xue",
            "Rithesh Murthy",
            "Zeyuan Chen",
            "Jianguo Zhang",
            "Devansh Arpit",
            "Ran Xu",
            "Phil Mui",
            "Huan Wang",
            "Caiming Xiong",
            "Silvio Savarese",
        ),
        year=2023,
        arxiv="2308.02151",
        part="agents",
        idea=(
            "Train a small model to write reflections on failed attempts, "
            "rewarded by how much the frozen agent's next attempt improves."
        ),
        prerequisites=("agent_optimization",),
        difficulty=3,
        minutes=120,
    ),
    Paper(
        slug="agent_r",
        title="Agent-R: Training Language Model Agents to Reflect via Iterative Self-Training",
        authors=("Siyu Yuan", "Zehui Chen", "Zhiheng Xi", "Junjie Ye", "Zhengyin Du", "Jiecao Chen"),
        year=2025,
        arxiv="2501.11425",
        part="agents",
        idea=(
            "Cut a failed search trajectory at its first recognised error, continue it with a good branch of the same "
            "search tree, and fine-tune on the result."
        ),
        prerequisites=("agent_optimization",),
        difficulty=3,
        minutes=120,
    ),
    Paper(
        slug="rlap",
        title="RLAP: A Reinforcement Learning Enhanced Adaptive Planning Framework for Multi-step NLP Task Solving",
        authors=(
            "Zepeng Ding",
            "Dixuan Wang",
            "Ziqin Luo",
            "Guochao Jiang",
            "Deqing Yang",
            "Jiaqing Liang",
        ),
        year=2025,
        arxiv="2505.11893",
        part="agents",
        idea=(
            "Train a small Q-network over texts to choose which subtask a frozen language model should solve next, "
            "for each instance separately."
        ),
        prerequisites=("agent_optimization",),
        difficulty=2,
        minutes=100,
    ),
    Paper(
        slug="moe_dialogue",
        title="A Mixture-of-Expert Approach to RL-based Dialogue Management",
        authors=(
            "Yinlam Chow",
            "Azamat Tulepbergenov",
            "Ofir Nachum",
            "Dhawal Gupta",
            "Moonkyung Ryu",
            "Mohammad Ghavamzadeh",
            "Craig Boutilier",
        ),
        year=2022,
        arxiv="2206.00059",
        part="agents",
        idea=(
            "Let several specialised language models each propose an utterance and train a small manager with RL to "
            "choose which one is said."
        ),
        prerequisites=("archer",),
        difficulty=3,
        minutes=110,
    ),
    Paper(
        slug="read",
        title="Towards Efficient LLM Grounding for Embodied Multi-Agent Collaboration",
        authors=(
            "Yang Zhang",
            "Shixin Yang",
            "Chenjia Bai",
            "Fei Wu",
            "Xiu Li",
            "Zhen Wang",
            "Xuelong Li",
        ),
        year=2024,
        arxiv="2405.14314",
        part="agents",
        idea=(
            "Score a planned joint action with a learned advantage function, and ask the language model to plan again "
            "while the score is below a threshold."
        ),
        prerequisites=("agent_optimization",),
        difficulty=3,
        minutes=110,
    ),
    Paper(
        slug="rl_adapter",
        title="RLAdapter: Bridging Large Language Models to Reinforcement Learning in Open Worlds",
        authors=("Wanpeng Zhang", "Zongqing Lu"),
        year=2023,
        arxiv="2309.17176",
        part="agents",
        idea=(
            "Put a small trainable language model between a frozen large one and an RL agent, "
            "and tune it by how well the agent follows the advice."
        ),
        prerequisites=("agent_optimization",),
        difficulty=3,
        minutes=120,
    ),
    Paper(
        slug="oni",
        title="Online Intrinsic Rewards for Decision Making Agents from Large Language Model Feedback",
        authors=("Qinqing Zheng", "Mikael Henaff", "Amy Zhang", "Aditya Grover", "Brandon Amos"),
        year=2024,
        arxiv="2410.23022",
        part="agents",
        idea=(
            "Let a language model label new game messages in the background while the agent plays, "
            "and distil the labels into an intrinsic reward at once."
        ),
        prerequisites=("vlm_reward",),
        difficulty=3,
        minutes=120,
    ),
    # ---- gui ----
    Paper(
        slug="arpo",
        title="ARPO: End-to-End Policy Optimization for GUI Agents with Experience Replay",
        authors=("Fanbin Lu", "Zhisheng Zhong", "Shu Liu", "Chi-Wing Fu", "Jiaya Jia"),
        year=2025,
        arxiv="2505.16282",
        part="gui",
        idea=(
            "When every rollout of a task fails, put one stored success of that task into the group, "
            "so that the group-relative advantage is not zero."
        ),
        prerequisites=("nft", "agent_optimization"),
        difficulty=4,
        minutes=130,
    ),
    Paper(
        slug="gui_critic",
        title="Look Before You Leap: A GUI-Critic-R1 Model for Pre-Operative Error Diagnosis in GUI Automation",
        authors=(
            "Yuyang Wanyan",
            "Xi Zhang",
            "Haiyang Xu",
            "Haowei Liu",
            "Junyang Wang",
            "Jiabo Ye",
            "Yutong Kou",
            "Ming Yan",
            "Fei Huang",
            "Xiaoshan Yang",
            "Weiming Dong",
            "Changsheng Xu",
        ),
        year=2025,
        arxiv="2506.04614",
        part="gui",
        idea=(
            "Judge a proposed click before it is executed, and train the judge with a reward for its verdict and for "
            "the better action that it suggests."
        ),
        prerequisites=("multi_critique",),
        difficulty=3,
        minutes=120,
    ),
    Paper(
        slug="digi_q",
        title="Digi-Q: Learning Q-Value Functions for Training Device-Control Agents",
        authors=("Hao Bai", "Yifei Zhou", "Li Erran Li", "Sergey Levine", "Aviral Kumar"),
        year=2025,
        arxiv="2502.15760",
        part="gui",
        idea=(
            "Learn Q-values offline on frozen vision-language features, and imitate the best of several sampled "
            "actions as ranked by them."
        ),
        prerequisites=("archer",),
        difficulty=4,
        minutes=130,
        status="ready",
        outcomes=(
            "learn values of single actions from recordings by coupled temporal differences, and say whose values they are",
            "derive what the best of N draws is, how often it teaches something, and when its errors win",
            "improve a phone agent from 200 recordings without touching a phone, and check it against exact values",
        ),
    ),
)
"""All papers, in the order of the book."""
