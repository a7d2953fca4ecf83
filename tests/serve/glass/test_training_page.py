"""The training view: what a run has written, drawn, and followed while it trains."""

import json
import re
from urllib.parse import quote

import pytest

from instar.data import lock

pytestmark = pytest.mark.page


@pytest.fixture
def opened(page, glass_url, settled):
    """opened(run=..., ...): the view in this state."""

    def go(**state):
        said = {"view": "training", "lang": "en", **state}
        page.goto(f"{glass_url}#" + "&".join(f"{name}={quote(str(value))}" for name, value in said.items()))
        settled(page, "training")

    return go


def value(page, name):
    return float(page.get_by_test_id(f"value-{name}").get_attribute("data-value"))


def test_what_is_drawn_is_what_was_written(page, glass_url, opened):
    """At a step the figures of all charts are those of the API, by mouse and by keyboard, raw and not smoothed."""
    told = page.request.get(f"{glass_url}api/runs/tiny/pretrain/metrics").json()
    opened(run="tiny/pretrain", step=20, smooth=20)
    at = told["steps"].index(20)
    for chart in ("loss", "lr", "grad_norm", "tokens_per_second"):
        assert value(page, f"{chart}-{chart}") == told["columns"][chart][at]
    assert value(page, "loss-held_out_loss") == told["columns"]["held_out_loss"][at]
    page.locator("#stage").focus()
    page.keyboard.press("ArrowRight")
    assert value(page, "loss-loss") == told["columns"]["loss"][at + 1]
    assert value(page, "loss-held_out_loss") == told["columns"]["held_out_loss"][at]  # the last that was measured
    assert f"{told['columns']['loss'][at + 1]:.3f}" in page.locator("#live").inner_text()
    page.keyboard.press("Home")
    assert value(page, "loss-loss") == told["columns"]["loss"][0]
    paper = page.get_by_test_id("chart-lr").locator("svg[role=img]")
    paper.scroll_into_view_if_needed()
    paper.hover(position={"x": paper.bounding_box()["width"] - 10, "y": 60})
    assert value(page, "loss-loss") == told["columns"]["loss"][-1]  # one crosshair for all charts
    page.mouse.move(5, 5)
    assert value(page, "loss-loss") == told["columns"]["loss"][0]


def test_states_births_and_samples(page, opened):
    """Finished and stopped are told apart; the head that is born half way is drawn; texts go with the step."""
    opened(run="tiny/pretrain")
    assert page.get_by_test_id("state").get_attribute("data-value") == "finished"
    assert value(page, "birth-induction") == 0.8
    assert "1.3" in page.get_by_test_id("chart-birth").inner_text()
    assert page.get_by_test_id("sample-0").get_attribute("data-value") == "40"
    opened(run="tiny/pretrain", step=21)
    assert page.get_by_test_id("sample-0").inner_text() == " a ball 20."
    opened(run="stopped")
    assert page.get_by_test_id("state").get_attribute("data-value") == "stopped"
    assert float(page.get_by_test_id("progress").get_attribute("data-value")) == pytest.approx(15 / 40)


def test_two_runs_side_by_side_as_curves_and_as_tables(page, opened):
    """The second run is dashed on the same axis; `d` turns every chart into a table; DPO brings its own charts."""
    opened(run="tiny/sft", beside="tiny/dpo")
    assert value(page, "loss-loss-beside") == value(page, "loss-loss")  # written alike
    assert page.get_by_test_id("chart-loss").locator("path.dash").count() == 2
    assert page.get_by_test_id("chart-margin").is_visible()
    page.locator("#stage").focus()
    page.keyboard.press("d")
    table = page.get_by_test_id("chart-loss").locator("table")
    table.wait_for(state="visible")
    assert table.locator("tbody tr").count() == 40
    page.keyboard.press("d")
    table.wait_for(state="hidden")
    page.get_by_test_id("log").click()
    page.wait_for_url("**logy=1**")


def test_what_the_page_is_compared_with_is_compared_here_too(page, opened):
    """One list, filled by the header's: a run that is a model is chosen for the whole page, another for this view."""
    opened(run="tiny/sft", vs="tiny/dpo")
    assert page.get_by_test_id("beside").input_value() == "tiny/dpo"
    assert page.get_by_test_id("chart-loss").locator("path.dash").count() == 2
    assert page.get_by_test_id("vs").is_hidden()
    page.get_by_test_id("beside").select_option("stopped")
    page.wait_for_url("**beside=stopped**")
    page.get_by_test_id("beside").select_option("")
    page.wait_for_url(re.compile(r"#(?!.*(beside|vs)=)"))
    page.locator("[data-testid=chart-loss] path.dash").first.wait_for(state="detached")
    page.locator("select[data-testid=run]").select_option(
        "stopped"
    )  # and what is said of the run follows, with the list in focus
    page.locator("[data-testid=state][data-value=stopped]").wait_for()


def test_proofs_of_a_run(page, glass_url, opened, run_of, glass_roots):
    """A step that is missing, a line that is no JSON and a report of other numbers are red; a run that is whole is
    green. Where nobody looked inside, it is said how one does."""
    opened(run="tiny/pretrain")
    for name in ("steps", "lines", "report"):
        assert page.get_by_test_id(f"chip-{name}").get_attribute("data-value") == "0"
    assert page.get_by_test_id("unborn").count() == 0
    rows = run_of.metrics(12)
    folder = run_of(glass_roots / "torn", "pretrain", rows[:4] + rows[5:], steps=12)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("{no\n" + run_of.lines([{**rows[-1], "step": 13, "held_out_loss": 2.5}]))
    while '"torn"' not in page.request.get(f"{glass_url}api/runs").text():
        page.wait_for_timeout(200)  # the roots are looked through every two seconds
    opened(run="torn")
    page.locator("[data-testid=chip-steps][data-value='1']").wait_for()
    assert page.get_by_test_id("chip-lines").get_attribute("data-value") == "1"
    assert float(page.get_by_test_id("chip-report").get_attribute("data-value")) == 13 - 12
    assert "--evaluate.inside" in page.get_by_test_id("unborn").inner_text()


def test_a_run_is_drawn_while_it_trains(page, run_of, glass_roots, opened):
    """It appears, grows, takes back what a resumed run forgot, and is finished when its report is there."""
    rows = run_of.metrics(12)
    folder = run_of(glass_roots / "now", "pretrain", rows[:5], steps=30, report=False)
    path = folder / "metrics.jsonl"
    with lock.held(folder / ".lock"):
        opened(run="now")
        assert page.get_by_test_id("state").get_attribute("data-value") == "live"
        assert page.get_by_test_id("left").get_attribute("data-value") == "12.5"  # half a second a step, 25 to go
        with path.open("a") as file:
            file.write(run_of.lines(rows[5:]) + '{"step": 13, "lo')
        page.locator('[data-testid=value-loss-loss][data-value="2.3333333333333335"]').wait_for()
        draft = folder / "draft"
        draft.write_text(run_of.lines(rows[:8]))
        draft.replace(path)
        page.locator('[data-testid=value-loss-loss][data-value="2.5"]').wait_for()
        (folder / "samples.jsonl").write_text(json.dumps({"step": 8, "prompt": "a", "text": "born"}) + "\n")
        page.get_by_test_id("sample-0").get_by_text("born").wait_for()
        (folder / "report.json").write_text("{}")
    page.locator("[data-testid=state][data-value=finished]").wait_for()


def test_no_runs_is_no_fault(page, opened, glass_url):
    """Where there are none the page says how one is begun; a run that has gone is an error that says so."""
    page.route("**/glass/api/runs", lambda route: route.fulfill(json={"runs": []}))
    opened()
    page.get_by_test_id("no-runs").wait_for(state="visible")


def test_a_run_that_has_gone(page, opened, troubles):
    troubles.expect("status of 404")
    opened(run="gone")
    page.get_by_test_id("error-no_such_run").wait_for(state="visible")
