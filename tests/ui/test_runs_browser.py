"""The Runs page in a real browser: plots are really drawn (their traces are read from the page), links keep the selection, uploads stay until they are kept."""

import json
import time
import urllib.parse
from datetime import timedelta
from pathlib import Path

import pytest

from lab.bench.run_files import read_run, write_run
from lab.ui import runs_page
from lab.ui.app import build_app, launch_settings
from tests import fakes
from tests.runs import machine, synthetic_run
from tests.ui.conftest import leaving, visits

CARD = machine("NVIDIA H100 80GB HBM3", "cuda", cpu="a processor with a rather long name @ 2.60GHz")
HOSTILE = "<img src=x onerror=alert(1)> ${alert(2)} $x$"
DATA = """name => document.querySelector(`#runs-${name} .js-plotly-plot`)?._fullData?.map(
    trace => ({type: trace.type, name: trace.name, n: trace._length ?? trace.x?.length})
)"""
DRAWN = """name => {
    const plot = document.querySelector(`#runs-${name} .js-plotly-plot`);
    return Boolean(plot?.data?.length && plot.querySelector(".trace, .trace.boxes, .point, path.box, .violinlayer path, .barlayer path, .scatterlayer path"));
}"""


def renamed(run, name, days=0):
    return run.model_copy(update={"id": name, "created": run.created + timedelta(days=days)})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    times = {"baseline": 50, "no-empty-cache": 49, "optimized": 40}
    write_run(renamed(synthetic_run("baseline,no-empty-cache,optimized", rounds=12, on=CARD, times=times, launches=2), "newest"), folder)
    write_run(renamed(synthetic_run("baseline,optimized", "short", rounds=8, on=CARD, seed=1), "older", -3), folder)
    write_run(renamed(synthetic_run("baseline,optimized", rounds=8, seed=2, times={"baseline": 160, "optimized": 140}), "cpu", -1), folder)
    return folder


@pytest.fixture(scope="module")
def address(tmp_path_factory, runs):
    with pytest.MonkeyPatch.context() as patch, fakes.lab_context(tmp_path_factory.mktemp("lab")) as context:
        patch.setenv("LAB_RUNS_DIR", str(runs))
        app = build_app(context)
        _, address, _ = app.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_settings(context))
        yield address.rstrip("/")
        app.close(verbose=False)


class Visit:
    """A page, with everything it asked for and complained of."""

    def __init__(self, context, address: str) -> None:
        self.context = context
        self.page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.address = address
        self.strangers: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))

    def _asked(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.strangers.append(url)

    def open(self, query: str = "", figure: str = "forest") -> None:
        self.page.goto(f"{self.address}/runs{query}")
        if figure:
            self.drawn(figure)

    def reload(self) -> None:
        with leaving(self.complaints):
            self.page.reload()

    def drawn(self, figure: str) -> list[dict]:
        """The traces of a figure, when it is drawn."""
        self.page.wait_for_function(DRAWN, arg=figure)
        return self.page.evaluate(DATA, figure)

    def width(self, figure: str) -> float:
        return self.page.evaluate("name => document.querySelector(`#runs-${name} .main-svg`).getBoundingClientRect().width", figure)

    def tab(self, name: str) -> None:
        self.page.click(f"#runs-tabs button[role=tab][data-tab-id={name}]")

    def says(self, text: str, where: str = "#runs-words") -> None:
        self.page.wait_for_function("([where, text]) => document.querySelector(where)?.innerText.includes(text)", arg=[where, text])

    def choose(self, menu: str, option: str) -> None:
        """Pick an option of a menu by (a part of) its text."""
        self.page.click(f"#runs-{menu} input")
        self.page.click(f"#runs-{menu} ul[role=listbox] li:has-text('{option}')")
        self.page.keyboard.press("Escape")

    def take_away(self, menu: str, number: int = 0) -> None:
        self.page.locator(f"#runs-{menu} .token-remove:not(.remove-all)").nth(number).click()

    @property
    def query(self) -> dict[str, list[str]]:
        return urllib.parse.parse_qs(urllib.parse.urlsplit(self.page.url).query)

    @property
    def link(self) -> str:
        return self.page.input_value("#runs-link textarea, #runs-link input")


@pytest.fixture(scope="module")
def desktop(browser):
    """One for all visits from a desktop, so that the plotting library is fetched once."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    yield context
    context.close()


@pytest.fixture
def visit(browser, desktop, address):
    with visits(browser, desktop, lambda context: Visit(context, address)) as make:
        yield make


def test_the_page_shows_the_latest_run_of_each_machine_with_plots_that_are_really_drawn(visit):
    page = visit()
    page.open()
    names = [trace["name"] for trace in page.drawn("forest")]
    assert "faster" in names
    page.says("A · NVIDIA H100 80GB HBM3")
    page.says("B · a CPU")
    assert "Files that were skipped" not in page.page.inner_text("#runs-words")
    page.says("optimized", "#runs-pairs")
    assert page.query == {}  # the address of the newest runs stays the address of the newest runs

    page.tab("speed")
    violins = page.drawn("distributions")
    assert {trace["type"] for trace in violins} == {"violin"}
    assert [(trace["name"], trace["n"]) for trace in violins][:2] == [("baseline", 48), ("baseline (A/A)", 48)]
    assert "optimized" in page.page.inner_text("#runs-percentiles")

    page.tab("costs")
    assert [trace["name"] for trace in page.drawn("stages")][:6] == ["reference", "text", "sampler", "vocoder", "transfer", "other"]
    assert "optimized: fit" in [trace["name"] for trace in page.drawn("lengths")]
    assert len(page.drawn("memory")) == 2
    assert len(page.drawn("first_calls")) == 8
    assert min(page.width(figure) for figure in ("stages", "lengths", "memory", "first_calls")) > 900
    page.tab("timeline")
    assert {"Processor clock of the card", "Temperature", "Processor in use, by anybody"} <= {
        trace["name"] for trace in page.drawn("timeline")
    }
    assert page.width("timeline") > 900
    page.tab("environment")
    page.says("NVIDIA H100 80GB HBM3", "#runs-environment")
    page.tab("verdict")
    page.drawn("forest")
    assert page.width("forest") > 900


def test_choosing_another_run_and_a_filter_changes_the_plots_and_the_address(visit):
    page = visit()
    page.open("?run=newest&tab=speed", "distributions")
    assert [trace["name"] for trace in page.drawn("distributions")] == ["baseline", "baseline (A/A)", "no-empty-cache", "optimized"]
    page.choose("runs", "2026-11-22")
    page.page.wait_for_function(f"({DATA})('distributions')?.length === 7")
    page.page.wait_for_function("location.search.includes('run=older')")
    assert page.query["run"] == ["newest", "older"]
    page.take_away("runs")
    page.page.wait_for_function(f"({DATA})('distributions')?.length === 3")
    page.page.wait_for_function("!location.search.includes('newest')")
    assert page.query == {"run": ["older"], "tab": ["speed"]}
    page.choose("configs", "optimized")
    page.page.wait_for_function(f"({DATA})('distributions')?.length === 1")
    assert [trace["name"] for trace in page.drawn("distributions")] == ["optimized"]
    page.page.wait_for_function("location.search.includes('config=optimized')")


def test_a_tab_opened_while_a_choice_is_on_its_way_stays_open_and_shows_what_was_chosen(visit, monkeypatch):
    page = visit()
    page.open("?run=newest&run=cpu")
    take, late = runs_page.take_from_shelf, []

    def slow_at_first(*arguments):
        if not late:
            late.append(True)
            time.sleep(2)
        return take(*arguments)

    monkeypatch.setattr(runs_page, "take_from_shelf", slow_at_first)
    page.choose("configs", "optimized")
    page.tab("speed")
    page.page.wait_for_function(f"({DATA})('distributions')?.every(trace => trace.name.includes('optimized'))")
    page.page.click("#runs-kind label:has-text('ECDF')")
    page.page.wait_for_timeout(2500)  # the answer to the choice has come
    traces = page.drawn("distributions")
    assert {trace["type"] for trace in traces} == {"scatter"}
    assert all("optimized" in trace["name"] for trace in traces)
    assert page.page.is_checked("#runs-kind label:has-text('ECDF') input")
    assert page.query["tab"] == ["speed"]


def test_an_answer_that_comes_late_does_not_undo_another_way_of_drawing(visit, monkeypatch):
    page = visit()
    page.open("?run=newest&run=cpu")
    page.tab("speed")
    page.drawn("distributions")
    page.tab("verdict")
    page.drawn("forest")
    look = runs_page.RunsPage.look

    def late(*arguments):
        made = look(*arguments)
        monkeypatch.setattr(runs_page.RunsPage, "look", look)
        time.sleep(3)
        return made

    monkeypatch.setattr(runs_page.RunsPage, "look", late)
    page.tab("speed")  # asks for violins, which come after the ECDF
    page.page.click("#runs-kind label:has-text('ECDF')")
    page.page.wait_for_function(f"({DATA})('distributions')?.every(trace => trace.type === 'scatter')")
    page.page.wait_for_timeout(4_000)
    page.page.wait_for_function(f"({DATA})('distributions')?.every(trace => trace.type === 'scatter')")
    page.page.wait_for_function("location.search.includes('kind=ecdf')")
    assert page.link == page.page.url


def test_a_link_whose_filters_nothing_passes_opens_its_tab_when_a_filter_is_taken_away(visit):
    page = visit()
    page.open("?card=a+CPU&config=no-empty-cache&tab=speed", figure="")
    page.says("No run passes all the filters.")
    page.take_away("configs")
    page.drawn("distributions")
    assert page.page.is_visible("#runs-distributions")
    assert page.query["tab"] == ["speed"]


def test_a_permalink_opened_again_shows_the_same(visit):
    first = visit()
    first.open("?run=newest&run=cpu")
    first.page.click("#runs-reference input")
    first.page.click("#runs-reference ul[role=listbox] li:has-text('optimized')")
    first.says("Against optimized")
    first.tab("speed")
    first.drawn("distributions")
    first.page.click("#runs-kind label:has-text('ECDF')")
    first.page.wait_for_function(f"({DATA})('distributions')?.every(trace => trace.type === 'scatter')")
    first.page.wait_for_function("location.search.includes('kind=ecdf')")
    assert first.link == first.page.url
    traces, words = first.drawn("distributions"), first.page.inner_text("#runs-words")

    second = visit()
    second.page.goto(first.link)
    assert second.drawn("distributions") == traces
    assert second.page.inner_text("#runs-words") == words
    assert second.page.is_checked("#runs-kind label:has-text('ECDF') input")
    assert second.page.input_value("#runs-reference input") == "optimized"
    assert second.page.locator("#runs-runs .token").count() == 2


def contrast(page: Visit) -> float:
    """Contrast ratio (WCAG) of the text of a plot and what is behind it."""
    text = page.page.evaluate("getComputedStyle(document.querySelector('#runs-forest .annotation-text')).fill")
    behind = page.page.evaluate(
        """() => {
            const clear = (element) => ["rgba(0, 0, 0, 0)", "transparent"].includes(getComputedStyle(element).backgroundColor);
            let element = document.querySelector("#runs-forest .main-svg");
            while (clear(element)) element = element.parentElement;
            return getComputedStyle(element).backgroundColor;
        }"""
    )
    light, dark = sorted(map(_luminance, (text, behind)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_can_read_every_tab_without_scrolling_sideways(visit, theme):
    page = visit(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    page.open(f"?__theme={theme}")
    assert page.page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
    assert contrast(page) > 3
    tabs = {"verdict": "forest", "speed": "distributions", "costs": "first_calls", "timeline": "timeline"}
    for tab, figure in list(tabs.items())[: 4 if theme == "light" else 2]:
        page.tab(tab)
        page.drawn(figure)
        assert 300 < page.width(figure) <= 352
        assert page.page.evaluate("document.documentElement.scrollWidth") == 360
        over = page.page.evaluate(
            """name => [...document.querySelectorAll(`#runs-${name} .annotation-text`)].filter(text => {
                const svg = text.closest('.main-svg').getBoundingClientRect(), box = text.getBoundingClientRect();
                return box.left < svg.left - 1 || box.right > svg.right + 1;
            }).map(text => text.textContent)""",
            figure,
        )
        assert over == []
    page.tab("environment")
    page.says("device", "#runs-environment")
    assert page.page.evaluate("document.documentElement.scrollWidth") == 360
    page.page.wait_for_function("location.search.includes('tab=environment')")
    assert page.query["__theme"] == [theme]  # the choice of a theme survives a change of the address


def test_an_uploaded_run_is_shown_and_stored_only_when_it_is_kept(visit, runs, tmp_path):
    run = renamed(synthetic_run("baseline,optimized", rounds=6, on=machine("Jetson AGX Orin", "cuda"), seed=5), "from-elsewhere", -9)
    path = tmp_path / "from-elsewhere.json"
    path.write_text(run.model_dump_json())
    broken = tmp_path / "notes.json"
    broken.write_text('{"version": 99}')
    page = visit()
    page.open("?run=cpu")
    page.page.set_input_files("#runs-upload input[type=file]", broken)
    page.says("made by a newer lab", "#runs-upload-said")
    assert page.page.is_disabled("#runs-keep")
    page.page.set_input_files("#runs-upload input[type=file]", path)
    page.says("from-elsewhere is shown, and not stored", "#runs-upload-said")
    page.says("B · not stored: Jetson AGX Orin")
    page.page.wait_for_function(f"({DATA})('forest')?.length >= 2")
    assert not (runs / "from-elsewhere.json").exists()
    assert "from-elsewhere" not in page.link
    try:
        page.page.click("#runs-keep")
        page.says("Stored as from-elsewhere.json.", "#runs-upload-said")
        assert read_run(runs / "from-elsewhere.json") == run
        page.page.wait_for_function("location.search.includes('run=from-elsewhere')")
        page.reload()
        page.drawn("forest")
        page.says("B · Jetson AGX Orin")
    finally:
        (runs / "from-elsewhere.json").unlink(missing_ok=True)


def test_a_hostile_link_and_a_hostile_upload_are_shown_as_text_and_run_nothing(visit, tmp_path):
    whole = json.loads(renamed(synthetic_run("baseline,optimized", rounds=6), "hostile").model_dump_json())
    for arm in whole["arms"]:
        arm["label"] = arm["config"] = f"{HOSTILE} {arm['label']}"
    for text in whole["texts"]:
        text["set"] = f"{HOSTILE} {text['set']}"
    whole["devices"][0].update(device=HOSTILE, cpu=HOSTILE)
    whole["samples"]["invalid"] = {"9": [HOSTILE]}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(whole))
    page = visit()
    page.open(f"?run=cpu&run=gone&config={urllib.parse.quote(HOSTILE)}&kind=pie")
    page.says("There is no run “gone” here.")
    page.says(f"a configuration “{HOSTILE}”")
    page.page.set_input_files("#runs-upload input[type=file]", path)
    page.says(f"not stored: {HOSTILE[:20]}")
    for tab, figure in (("verdict", "forest"), ("speed", "distributions"), ("costs", "first_calls"), ("timeline", "timeline")):
        page.tab(tab)
        page.page.wait_for_function(f"name => ({DATA})(name)?.length >= 2", arg=figure)
        page.drawn(figure)
    page.tab("environment")
    page.says(HOSTILE, "#runs-environment")
    page.page.click("#runs-cards input")
    page.page.wait_for_timeout(300)
    assert page.page.locator("img[src=x]").count() == 0


def test_files_are_made_when_asked_for_and_the_figures_open_anywhere_without_a_network(visit, tmp_path):
    page = visit()
    page.open("?run=newest")
    page.page.click("#runs-files-kinds label:has-text('figures')")
    page.page.click("#runs-export")
    page.says("Made from 1 runs.", "#runs-export-said")
    page.page.wait_for_selector("#runs-files a[download]")
    names = page.page.eval_on_selector_all("#runs-files a[download]", "links => links.map(link => link.download)")
    assert sorted(names) == ["figures.html", "newest.json", "samples.csv"]
    with page.page.expect_download() as download:
        page.page.click("#runs-files a[download='figures.html']")
    saved = tmp_path / "figures.html"
    download.value.save_as(saved)
    offline = visit(offline=True)
    offline.address = saved.as_uri()
    offline.page.goto(saved.as_uri())
    offline.page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 7")
    assert offline.page.locator("h2").count() == 7


def test_an_empty_folder_says_how_to_make_a_run(visit, monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_RUNS_DIR", str(tmp_path))
    page = visit()
    page.open(figure="")
    page.says("There are no runs yet.")
    page.says("python -m lab bench")
    assert page.page.locator("#runs-tabs").count() == 0 or not page.page.is_visible("#runs-tabs")


def test_the_two_pages_link_to_each_other(visit):
    page = visit()
    page.open()
    with leaving(page.complaints):
        page.page.click("nav a:has-text('Compare'), .nav-holder a:has-text('Compare')")
        page.page.wait_for_selector("#lab-player .player")
    page.page.wait_for_function("document.querySelector('#length-estimate').innerText.includes('About')")
    with leaving(page.complaints):
        page.page.click("nav a:has-text('Runs'), .nav-holder a:has-text('Runs')")
        page.drawn("forest")
    assert Path(urllib.parse.urlsplit(page.page.url).path).name == "runs"
