"""The commands that this plugin adds to `ctxblocks`; each is imported when it is called."""

from ctxblocks import CommandSpec, hookimpl

SUMMARIES = {
    "trace": "Measure the effect of every token of a prompt on the weights of every block of a language model.",
    "explain": "Print wiring, input projections, shapes and formulas of a language model, layer by layer.",
    "export": "Write the effect of a prompt on a language model's weights as a LoRA adapter.",
}


@hookimpl
def ctxblocks_commands() -> list[CommandSpec]:
    """The commands of this plugin."""
    return [
        CommandSpec(name=name, summary=summary, function=f"ctxblocks_transformers.commands.{name}:{name}")
        for name, summary in SUMMARIES.items()
    ]
