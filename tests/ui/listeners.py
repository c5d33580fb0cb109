"""A listener's browser, driven by mouse or by keys alone, and everything that crossed the network or stood on the page."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = "document.querySelector('.listen').parentElement.listenPage"
PATCHES = [path.stem for path in (ROOT / "patches").glob("*.patch")]
FILES = [path.name for folder in ("lab/data/demo", "patches") for path in (ROOT / folder).rglob("*.*") if path.name != "README.md"]
SECONDS = 0.25
_LOOKED_INTO: set[str] = set()
VIEWPORTS = {"desktop": {"width": 1200, "height": 900}, "phone": {"width": 360, "height": 740}}


class Visit:
    """A listener's browser, and everything that crossed the network or stood on the page."""

    def __init__(self, browser, served, study, viewport="desktop", **settings):
        self.context = browser.new_context(viewport=VIEWPORTS[viewport], has_touch=viewport == "phone", **settings)
        self.context.set_default_timeout(60_000)  # for machines that are busy
        self.served, self.study = served, study
        self.seen: dict[str, list[str]] = {"requests": [], "answers": [], "assets": [], "pages": [], "console": []}
        self.complaints: list[str] = []
        self.page = self.new_page()

    def new_page(self):
        page = self.context.new_page()
        page.on("console", lambda message: self.console(message))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.seen["requests"].append(f"{request.url} {request.headers} {request.post_data or ''}"))
        page.on("websocket", lambda socket: self.complaints.append(f"a websocket to {socket.url}"))
        page.on("response", lambda response: self.keep(response))
        return page

    def console(self, message):
        self.seen["console"].append(message.text)
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def keep(self, response):
        where = "assets" if "/assets/" in response.url or "/static/" in response.url else "answers"
        if where == "assets":  # Gradio's own files, the same for every study: looked into once
            if response.url in _LOOKED_INTO:
                return
            _LOOKED_INTO.add(response.url)
        try:
            self.seen[where].append(f"{response.url} {response.headers} {response.body().decode('utf-8', 'replace')}")
        except Exception:  # a redirect has no body
            self.seen[where].append(f"{response.url} {response.headers}")

    def open(self, page=None):
        (page or self.page).goto(self.served.link(self.study))
        (page or self.page).wait_for_selector(".listen:not([data-screen=loading])")

    def screen(self, name):
        self.page.wait_for_selector(f".listen[data-screen={name}]")
        self.seen["pages"].append(self.page.content())

    def ready(self):
        """Wait for the next trial's clips, or for the end; whether there is a trial."""
        try:
            self.page.wait_for_selector(".listen[data-screen=trial] .player[data-state=ready], .listen[data-screen=thanks]")
        except Exception as error:  # playwright is not imported here: without it these tests are skipped
            state = (
                "[...document.querySelectorAll('.listen, .player')].map(e => e.className + ' ' + JSON.stringify({...e.dataset})).join('; ')"
            )
            raise AssertionError(f"{self.page.evaluate(state)}; {self.complaints}; {self.page.inner_text('.listen')[:500]}") from error
        self.seen["pages"].append(self.page.content())
        return self.page.get_attribute(".listen", "data-screen") == "trial"

    def labels(self):
        return self.page.evaluate(f"{PAGE}.trial.shown.tracks.map(track => track.label)")

    def heard(self, place):
        """Wait until the clip at that place has sounded for as long as it has to."""
        ask = f"(() => {{ const t = {PAGE}.trial; return Object.values(t.heard())[{place}] >= Object.values(t.shown.needed)[{place}]; }})()"
        self.page.wait_for_function(ask)

    def ratings(self):
        sessions = self.served.context.studies.sessions(self.study.token)
        return [[trial.rating.answer for trial in session.trials if trial.rating] for session in sessions]

    def close(self):
        self.context.close()


class Mouse:
    """Does everything by clicks, or taps."""

    def __init__(self, visit):
        self.visit, self.page = visit, visit.page

    def press(self, selector):
        self.page.click(selector)

    def begin(self):
        self.page.check(".consent-box")
        self.press("text=Start")
        self.visit.screen("headphones")
        self.press("text=Skip this")
        self.visit.screen("volume")
        self.press("text=The volume is right")

    def answer(self, kind):
        self.press(".play")
        for place, label in enumerate(self.visit.labels()):
            self.press(f".track >> nth={place}")
            self.visit.heard(place)
            if kind == "mushra" and label != "Reference":
                slider = self.page.locator(".slider[data-chosen] input")
                slider.scroll_into_view_if_needed()
                slider.click(position={"x": 0.7 * slider.bounding_box()["width"], "y": 20})
        if kind != "mushra":
            self.press(".option >> nth=0")
        self.press(".next")


class Keyboard:
    """Touches nothing but keys."""

    def __init__(self, visit):
        self.visit, self.page = visit, visit.page
        for name in ("click", "tap", "fill", "check"):
            setattr(self.page, name, None)  # a slip of this test would show

    def key(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def tab_to(self, selector):
        for _ in range(80):
            if self.page.evaluate("selector => document.activeElement?.matches(selector) ?? false", selector):
                return
            self.key("Tab")
        raise AssertionError(f"{selector} cannot be reached by Tab")

    def begin(self):
        self.tab_to(".consent-box")
        self.key("Space", "Enter")
        self.visit.screen("headphones")
        self.tab_to(".actions .quiet")
        self.key("Enter")
        self.visit.screen("volume")
        self.page.wait_for_selector(".player[data-state=ready]")
        self.key("Enter")

    def answer(self, kind):
        self.key("Space")
        for place, label in enumerate(self.visit.labels()):
            self.key("x" if label == "X" else str(place + 1))
            self.visit.heard(place)
            if kind == "mushra" and label != "Reference":
                self.tab_to(".slider[data-chosen] input")
                self.key("ArrowRight", "ArrowRight", "PageUp")
        if kind in ("ab", "abx", "staircase"):
            self.key("a")
        elif kind == "acr":
            self.key("4")
        elif kind == "ccr":
            self.tab_to(".option input")
            self.key("ArrowDown", "ArrowDown")
        self.key("Enter")
