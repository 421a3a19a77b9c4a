"""The list of mutations follows the code; `make mutations` shows what each of them breaks."""

from __future__ import annotations

import ast

import pytest

from tests.mutations.listed import MUTATIONS
from tests.mutations.model import ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.what.replace(" ", "-"))
def test_each_mutation_takes_something_out_and_leaves_a_program(mutation: Mutation) -> None:
    mutated = mutation.applied()
    assert mutated != (ROOT / mutation.path).read_text(encoding="utf-8")
    if mutation.path.endswith(".py"):
        ast.parse(mutated)


def test_there_are_enough_of_them_and_each_has_its_tests() -> None:
    assert len(MUTATIONS) >= 90
    assert len({each.what for each in MUTATIONS}) == len(MUTATIONS)
    for each in MUTATIONS:
        assert each.tests
        for argument in each.tests:
            assert (ROOT / argument.partition("::")[0]).exists(), argument
