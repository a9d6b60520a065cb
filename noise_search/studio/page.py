"""The page: fields, buttons and HTML over a `Desk`, by Gradio. No logic; what can't be done is said at its field."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from noise_search.studio import cards
from noise_search.studio.asked import ME, MOST, Asked
from noise_search.studio.board import Refused
from noise_search.studio.desk import Desk

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before it is imported, which is when it looks

import gradio as gr

_HERE = Path(__file__).parent
CSS, JS = (_HERE / "page.css").read_text(encoding="utf-8"), (_HERE / "page.js").read_text(encoding="utf-8")
SEEN = "watch('value', () => element.querySelector('[role=alert]')?.scrollIntoView({ block: 'nearest' }));"
"""A line at a field comes into view."""
_VERIFIERS = {
    "clip": "clip: matches the prompt",
    "aesthetic": "aesthetic: looks good",
    "vlm": "vlm: a model says it shows the prompt",
    ME: "me: I rate every picture",
}
_MOVES = [("Near its noise", "neighbour"), ("Branch on the way", "branch"), ("Again, other steps", "again")]
_FIELDS = {
    "prompt": "prompt",
    "model": "model",
    "verifier": "verifier",
    **dict.fromkeys(("algorithm", "candidates", "seed", "steps", "guidance"), "budget"),
    **dict.fromkeys(("picks", "count", "rating", "picture", "run"), "picks"),
}
"""At which line of the page a refusal of a field is said."""


def theme() -> gr.themes.Base:
    """Fonts of the reader's own machine: nothing is fetched from elsewhere."""
    sans, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    return gr.themes.Base(primary_hue="indigo", neutral_hue="slate", font=sans, font_mono=mono)


def page(desk: Desk) -> gr.Blocks:
    """Build it."""
    choices = desk.choices()
    with gr.Blocks(title="noise-search studio", analytics_enabled=False, fill_width=True) as made:
        board, picks, shown, drawn = gr.State(""), gr.State([]), gr.State(None), gr.State(("", ""))
        gr.HTML(
            '<div class="ns-title"><h1>noise-search studio</h1><p>Search for better noise, pick by eye, go on from '
            "what you like.</p></div>"
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                prompt = gr.Textbox(label="Prompt", lines=2, max_lines=6, placeholder="two yellow stars")
                lines = {"prompt": gr.HTML(elem_classes="ns-slot", js_on_load=SEEN)}
                model = gr.Dropdown(
                    choices["model"],
                    value=choices["model"][0],
                    label="Model",
                    info=None if desk.models else "Embedded, a saved pipeline's directory, or a hub id",
                    allow_custom_value=desk.models is None,
                )
                lines["model"] = gr.HTML(elem_classes="ns-slot", js_on_load=SEEN)
                verifier = gr.Dropdown(
                    [(_VERIFIERS.get(one, one), one) for one in choices["verifier"]],
                    value="clip",
                    label="Who scores",
                    allow_custom_value=True,
                )
                lines["verifier"] = gr.HTML(elem_classes="ns-slot", js_on_load=SEEN)
                algorithm = gr.Dropdown(
                    choices["algorithm"],
                    value="random",
                    label="Algorithm",
                    info="random shows every image; auto and halving prune, and show the best few",
                )
                candidates = gr.Slider(1, min(MOST, 128), value=16, step=1, label="Budget in images")
                with gr.Accordion("More settings", open=False):
                    seed = gr.Number(value=0, precision=0, label="Seed of the first noise")
                    # Fields of numbers can't be empty: once they are seen, they say 0.
                    steps = gr.Textbox(label="Steps", placeholder="the model's own", max_lines=1)
                    guidance = gr.Textbox(label="Guidance", placeholder="the model's own", max_lines=1)
                lines["budget"] = gr.HTML(elem_classes="ns-slot", js_on_load=SEEN)
                cost = gr.HTML(elem_classes="ns-slot", elem_id="cost")
                with gr.Row():
                    start = gr.Button("Search", variant="primary", elem_id="start", min_width=100)
                    stop = gr.Button("Stop", variant="stop", elem_id="stop", interactive=False, min_width=100)
                with gr.Accordion("Runs on this machine", open=False) as shelf:
                    runs = gr.HTML(js_on_load=JS)
            with gr.Column(scale=3, min_width=340):
                status = gr.HTML(
                    '<p class="ns-empty">Say what to make, and search.</p>', js_on_load=JS, elem_id="status"
                )
                with gr.Column(visible=False, elem_id="actions", min_width=300) as actions:
                    with gr.Row():
                        move = gr.Dropdown(
                            _MOVES, value="neighbour", label="Go on from the picked pictures", min_width=230
                        )
                        likeness = gr.Slider(
                            0.3, 0.99, value=0.9, step=0.01, label="Likeness of the noises", min_width=230
                        )
                        leave = gr.Slider(
                            0.1, 0.9, value=0.5, step=0.05, label="Branches leave at", visible=False, min_width=230
                        )
                        again = gr.Number(value=40, precision=0, label="Steps", visible=False)
                        count = gr.Slider(1, 32, value=8, step=1, label="How many", min_width=200)
                    with gr.Row():
                        more = gr.Button("More like these", variant="primary", size="md", elem_id="more")
                        differ = gr.Button("Different from these", size="md", elem_id="different")
                        compare = gr.Button("Compare in pairs", size="md", elem_id="compare")
                        clear = gr.Button("Pick none", size="md", elem_id="clear")
                lines["picks"] = gr.HTML(elem_classes="ns-slot", js_on_load=SEEN)
                grid = gr.HTML(js_on_load=JS, elem_id="grid")
        timer = gr.Timer(1.0)
        form = [prompt, model, verifier, algorithm, candidates, seed, steps, guidance]
        names = ["prompt", "model", "verifier", "algorithm", "candidates", "seed", "steps", "guidance"]
        said = [*lines.values()]
        state = [board, picks, shown, drawn]
        seen = [status, grid, actions, stop, drawn]

        def look(board: str, picks: list[str], shown: Any, drawn: tuple[str, str]) -> list[Any]:
            """What changed of what is seen."""
            try:
                view = desk.view(board) if board else None
            except Refused:  # its directory went away
                view = None
            if view is None:
                return [gr.skip()] * 5
            made = cards.status(view), cards.grid(view, picks, shown)
            parts = [new if new != old else gr.skip() for new, old in zip(made, drawn, strict=True)]
            running = view.state in ("waiting", "running")
            return [*parts, gr.update(visible=bool(view.pictures)), gr.update(interactive=running), made]

        def wrong(error: Refused | None = None, at: str | None = None) -> list[str]:
            """The lines at fields, or at one of them whatever the field."""
            at = None if error is None else at or _FIELDS.get(error.field, "budget")
            return [cards.error(str(error)) if name == at else "" for name in lines]

        def told(do: Callable[..., list[Any]], skipped: int, at: str | None = None) -> Callable[..., list[Any]]:
            """A handler whose refusals are said at their fields; else nothing else changes."""

            @wraps(do)
            def run(*given: Any) -> list[Any]:
                try:
                    return [*do(*given), *wrong()]
                except Refused as error:
                    return [*[gr.skip()] * skipped, *wrong(error, at)]

            return run

        def begin(*given: Any) -> list[Any]:
            name = desk.start(Asked.of(**dict(zip(names, given, strict=True))))
            return [name, [], None, *look(name, [], None, ("", ""))]

        def price(*given: Any) -> list[Any]:
            """The cost line; what was said of a prompt or of picks stays, as neither is asked for here."""
            asked = dict(zip(names, given, strict=True))
            try:
                said = [cards.quiet(desk.cost(Asked.of(**{**asked, "prompt": asked["prompt"] or "-"}))), *wrong()]
            except Refused as error:
                said = [gr.skip(), *wrong(error)]
            return [
                gr.skip() if name in ("prompt", "picks") else one for name, one in zip(["", *lines], said, strict=True)
            ]

        def halt(board: str) -> None:
            desk.stop(board)

        def go_on(board: str, picks: list[str], shown: Any, drawn: Any, *how: Any) -> list[Any]:
            move, cosine, leave, steps, count = how
            desk.more_like(board, picks, move=move, cosine=cosine, leave=leave, steps=steps, count=count)
            return [board, [], shown, *look(board, [], shown, drawn)]

        def apart(board: str, picks: list[str], shown: Any, drawn: Any, count: int) -> list[Any]:
            picks = desk.different(board, picks, min(int(count), 4))
            return [board, picks, shown, *look(board, picks, shown, drawn)]

        def ask(board: str, picks: list[str], shown: Any, drawn: Any) -> list[Any]:
            desk.compare(board, picks)
            return [board, picks, shown, *look(board, picks, shown, drawn)]

        def none(board: str, picks: list[str], shown: Any, drawn: Any) -> list[Any]:
            return [board, [], shown, *look(board, [], shown, drawn)]

        def act(board: str, picks: list[str], shown: Any, drawn: Any, what: str, of: str) -> list[Any]:
            if what == "open":
                board, picks, shown, drawn = of, [], None, ("", "")
            elif what == "pick":
                picks = [one for one in picks if one != of] if of in picks else [*picks, of]
            elif what in ("up", "down"):
                desk.thumb(board, of, what)
            elif what == "show":
                shown = desk.about(board, of)
            elif what == "hide":
                shown = None
            elif what == "replay":
                shown = {**desk.about(board, of), "replay": desk.replay(board, of)}
            elif what == "resume":
                desk.resume(board)
            elif what == "prefer":
                said, left, right = [*of.split("|"), "", ""][:3]
                desk.prefer(board, left, right, said)
            elif what == "rate":
                question, _, value = of.partition("|")
                desk.rate(board, int(question), float(value))
            return [board, picks, shown, *look(board, picks, shown, drawn)]

        def clicked(board: str, picks: list[str], shown: Any, drawn: Any, event: gr.EventData) -> list[Any]:
            given = event._data if isinstance(event._data, dict) else {}
            return told(act, 8, "picks")(board, picks, shown, drawn, str(given.get("what")), str(given.get("of")))

        def listed() -> str:
            return cards.runs(desk.boards())

        def arrived(request: gr.Request) -> list[Any]:
            name = request.query_params.get("run", "")
            if not name:
                return [gr.skip()] * (8 + len(names)) + wrong()
            try:
                view = desk.view(name)
            except Refused as error:
                return [gr.skip()] * (8 + len(names)) + wrong(error)
            asked = [view.asked.get(one) if view.asked.get(one) not in (None, "") else gr.skip() for one in names]
            return [name, [], None, *look(name, [], None, ("", "")), *asked, *wrong()]

        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        everything = [board, picks, shown, *seen, *said]
        start.click(told(begin, 8), form, everything, **quiet)
        prompt.submit(told(begin, 8), form, everything, **quiet)
        stop.click(halt, [board], None, **quiet)
        more.click(told(go_on, 8, "picks"), [*state, move, likeness, leave, again, count], everything, **quiet)
        differ.click(told(apart, 8, "picks"), [*state, count], everything, **quiet)
        compare.click(told(ask, 8, "picks"), state, everything, **quiet)
        clear.click(told(none, 8, "picks"), state, everything, **quiet)
        # Quick clicks all count, one after the other, as each goes by what was picked before.
        in_order = {"trigger_mode": "multiple", "concurrency_limit": 1, "concurrency_id": "clicks"}
        for one in (status, grid, runs):
            one.click(clicked, state, everything, **in_order, **quiet)
        grid.submit(clicked, state, everything, **quiet)  # of what takes long
        move.change(
            lambda move: (
                [gr.update(visible=move == one) for one in ("neighbour", "branch", "again")]
                + [gr.update(visible=move != "again")]
            ),
            [move],
            [likeness, leave, again, count],
            **quiet,
        )
        last = {"concurrency_limit": 1, "concurrency_id": "price", **quiet}  # said last of what was asked last
        for field in (model, verifier, algorithm, candidates, seed, steps, guidance):
            field.change(price, form, [cost, *said], trigger_mode="always_last", **last)
        timer.tick(look, state, seen, **quiet)
        shelf.expand(listed, None, runs, **quiet)
        made.load(arrived, None, [board, picks, shown, *seen, *form, *said], **quiet)
        made.load(price, form, [cost, *said], **last)
        made.load(listed, None, runs, **quiet)
    return made
