"""The report: what it concludes, that its numbers are the statistics', that it is sound HTML, and a browser's view."""

import ast
import base64
import io
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import noise_search
from noise_search.comparison.comparison import Comparison
from noise_search.comparison.statistics.intervals import Interval
from noise_search.comparison.statistics.means import means
from noise_search.comparison.views.answer import answer, leader
from noise_search.comparison.views.made import call
from noise_search.comparison.views.report import report_html, write_report
from noise_search.comparison.views.tables import differences_table, means_table
from noise_search.comparison.views.wording import cell, mean_count, words
from noise_search.prompt_sets import as_prompt_set
from tiny.drawn import COUNTS, SETTINGS, comparison, uneven
from tiny.made_up import NFE, pool, record

VOID = {"meta", "link", "img", "br"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """Reads HTML and fails where an element isn't closed in order, or an attribute is there twice."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice: {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(data for _, data in self.texts)


@pytest.fixture(scope="module")
def better(tmp_path_factory):
    return comparison(directory=tmp_path_factory.mktemp("better"), prompts=10)


@pytest.fixture(scope="module")
def html(better):
    return report_html(better)


def test_it_is_sound_html_that_asks_nothing_of_the_network(html):
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>\n<html lang=")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    links = [one["href"] for one in page.of("a")]
    assert len(links) == 12 and {link.removeprefix("#") for link in links} <= set(ids)
    assert not page.of("script") and not [a for _, attributes in page.elements for a in attributes if a[:2] == "on"]
    outside = [v for _, a in page.elements for k, v in a.items() if k in ("src", "href") and v[:1] != "#"]
    assert outside and all(one.startswith("data:") for one in outside)
    assert not re.search(r"url\(|@import", "".join(data for tag, data in page.texts if tag == "style"))
    policy = next(one["content"] for one in page.of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_every_image_has_words_and_can_be_read(html):
    found = Page(html).of("img")
    assert all(len(one["alt"]) > 20 for one in found)
    kinds = Counter()
    for one in found:
        kind, content = re.fullmatch(r"data:image/(\S+);base64,(.+)", one["src"]).groups()
        decoded = base64.b64decode(content)
        kinds[kind] += 1
        if kind == "png":
            with Image.open(io.BytesIO(decoded)) as image:
                assert image.size == (16, 12)
        else:
            assert b"<title>" in decoded and one["alt"][:40].encode() in decoded
    # Winners of 8 prompts by 2 algorithms, and of one algorithm by 3 budgets.
    assert kinds == {"svg+xml": 5, "png": 8 * 2 + 8 * 3}


def test_large_images_are_reduced_to_jpeg(better, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (600, 800, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    found = replace(better, directory=tmp_path, records=tuple(replace(one, image="x.png") for one in better.records))
    sources = [one["src"] for one in Page(report_html(found)).of("img") if "image/jpeg" in one["src"]]
    with Image.open(io.BytesIO(base64.b64decode(sources[0].split(",")[1]))) as image:
        assert (image.format, image.size) == ("JPEG", (256, 192))


def rows(html, caption):
    """The cells of the table with this caption, a list per row."""
    (found,) = [one for one in re.findall(r"<table.*?</table>", unescape(html), re.DOTALL) if caption in one]
    body = found.partition("<tbody>")[2]
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", one) for one in body.split("</tr>")[:-1]]


def test_the_table_in_text_fits_a_terminal_and_names_the_rows_of_each_part(better, monkeypatch):
    whole = better.table().split("\n*")[0].splitlines()
    monkeypatch.setenv("COLUMNS", "80")
    parts = [part.splitlines() for part in better.table().split("\n*")[0].split("\n\n")]
    assert len(parts) > 1 and max(len(line) for part in parts for line in part) <= 80 < len(whole[0])
    assert all(part[0].split()[:2] == ["algorithm", "NFE"] for part in parts)
    for at, line in enumerate(whole):
        assert line.split() == [*parts[0][at].split(), *(word for part in parts[1:] for word in part[at].split()[2:])]


def test_the_tables_hold_what_the_statistics_say(better, html):
    order = [(name, str(count * NFE)) for name in better.algorithms for count in COUNTS]

    def each(found, *values):
        """Values of a statistic, in the order of the rows."""
        told = {(one.algorithm, str(one.budget)): [value(one) for value in values] for one in found}
        return [[*place, *told[place]] for place in order if place in told]

    own, held = (
        each(better.means(), lambda one: cell(one.score)),
        each(better.means("oracle"), lambda one: cell(one.score)),
    )
    assert rows(html, "Mean score of the winners") == [
        [*one, judged[-1], "1", "20"] for one, judged in zip(own, held, strict=True)
    ]
    assert rows(html, "Score less random search's") == [
        [label, *row]
        for measure, label in (("own", "clip (searched by)"), ("oracle", "oracle (held-out judge)"))
        for row in each(
            better.differences(measure),
            lambda one: cell(one.difference),
            lambda one: f"{cell(one.corrected).partition(' ')[2]} at {100 * one.corrected.level:.4g} %",
            lambda one: one.verdict,
        )
    ]
    found = [[*row[:2], *row[3:5]] for row in rows(html, "How many random candidates")]
    assert found == each(better.multipliers(), lambda one: str(one.budget // NFE), lambda one: cell(one.times))
    found = [[*row[1:3], row[5]] for row in rows(html, "Gains over a mean random")]
    assert found == each(better.transfers(), lambda one: cell(one.ratio))
    found = [[*row[:2], *row[3:]] for row in rows(html, "How different the winners")]
    assert found == each(better.diversities(), lambda one: cell(one.vendi), lambda one: cell(one.distance))


def said(found):
    return " ".join(answer(found))


@pytest.mark.parametrize(
    ("given", "told", "untold"),
    [
        (
            {"own": 1.5, "judge": -10.0, "prompts": 30},
            [
                "At 80 NFE, better is better than random search by clip",
                "The held-out judge oracle rates the winners of better below a mean random candidate, by 10",
                "It finds them worse than random search's winners",
                " of verifier hacking, below",
            ],
            ["No sign"],
        ),
        (
            {"own": 0.2, "prompts": 30},
            [
                "At 80 NFE, no algorithm is clearly better by clip than random search",
                "Clearly worse: better by 0.1",
                "the winners of random search are better than a mean random candidate",  # it is the leader
            ],
            ["the nearest", "is worth"],
        ),
        ({"own": 0.2, "judge": 2.0, "noise": 0.8, "prompts": 8}, ["no algorithm is clearly better"], ["Clearly worse"]),
        ({"prompts": 7}, ["Too few prompts to sound an alarm of verifier hacking: 7 prompts, where 8 are needed."], []),
    ],
)
def test_the_answer(given, told, untold):
    found = comparison(**given)
    text = said(found)
    assert [one for one in told if one not in text] == [one for one in untold if one in text] == []


def test_the_answer_when_an_algorithm_is_better_and_the_judge_agrees(better):
    text = said(better)
    (apart,) = [one.difference for one in better.differences() if one.budget == 80]
    worth = next(one for one in better.multipliers() if one.algorithm == "better")
    assert apart.low > 0
    for told in (
        "10 prompts and 2 seeds per prompt were searched with shapes-flow by random search and better, each",
        "At 80 NFE, better is better than random search by clip",
        f"which is {words(apart)} more than random search's",
        "The held-out judge oracle confirms that the winners of better are better than a mean random candidate",
        "It finds them better than random search's winners at an equal budget",
        f"better at 20 NFE is worth {words(worth.times)} times the random candidates",
        "The mean scores of better at 40 NFE and better at 80 NFE lie beyond that of the best of the 8 random",
    ):
        assert told in text
    (seen,) = [one.visible for one in better.transfers() if (one.algorithm, one.budget) == ("better", 80)]
    assert text.endswith(
        "No sign of verifier hacking was found, where an alarm would have sounded in 80 % of such comparisons had "
        f"oracle gained {seen:.2g} standard deviations less than with random search's winners of equal own gain."
    )


def blind(found, judged=()):
    """Records without a value of the judge, of other prompts than these."""
    nothing = {"oracle": float("nan")}
    return tuple(one if one.prompt in judged else replace(one, judges=nothing) for one in found)


def test_the_answer_names_what_it_can_not_know(better):
    unjudged = [tuple(replace(one, judges={}) for one in some) for some in (better.records, better.pools)]
    for changes, told in (
        ({"records": unjudged[0], "pools": unjudged[1]}, "No held-out judge looked at the winners"),
        ({"records": blind(better.records)}, "The held-out judge oracle can't tell"),
        ({"records": blind(better.records, better.prompts[:3])}, "Too few prompts to sound an alarm"),
        ({"complete": False}, "some searches are missing"),
        ({"pools": better.pools[1:]}, "can't be told: no pool for prompt 'p000' and seed 0"),
    ):
        assert told in said(replace(better, **changes)), told
        assert "No sign" not in said(replace(better, **changes)) or "complete" in changes
    kept = [one for one in better.records if one.algorithm == "random"]
    others = [one for one in better.records if one.algorithm != "random"]
    few = replace(better, records=(*kept, *blind(others, better.prompts[:3])))
    assert "oracle can tell of too few prompts of better: 8 are needed" in said(few)


@pytest.mark.parametrize(("judge", "noise"), [(-12.0, 0.8), (4.0, 0.8), (0.0, 0.3)])
def test_no_sign_of_hacking_is_not_claimed_after_a_judge_that_sees_no_gain(judge, noise):
    told = said(comparison(own=1.5, judge=judge, noise=noise, prompts=8))
    doubt = "The held-out judge oracle sees no clear difference between the winners of better and a mean random"
    assert "No sign" not in told and (judge == 0 or doubt in told)
    assert ("as oracle can't confirm a gain, it isn't ruled out" in told) != ("of verifier hacking, below" in told)


def test_alarms_are_told_in_the_report():
    found = comparison(own=1.5, judge=-10.0, prompts=10)
    alarms = [alarm for one in found.transfers() for alarm in one.alarms]
    text = Page(report_html(found)).text
    assert re.search(r"But there (is an alarm|are \d alarms) of verifier hacking, below", text)
    assert alarms and all(one.sentence in text for one in alarms) and "judge falls" in text


def test_what_is_unclear_is_called_so():
    found = comparison(own=0.2, judge=2.0, noise=0.8, prompts=8)
    apart = [one.difference for one in found.differences()]
    assert any(one.value > 0 > one.low for one in apart) and any(one.value < 0 < one.high for one in apart)
    verdicts = [row["which is"] for row in differences_table(found).rows][: len(apart)]
    assert verdicts == ["higher" if one.low > 0 else "no clear difference" for one in apart]


def test_searches_that_are_missing_are_counted_and_warned_of():
    found = uneven()
    told = said(found)
    warning = (
        "Only 114 of 120 combinations of prompt, seed, algorithm and NFE were searched: from 7 to 10 prompts and from "
        "14 to 20 searches per algorithm and NFE. Rows with fewer searches are means over other prompts"
    )
    assert told.startswith("No verdict: at 80 NFE there are 7 prompts, where 8 are needed. Intervals are shown")
    assert " 10 prompts with up to 2 seeds were searched" in told and "each with" not in told
    assert warning in told and warning in means_table(found).caption and warning in found.table()
    counts = {(row["algorithm"], row["NFE"]): (row["prompts"], row["searches"]) for row in means_table(found).rows}
    assert counts["better", 80] == (7, "14") and counts["random", 80] == (10, "20")
    line = next(one.split() for one in found.table().splitlines() if one.split()[:2] == ["better", "80"])
    assert line[2:4] == ["7", "14"]
    assert "all 120 combinations, of which 114" in call(found)
    assert repr(found).startswith("Comparison(114 of 120 records: ")


def test_the_leader_is_not_the_one_with_the_easiest_prompts():
    found = comparison(own=0.1, prompts=10)
    easy = max(found.records, key=lambda one: (one.algorithm == "better", one.scores["clip"])).prompt
    others = tuple(one for one in found.records if one.algorithm == "random" or one.prompt == easy)
    scores = {(one.algorithm, one.budget): one.score.value for one in means(others, found.pools)}
    assert scores["better", 80] > scores["random", 80]
    assert leader(replace(found, records=others)) == leader(found) == "random"


def test_nfe_that_were_left_over_are_told(better):
    assert "NFE spent" not in means_table(better).rows[0] and "NFE spent" not in better.table()
    left = [replace(one, nfe=one.nfe - 3) if one.algorithm == "better" else one for one in better.records]
    found = replace(better, records=tuple(left))
    spent = {(row["algorithm"], row["NFE"]): row["NFE spent"] for row in means_table(found).rows}
    assert spent["better", 80] == "77" and spent["random", 80] == "80"
    line = next(one.split() for one in found.table().splitlines() if one.split()[:2] == ["better", "80"])
    assert line[2] == "77"
    assert "All algorithms got at most the same NFE" in Page(report_html(found)).text


def test_seconds_are_said_to_be_shares_of_a_run_wherever_they_are_shown(better, html):
    told = "a search's share of a batched run"
    captions = [text for tag, text in Page(html).texts if tag in ("caption", "figcaption") and "econds" in text]
    assert len(captions) == 3 and all(told in one for one in captions)
    assert told in better.table() and told in better.plot("pareto").alt


def test_counts_of_one_are_singular_and_what_is_unknown_has_no_unit():
    one = Comparison((record(score=1.0, judge=1.0),), (pool([1.0, 1.0], judge=[1.0, 2.0]),), {})
    assert repr(one) == "Comparison(1 record: random; 1 prompt, budget 10 NFE, 1 seed)"
    assert "- x" not in one.table() and "nan" not in one.table()


def test_one_search_is_reported_with_the_reasons_for_what_is_missing():
    page = Page(report_html(Comparison((record(score=1.0),), (), {})))
    for reason in (
        "no pool for prompt",
        "no judge looked at the winners",
        "one seed gives one winner per prompt",
        "random search is the only algorithm",
        "no images of winners were kept",
        "No versions were recorded",
    ):
        assert reason in page.text, reason
    assert "1 prompt and 1 seed per prompt" in page.text


HOSTILE = "</code></pre><script>alert(1)</script>\"'&amp;<img src=x onerror=alert(1)>\x00\x08\ud800 \u202eabc"


def test_prompts_and_labels_are_texts_and_nothing_else(tmp_path):
    found = comparison(name="<b onclick=x>", directory=tmp_path, prompts=2)

    def renamed(one):
        return replace(one, prompt=f"{HOSTILE} {one.prompt}", family=HOSTILE)

    found = replace(
        found, records=tuple(map(renamed, found.records)), pools=tuple(map(renamed, found.pools)),
        settings={**found.settings, "model": {"name": HOSTILE}, "command": HOSTILE, "environment": {HOSTILE: HOSTILE}},
    )  # fmt: skip
    file = write_report(found, tmp_path / "report.html")
    html = file.read_text(encoding="utf-8")
    page = Page(html)
    assert not page.of("script") and not page.of("b")
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert not re.search("[\x00\x08]", html)
    assert (
        "</code></pre><script>alert(1)</script>\"'&amp;<img src=x onerror=alert(1)>\ufffd\ufffd? \u202eabc" in page.text
    )


def test_the_command_that_was_given_is_shown_beside_the_call(better, html):
    command = "noise-search compare --prompts <file> --seeds 2"
    page = Page(report_html(replace(better, settings={**SETTINGS, "command": command})))
    assert ("code", command) in page.texts and ("code", call(better)) in page.texts
    assert ("code", command) not in Page(html).texts


def keywords(text):
    """Arguments of the call, as Python."""
    return {one.arg: ast.unparse(one.value) for one in ast.parse(text).body[-1].value.keywords}


def test_the_call_is_python_with_the_same_arguments(better):
    asked = {"guidance": 3.5, "negative_prompt": "blue", "dtype": "torch.bfloat16", "ensemble": "min-z"}
    text = call(replace(better, settings={**SETTINGS, "asked": asked}))
    assert text.startswith("import torch\n") and not call(better).startswith("import torch")
    plain = {
        "model": "'shapes-flow'", "algorithms": "['random', 'better']", "budgets": str([c * NFE for c in COUNTS]),
        "verifier": "['clip']", "judges": "['oracle']", "seeds": "[0, 1]", "steps": str(NFE),
    }  # fmt: skip
    assert keywords(call(better)) == plain
    assert keywords(text) == {
        **plain, "guidance": "3.5", "negative_prompt": "'blue'", "dtype": "torch.bfloat16", "ensemble": "'min-z'"
    }  # fmt: skip
    assert ast.literal_eval(ast.parse(call(better)).body[1].value) == list(better.prompts)


def test_the_call_says_in_comments_what_it_can_not_name(better):
    own = {"random": "RandomSearch()", "better": "Mine(1)", "odd": "<odd.Search object at 0x7f>\nx", "zo": "Z(a=b)"}
    searched = [{"name": "clip", "version": "clip/9/2.5"}, {"name": "warm", "version": "0123abcd"}]
    searched += [{"name": "safety", "version": "1", "kind": "constraint"}]
    held = [{"name": "oracle", "version": "1"}, {"name": "jpeg", "version": "89abcdef"}]
    changed = {"algorithms": own, "verifier": {"verifiers": searched}, "judges": held}
    text = call(replace(better, settings={**SETTINGS, **changed, "model": {"name": "FluxPipeline"}}))
    found = keywords(text)
    assert (found["algorithms"], found["verifier"], found["judges"]) == (
        "['random']", "['clip', 'safety']", "['oracle']"
    )  # fmt: skip
    assert "import Mine" not in text
    for line in (
        "# the model was an object, of 'FluxPipeline': pass it as model=",
        "# algorithms had one of your own, 'better': Mine(1): add it below",
        "# algorithms had one of your own, 'odd': <odd.Search object at 0x7f> x: add it below",
        "# algorithms had one of your own, 'zo': Z(a=b): add it below",
        "# verifier had one of your own, 'warm': add it below",
        "# judges had one of your own, 'jpeg': add it below",
    ):
        assert line in text.splitlines()


def test_the_call_runs_where_all_can_be_named(better):
    asked = {"random": "RandomSearch()", "few": "ZeroOrderSearch(neighbours=2, cosine=-0.5)"}
    given = {}
    records = tuple(replace(one, algorithm="few") if one.algorithm == "better" else one for one in better.records)
    text = call(replace(better, records=records, settings={**SETTINGS, "algorithms": asked}))
    assert "#" not in text and "from noise_search.algorithms import RandomSearch, ZeroOrderSearch\n" in text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise_search, "compare", lambda prompts, **options: given.update(options, prompts=prompts))
        exec(text, {})
    assert {name: repr(one) for name, one in given["algorithms"].items()} == {
        "random": "RandomSearch()", "few": repr(noise_search.ZeroOrderSearch(neighbours=2, cosine=-0.5))
    }  # fmt: skip


def test_a_grown_pool_is_asked_for_by_the_call(better):
    largest = max(better.budgets)
    small = replace(better, records=tuple(one for one in better.records if one.budget < largest))
    assert "pool_limit" not in call(better)
    assert f"pool_limit={-(-largest // max(small.budgets))}," in call(small)


def test_families_are_kept_by_the_call(better):
    def sorted_in(one):
        return replace(one, family="odd" if one.prompt.endswith(("1", "3")) else "")

    found = replace(better, records=tuple(map(sorted_in, better.records)))
    prompts = as_prompt_set(ast.literal_eval(ast.parse(call(found)).body[1].value))
    assert prompts.texts == better.prompts
    assert [text for text, family in zip(prompts.texts, prompts.families, strict=True) if family == "odd"] == [
        "p001", "p003"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [("report.txt", r"must end in \.html"), ("a.html", "is a directory"), ("b.html", "no records yet")],
)
def test_where_it_can_not_be_written(better, tmp_path, name, message):
    (tmp_path / "a.html").mkdir()
    with pytest.raises(ValueError, match=message):
        write_report(better if name != "b.html" else Comparison((), (), {}), tmp_path / name)


NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "low", "high", "told"),
    [
        (3.59e-05, -0.117, 0.106, "0.00 [-0.12, 0.11]"),
        (-0.001, -0.117, 0.106, "0.00 [-0.12, 0.11]"),
        (1234.5, 1100.0, 1400.0, "1234 [1100, 1400]"),
        (1.0, 1 - 1e-16, 1.0, "1 [1, 1]"),
        (0.0, 0.0, 0.0, "0 [0, 0]"),
        (2.34567, NAN, NAN, "2.35 [no interval]"),
        (NAN, NAN, NAN, "-"),
    ],
)
def test_numbers_are_as_precise_as_their_intervals(value, low, high, told):
    assert cell(Interval(value, low, high, 8, 16)) == told


def test_bounds_and_mean_counts_in_words():
    assert words(Interval(4.0, 2.0, 4.0, 8, 16, at_least=("value", "high"))) == ">4.0 (95 % interval 2.0 to >4.0)"
    assert [mean_count(one) for one in (71.0, 154.8, 12345678.04)] == ["71", "154.8", "12345678"]


@given(st.floats(-10, 10), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_rounding_moves_no_end_by_more_than_a_twentieth_of_the_width(value, below, above):
    found = Interval(value, value - below, value + above, 8, 16)
    shown = [float(one) for one in re.findall(r"-?\d[\d.]*", cell(found))]
    np.testing.assert_allclose(shown, [found.value, found.low, found.high], rtol=0, atol=0.0501 * (below + above))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_it_without_a_complaint(better, tmp_path, dark):
    file, shot = write_report(better, tmp_path / "report.html"), tmp_path / "shot.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags += ["--disable-dev-shm-usage", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--window-size=1100,1500"]
    done = subprocess.run(
        [BROWSER, *flags, f"--screenshot={shot}", file.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert "CONSOLE" not in done.stderr, done.stderr  # where the browser says what its policy refused
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (1500, 1100, 3)
    corner = pixels[-1, -1].mean()
    assert corner < 60 if dark else corner > 240
    red = np.abs(pixels - [0xC5, 0x22, 0x1F]).max(axis=2) < 12
    assert red.sum() > 200  # the second algorithm's lines: the figures are there
    ink = np.abs(pixels[:400] - pixels[-1, -1]).max(axis=2) > 100
    assert ink.mean() > 0.01  # and so are the words
