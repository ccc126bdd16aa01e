"""Speed of the language substrate beside `transformers`, in one run: `make bench`.

Sampling with the XS model (width 64, 2 layers, 4 heads): 16 tokens of prompt, 24 new ones, temperature 1, one thread.
The peer is a GPT-2 of the same sizes with its own `generate`. Rounds alternate, medians are reported, and the ratio is
that of neighbours in time. Then the cost of a whole iteration of reinforcement learning with a verifier.
"""

import statistics
import time

import torch

from minirl.lm import setup_threads
from minirl.lm.gpt import GPT, GPTConfig
from minirl.lm.sample import sample
from minirl.lm.tok import EOS
from minirl.reasoning import nft, nft_baselines

V, PROMPT, NEW = 32, 16, 24


def transformers_gpt2():
    """The peer, or None when it is not installed."""
    try:
        import transformers
    except ImportError:
        print("transformers is not installed: pip install 'minirl[llm]' to compare with it")
        return None
    transformers.logging.set_verbosity_error()
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=64, n_embd=64, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=None, pad_token_id=0
    )
    return transformers.GPT2LMHeadModel(config).eval()


def sampling(rounds: int) -> None:
    """Tokens a second in batches of 8, 32 and 128."""
    generator = torch.Generator().manual_seed(0)
    ours, peer = GPT(GPTConfig(V), generator), transformers_gpt2()

    with torch.no_grad():  # the logit of <eos> becomes -64, so that every row has 24 tokens, as the peer's have
        ours.norm.bias.fill_(1.0)
        ours.token.weight[EOS] = -1.0

    def with_minirl(prompt):
        return sample(ours, prompt, max_new=NEW, generator=generator).tokens

    def with_peer(prompt):
        options = {"max_new_tokens": NEW, "do_sample": True, "top_k": 0}
        return peer.generate(prompt, attention_mask=torch.ones_like(prompt), **options)[:, PROMPT:]

    def rate(generate, prompt):
        start = time.perf_counter()
        tokens = generate(prompt)
        assert tokens.shape == (len(prompt), NEW)
        return tokens.numel() / (time.perf_counter() - start)

    print(f"Sampling, XS model, {PROMPT} + {NEW} tokens, one thread")
    for B in (8, 32, 128):
        prompt = torch.randint(4, V, (B, PROMPT), generator=generator)
        rates = [], []
        for _ in range(rounds + 2):
            rates[0].append(rate(with_minirl, prompt))
            if peer is not None:
                rates[1].append(rate(with_peer, prompt))
        mine, theirs = rates[0][2:], rates[1][2:]  # two rounds to warm up
        line = f"  batch {B:>3}: minirl {statistics.median(mine):>9,.0f} tokens/s"
        if theirs:
            ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
            line += f", transformers {statistics.median(theirs):>9,.0f}, ratio {ratio:.2f}"
        print(line)


def iterations(rounds: int) -> None:
    """CPU seconds of one iteration: 32 prompts x 8 answers of the model chain-S, verified, and four gradient steps."""
    print("One iteration, S model, 32 prompts x 8 answers, 4 gradient steps, one thread")
    for name, loss in (("NFT", None), ("GRPO", nft_baselines.grpo_loss)):
        agent = nft.NFT(nft.Config(prompts=32, answers=8, updates=4, draws=1), loss)
        seconds = []
        for _ in range(rounds + 2):
            start = time.process_time()
            data, _ = agent.collect()
            agent.update(data)
            seconds.append(time.process_time() - start)
        print(f"  {name:4}: {statistics.median(seconds[2:]):.3f} CPU-s")


if __name__ == "__main__":
    setup_threads()
    sampling(rounds=15)
    iterations(rounds=15)
