"""What `make bench` writes: the page is what the results say, and nothing in it was written by hand."""

from __future__ import annotations

import json

from bench import figures, report
from bench.figures import Figure, Goal, Row, Sample
from bench.rounds import interleaved

MACHINE = {"processor": "2 x sample"}


def figure(**given: object) -> Figure:
    fields: dict[str, object] = {
        "key": "P0",
        "what": "samples moved",
        "unit": "files/s",
        "ours": Sample((90.0, 110.0, 100.0)),
        "goal": Goal("ratio", at_least=2),
        "peer": Sample((40.0, 50.0, 60.0)),
        "peer_name": "a cart",
    }
    return Figure(**(fields | given))  # type: ignore[arg-type]


def test_the_page_is_what_the_results_say() -> None:
    assert report.PAGE.read_text(encoding="utf-8") == report.render(figures.read()), "run: make bench"


def test_every_plot_of_the_page_is_there() -> None:
    folder = report.PAGE.parent / report.PLOTS
    wanted = {
        f"{name}.svg" for key, entry in figures.read().items() for name in report.plot_names(key, entry)
    }
    assert wanted == {path.name for path in folder.glob("*.svg")}


def test_a_speed_is_so_many_times_the_peers_by_the_medians() -> None:
    assert figure().ratio == 2
    assert figure().reached
    assert not figure(goal=Goal("ratio", at_least=2.1)).reached


def test_a_time_is_better_when_it_is_less() -> None:
    assert figure(more_is_better=False).ratio == 0.5


def test_without_a_peer_the_goal_is_of_ours() -> None:
    alone = figure(peer=None, goal=Goal("ours", at_most=100))
    assert alone.ratio is None
    assert alone.reached
    assert not figure(peer=None, goal=Goal("ours", at_most=99)).reached


def test_a_figure_takes_its_earlier_ones_place_and_leaves_the_others() -> None:
    first = figures.merge({}, figure(), MACHINE, quick=True)
    both = figures.merge(first, figure(key="P1"), MACHINE, quick=False)
    again = figures.merge(both, figure(ours=Sample((200.0,))), MACHINE, quick=False)
    assert list(again) == ["P0", "P1"]
    assert (again["P0"]["ours"], again["P0"]["ratio"], again["P0"]["quick"]) == (200, 4, False)
    assert again["P1"] == both["P1"]
    assert json.loads(json.dumps(again)) == again


def test_the_page_shows_what_was_measured_beside_and_what_was_not_reached() -> None:
    row = Row("a horse", "files/s", Sample((70.0,)))
    page = report.render(
        figures.merge({}, figure(rows=(row,), goal=Goal("ratio", at_least=3)), MACHINE, quick=True)
    )
    assert "| [P0](#p0) | samples moved | 100 files/s | 50 files/s (a cart) | 2 | ratio ≥ 3 | no |" in page
    assert "| a horse | 70 files/s |" in page
    assert "Of these with `QUICK=1`: P0." in page


def test_subjects_are_measured_in_turn_and_not_always_in_the_same_order() -> None:
    calls: list[str] = []

    def subject(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    found = interleaved({"a": lambda: subject("a"), "b": lambda: subject("b")}, rounds=2)
    assert calls == ["a", "b", "b", "a"]
    assert found["a"].values == (1.0, 4.0)
