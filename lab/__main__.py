"""`python -m lab`: the lab without a browser."""

from __future__ import annotations

import io
import os
import sys

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import typer

from lab import __version__
from lab.cli import bench, checks, demo_voice, inspect, render, runs, stored, study, turbo

app = typer.Typer(
    name="lab",
    help="iShowTTS Lab: render one text through several F5-TTS engine configurations and compare them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.command("compare")(render.compare_command)
app.command("synth")(render.synth_command)
app.add_typer(bench.bench_app, name="bench")
app.add_typer(runs.runs_app, name="runs")
app.command("report")(checks.report_command)
app.command("validate")(checks.validate_command)
app.command("profile")(checks.profile_command)
app.command("turbo")(turbo.turbo_command)
app.command("engines")(inspect.engines_command)
app.add_typer(inspect.patches_app, name="patches")
app.add_typer(stored.stored_app, name="stored")
app.add_typer(study.study_app, name="study")
app.command("voices")(inspect.voices_command)
app.command("texts")(inspect.texts_command)
app.add_typer(demo_voice.demo_voice_app, name="demo-voice")
app.command("doctor")(inspect.doctor_command)


@app.callback(invoke_without_command=True)
def _main(version: bool = typer.Option(False, "--version", help="Print the version and end.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character gets a question mark, not a traceback
    app(prog_name="python -m lab")


if __name__ == "__main__":
    main()
