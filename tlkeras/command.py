"""What every verb of the command line shares: the envelope, errors and exit codes, options.

stdout is the result, stderr the log.
"""

import contextlib
import functools
import json
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import click

from tlkeras import __version__, completion
from tlkeras.errors import TlkerasError

PATH = click.Path(path_type=Path)


@dataclass(frozen=True)
class Answer:
    """What a verb gives back: data for --json, text for people, and the command that comes next."""

    data: object
    text: str = ""
    next: str = ""
    exit_code: int = 0


class InOrder(click.Group):
    """Lists its commands in the order of use, which is the order they are written down in."""

    def list_commands(self, ctx):
        return list(self.commands)


@click.group(
    cls=InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "TLKERAS", "max_content_width": 110},
    no_args_is_help=True,
)
@click.version_option(__version__)
def main() -> None:
    """Adapt a pretrained model to your own data, and deploy it.

    \b
    A first model:   tlkeras train PHOTOS      (a folder with one folder of images per class)
                     tlkeras serve saved_models/PHOTOS
    """


def verb(name: str, tensorflow: bool = True):
    """Makes a function that returns an Answer into a command with --json, error handling and exit codes."""

    def make(body):
        @main.command(name, help=body.__doc__)
        @click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
        @functools.wraps(body)
        def command(as_json, **options):
            try:
                if tensorflow:
                    import_tensorflow_quietly()
                answer = body(**options)
            except TlkerasError as e:
                _log_traceback(options)
                _fail(name, as_json, e.exit_code, type(e).__name__, str(e))
            except KeyboardInterrupt:
                _fail(name, as_json, 130, "Interrupted", "Interrupted. A run goes on with: tlkeras train --resume RUN")
            except Exception as e:
                where = _log_traceback(options)
                if not where:
                    traceback.print_exc()
                _fail(
                    name,
                    as_json,
                    1,
                    type(e).__name__,
                    f"{e}\nThis is a mistake in tlkeras, not yours."
                    + (f" The traceback is in {where}" if where else ""),
                )
            if as_json:
                click.echo(
                    json.dumps(
                        {
                            "schema": 1,
                            "verb": name,
                            "ok": not answer.exit_code,
                            "data": answer.data,
                            "next": answer.next,
                        },
                        default=str,
                        ensure_ascii=False,
                    )
                )
            else:
                click.echo(answer.text.rstrip("\n"))
                if answer.next:
                    click.echo(f"\nNext: {answer.next}")
            sys.exit(answer.exit_code)

        return command

    return make


def _fail(name: str, as_json: bool, code: int, kind: str, text: str) -> None:
    if as_json:
        click.echo(
            json.dumps(
                {"schema": 1, "verb": name, "ok": False, "error": {"kind": kind, "message": text, "exit_code": code}},
                ensure_ascii=False,
            )
        )
    click.echo(f"{kind}: {text}", err=True)
    sys.exit(code)


def _log_traceback(options: dict) -> str:
    """Appends the traceback to error.log of the run folder that the options name; returns its path, or ''."""
    folder = options.get("run") or options.get("out")
    if options.get("resume"):
        folder = options.get("config")
    if folder and (Path(folder) / "config.yaml").is_file():
        with contextlib.suppress(OSError), (Path(folder) / "error.log").open("a", encoding="utf8") as f:
            f.write(traceback.format_exc() + "\n")
            return str(Path(folder) / "error.log")
    if os.environ.get("TLKERAS_DEBUG"):
        traceback.print_exc()
    return ""


def import_tensorflow_quietly() -> None:
    from tlkeras.progress import quiet_descriptor

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_descriptor():
        import tensorflow as tf

        tf.constant(0)


def config_argument(f):
    f = click.option(
        "-s",
        "--set",
        "sets",
        multiple=True,
        metavar="KEY=VALUE",
        shell_complete=completion.complete_set,
        help="Override a value: -s train.phases.0.epochs=3",
    )(f)
    return click.argument("config", type=PATH)(f)


run_argument = click.argument("run", type=PATH, shell_complete=completion.complete_run)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
offline_option = click.option("--offline", is_flag=True, help="Touch no network; what is missing is an error.")


def group(name: str, about: str):
    """A decorator like `verb` for the verbs of a group, which import no TensorFlow unless told to."""
    made = click.Group(name, help=about, context_settings={"help_option_names": ["-h", "--help"]})
    main.add_command(made)

    def make_verb(verb_name: str, tensorflow: bool = False):
        def make(body):
            command = verb(f"{name} {verb_name}", tensorflow=tensorflow)(body)
            main.commands.pop(f"{name} {verb_name}")
            command.name = verb_name
            made.add_command(command)
            return command

        return make

    return make_verb
