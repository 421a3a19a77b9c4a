"""The list of mutations follows the code; `make mutations` shows what each of them breaks."""

from __future__ import annotations

import ast

import pytest

from tests.mutations import page
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


def test_the_page_has_a_row_for_each_as_it_would_be_written_now() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    # What is new comes into it by `make mutations ONLY=...`.
    assert list(page.rows(text)) == [page.key(each) for each in MUTATIONS]
    assert page.merged(text, {}) == text


def test_each_row_names_a_test_that_there_is_or_says_that_it_was_not_run() -> None:
    """What survived or broke is told in bold, and is no test."""
    for said in page.rows(page.PAGE.read_text(encoding="utf-8")).values():
        if said != page.NOT_RUN:
            path, *_, name = said.strip("`").split("::")
            assert f"def {name}(" in (ROOT / "tests" / path).read_text(encoding="utf-8"), said


def test_a_run_of_one_leaves_the_rows_of_the_others() -> None:
    first, second, *others = MUTATIONS
    before = page.merged("", {page.key(second): "`of before`", ("no longer listed", "x.py"): "`gone`"})
    after = page.rows(page.merged(before, {page.key(first): "`new`"}))
    assert after.pop(page.key(first)) == "`new`"
    assert after.pop(page.key(second)) == "`of before`"
    assert after == {page.key(each): page.NOT_RUN for each in others}
