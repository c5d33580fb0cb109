"""What the Compare page does: renders, shows, saves, opens. `compare_layout` says where things are on it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from lab import compare, texts, voices
from lab.config import REGISTRY, EngineConfig, parse, parse_list
from lab.engine import patching
from lab.engine.clip import Clip
from lab.engine.device import fitness
from lab.errors import LabError
from lab.store import NotFound
from lab.ui import results
from lab.ui.context import Context, origin_of
from lab.ui.own_voice import OWN
from lab.ui.player import SyncPlayer
from lab.ui.rendering import Event, rendering
from lab.ui.words import plain

MOST = 4  # configurations on the page: as many as a person can hold apart, and as workers are kept
STOP = "Stop"

_log = logging.getLogger(__name__)
_TRACKER = gr.Progress()  # Gradio puts the real one in its place


class ComparePage:
    """The Compare page's behaviour over one `Context`."""

    def __init__(self, context: Context) -> None:
        self.context = context

    # --- what the page computes

    def voice_choices(self, own: list[tuple[str, str]] | None = None) -> list[tuple[str, str]]:
        """The bundled voices that suit the weights, and the person's own."""
        kind = self.context.choice.weights.kind
        wanted = ("demo" if self.context.choice.weights.architecture == "demo" else "full", "any")
        bundled = [
            (f"{voice.name} ({voice.language}, {voice.seconds:.1f} s)", voice.id)
            for voice in voices.bundled_voices()
            if voice.suits in wanted
        ]
        if kind != "demo":
            bundled.sort(key=lambda choice: not choice[1].startswith("upstream"))
        return [*bundled, *(own or [])]

    def find_voice(self, voice_id: str) -> voices.Voice:
        """A voice by the value of the menu."""
        if not isinstance(voice_id, str):
            raise LabError("Choose a voice.")
        if voice_id.startswith(OWN):
            return voices.voice_from_row(self.context.store.load_voice(voice_id.removeprefix(OWN)), self.context.store)
        bundled = voices.bundled_voice(voice_id)
        if bundled is None:  # `voices.find_voice` would take it for a path, and a browser must not name files of the server
            raise LabError("This voice is not in the menu. Choose one of it.")
        return bundled

    @staticmethod
    def public_name(voice_id: str) -> str:
        """What facts call a voice: the id of a person's own would let every reader of a permalink use and delete it."""
        return "own voice" if voice_id.startswith(OWN) else voice_id

    def config_choices(self) -> list[tuple[str, str]]:
        """All named configurations, marked where they cannot run here."""
        device = self.context.pool.device
        return [(config.name + (" (not here)" if fitness(config, device).refused else ""), config.name) for config in REGISTRY.values()]

    def estimate(self, text: str, voice_id: str) -> str:
        """How long the speech will be, as the page says it."""
        cleaned = texts.clean(text or "")
        if not cleaned:
            return "Type something, or take an example."
        try:
            voice = self.find_voice(voice_id)
            seconds = texts.estimate_seconds(cleaned, voice.seconds, voice.transcript)
        except LabError as error:
            return plain(str(error))
        limit = compare.max_seconds()
        return f"About {seconds:.1f} s of speech." + (f" That is over the limit of {limit:g} s." if seconds > limit else "")

    def notes(self, specs: list[str]) -> str:
        """What the chosen configurations are, and what they do or do not do on this device."""
        lines = []
        for spec in specs or []:
            try:
                config = parse(spec)
            except LabError as error:
                lines.append(f"- {plain(str(error))}")
                continue
            fit = fitness(config, self.context.pool.device)
            here = f"Cannot run here: {fit.refused}." if fit.refused else fit.without_effect
            lines.append(f"- **{plain(config.name)}**: {plain(f'{config.summary}. {here}')}")
        return "\n".join(lines)

    def variant(self, base: str, field: str, value: str, chosen: list[str]) -> Any:
        """Add `base` with one field changed to the chosen configurations."""
        try:
            config = parse(f"{base}:{field}={value}")
        except LabError as error:
            raise gr.Error(plain(str(error))) from None
        if config.name in chosen:
            raise gr.Error(plain(f"{config.name} is chosen already."))
        if len(chosen) >= MOST:
            raise gr.Error(f"There are {MOST} configurations already: take one away first.")
        choices = [*self.config_choices(), *((name, name) for name in (*chosen, config.name) if name not in REGISTRY)]
        return gr.update(choices=choices, value=[*chosen, config.name])

    # --- rendering

    def generate(
        self, text: str, voice_id: str, specs: list[str], seed: float, cache: str, request: gr.Request, progress: gr.Progress = _TRACKER
    ) -> Iterator[Any]:
        """Render, yielding the page's outputs each time something is ready."""
        session = str(request.session_hash)
        try:
            if seed is None or seed != int(seed):
                raise LabError("The seed has to be a whole number.")
            if not all(isinstance(spec, str) for spec in specs or []):
                raise LabError("Choose configurations by their names.")
            configs = parse_list(list(specs or []), least=2, most=MOST)
            for config in configs:
                patching.select(config.patches)
            voice = self.find_voice(voice_id)
            order = compare.make_request(self.context.pool, text or "", voice, int(seed), reference_cache=cache)
        except LabError as error:
            yield self._idle(f"**Not rendered.** {plain(str(error))}")
            return
        cancel = self.context.jobs.begin(session)
        try:
            yield self._running(results.table(None, (), [config.name for config in configs]), "Starting…")
            yield from self._follow(rendering(self.context.pool, configs, order, self.public_name(voice_id), cancel), configs, progress)
        except Exception as error:  # whatever it was, the page has to say so
            _log.exception("showing a comparison failed")
            yield self._idle(f"**Not finished.** {plain(f'{type(error).__name__}: {error}')}")
        finally:
            # also when the browser goes away in the middle: nobody waits for the result, so the engine is freed
            cancel.set()
            self.context.jobs.end(session, cancel)

    def _follow(self, events: Iterator[Event], configs: tuple[EngineConfig, ...], progress: Any) -> Iterator[Any]:
        clips: list[Clip] = []
        facts = compare.comparison_facts([], self.context.choice.reason)  # grows with the clips, so that each is measured once
        failures: list[tuple[str, str]] = []
        trouble = ""
        told = time.monotonic()
        for event in events:
            if event.kind == "progress":
                stage, done, total = event.value
                share = (len(clips) + len(failures) + (done / total if total else 0)) / len(configs)
                progress(min(share, 0.99), desc=stage)
                if time.monotonic() - told >= 1:
                    told = time.monotonic()
                    yield _in_order({})  # says nothing, but a generator can only be closed where it yields, when the browser goes away
                continue
            if event.kind == "clip":
                clips.append(event.value)
                facts["clips"].append(event.value.facts)
                if len(clips) > 1:
                    facts["differences"].append(compare.difference(clips[0], event.value))
            elif event.kind == "failure":
                failures.append((event.value.config.name, event.value.message))
            elif event.kind == "stopped":
                trouble = "**Stopped.** The engine is free again."
            else:
                trouble = f"**Not finished.** {plain(event.value)}"
            settled = {clip.config.name for clip in clips} | {name for name, _ in failures}
            waiting = [] if trouble else [config.name for config in configs if config.name not in settled]
            yield self._running(results.table(facts, failures, waiting), trouble or f"{len(settled)} of {len(configs)} rendered.")
        yield self._finished(results.shown(clips, facts), failures, trouble)

    # --- the outputs, always in the order of `_OUTPUTS`

    def _finished(self, what: results.Shown, failures: list[tuple[str, str]], trouble: str) -> list[Any]:
        made = len(what.names)
        found = plain(results.verdict(what.facts))
        said = (
            trouble
            or f"Rendered {made} of {made + len(failures)}. {found} Times are of one utterance each: an impression, not a benchmark."
        )
        if made and not what.wavs:
            said += " Random weights: the audio is noise for timing and cannot be heard, saved or shared."
        return self.show(what, failures, said)

    def show(self, what: results.Shown, failures: list[tuple[str, str]], said: str, *, saved: bool = False) -> list[Any]:
        """All outputs for a comparison that is there."""
        drawn = results.figures(what)
        changes = {
            "status": said,
            "table": gr.update(value=results.table(what.facts, failures), visible=bool(what.facts["clips"] or failures)),
            "player": SyncPlayer.value_of(results.tracks(what, self.context.clips)),
            "files": gr.update(
                value=results.files(what, self.context.new_folder()) if what.facts["clips"] else None, visible=bool(what.facts["clips"])
            ),
            "state": what,
            "save": gr.update(interactive=what.storable and not saved),
            "link": gr.update(visible=False),
        }
        for name in _PLOTS:
            figure = getattr(drawn, name)
            changes[name] = gr.update(value=figure, visible=figure is not None)
        return _in_order(changes)

    def _running(self, table: Any, said: str) -> list[Any]:
        hidden = dict.fromkeys((*_PLOTS, "files", "link"), gr.update(visible=False))  # what the last comparison left
        return _in_order(
            {
                **hidden,
                "status": said,
                "table": gr.update(value=table, visible=True),
                "player": SyncPlayer.value_of([]),
                "state": None,
                "save": gr.update(interactive=False),
                "generate": gr.update(interactive=False),
                "stop": gr.update(interactive=True),
            }
        )

    def _idle(self, said: str) -> list[Any]:
        return _in_order({"status": said})

    @staticmethod
    def rest() -> tuple[Any, Any]:
        """Generate and Stop when nothing is running.

        For an event of its own after `generate`: the browser drops a click on a button whose event is not over, so that no output of that
        event may offer the button again.
        """
        return gr.update(interactive=True), gr.update(value=STOP, interactive=False)

    def stop(self, request: gr.Request) -> Any:
        """End the job of this tab. Touches the button alone: what became of the job is for the job to say, whichever comes first."""
        return gr.skip() if self.context.jobs.stop(str(request.session_hash)) else self.rest()[1]

    def save(self, what: results.Shown | None, request: gr.Request) -> list[Any]:
        """Keep the comparison and say where."""
        if what is None or not what.storable:
            raise gr.Error("There is nothing to save.")
        try:
            token = self.context.store.save_comparison(what.facts, what.wavs)
        except LabError as error:
            raise gr.Error(plain(str(error))) from None
        return [gr.update(value=f"{origin_of(request)}/?c={token}", visible=True), gr.update(interactive=False)]

    def open(self, request: gr.Request) -> list[Any]:
        """Show what the permalink names, if the page was opened through one; outputs and the five inputs it was made from."""
        token = dict(request.query_params).get("c")
        unchanged = [gr.skip()] * 5
        if not token:
            return [*_in_order({}), *unchanged]
        try:
            stored = self.context.store.load_comparison(str(token))
            what = results.Shown(stored.facts, tuple(self.context.store.get_blob(digest) for digest in stored.clip_hashes))
        except NotFound:
            said = "**There is no comparison under this link.** It may have been deleted; check that the link is whole."
            return [*self._idle(said), *unchanged]
        except LabError as error:
            return [*self._idle(f"**This comparison cannot be shown.** {plain(str(error))}"), *unchanged]
        first = what.facts["clips"][0]
        origin = f"rendered with {plain(first['weights'])} on {plain(first['device'])}"
        said = f"Saved on {stored.created_at:%Y-%m-%d %H:%M} UTC, {origin}. {plain(results.verdict(what.facts))}"
        voice_here = first["voice"] in {value for _, value in self.voice_choices()}
        if not voice_here:
            said += " Its voice is not here any more: rendering again will sound different."
        extra = [(name, name) for name in what.names if name not in REGISTRY]
        return [
            *self.show(what, [], said, saved=True),
            first["text"],
            gr.update(choices=[*self.config_choices(), *extra], value=what.names),
            first["seed"],
            gr.update(value=first["voice"]) if voice_here else gr.skip(),
            first["reference_cache"],
        ]


_PLOTS = ("stages", "waveforms", "spectrograms", "differences")
_OUTPUTS = ("status", "table", "player", *_PLOTS, "files", "state", "save", "generate", "stop", "link")


def _in_order(changes: dict[str, Any]) -> list[Any]:
    """The page's outputs as a list, those not named left as they are."""
    return [changes.get(name, gr.skip()) for name in _OUTPUTS]
