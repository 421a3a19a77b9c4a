"""Commands whose help ends in examples; a test runs each of them through the parser."""

from __future__ import annotations

from typing import Any

import click


class _Examples:
    def __init__(self, *args: Any, examples: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, then click's own epilog."""
        with formatter.section("Examples"):
            formatter.write("".join(f"  {example}\n" for example in self.examples))
        super().format_epilog(ctx, formatter)  # type: ignore[misc] # click's, after this one in the order


class Command(_Examples, click.Command):
    """A command with examples."""


class Group(_Examples, click.Group):
    """A group of commands with examples."""
