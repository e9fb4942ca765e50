"""A configuration in small: every model, a few numbers wide."""

from ctxblocks.experiments import Configuration, ModelConfig


def small_model(name: str, *, steps: int = 40) -> ModelConfig:
    """One of the four models, a few numbers wide."""
    stack = {"post-norm-stack": "post", "pre-norm-stack": "pre"}.get(name)
    return ModelConfig(
        name=name,
        layer="rnn" if name == "rnn" else "self-attention",
        options={"hidden": 8} if name == "rnn" else {"heads": 2, "head_width": 4},
        network_width=16,
        norm=stack,
        width=8 if stack else None,
        blocks=2 if stack else 1,
        steps=steps,
        evaluate_every=10,
    )


def small_configuration(*figures: int, seed: int = 0, steps: int = 40) -> Configuration:
    """All figures, or some, of small models."""
    figures = figures or (2, 3, 4, 5, 6)
    needed = {2: ["block"], 3: ["block"], 4: ["block"], 5: ["post-norm-stack", "pre-norm-stack"], 6: ["rnn"]}
    names = dict.fromkeys(name for figure in figures for name in needed[figure])
    return Configuration(
        preset="small",
        figures=figures,
        seed=seed,
        models=tuple(small_model(name, steps=steps) for name in names),
        examples=12,
        batch=16,
        learning_rate=1e-2,
        validation_tasks=24,
        tasks=8,
        finetuning_rates=(1e-2, 1e-1),
    )
