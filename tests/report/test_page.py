"""index.html: what it holds, and what of others' text it does not let through. A browser looks at it elsewhere."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from toy_config import toy_config
from toy_page import HOSTILE, PICTURE, write_page
from toy_results import Run

from gazepipe.common.markdown import plain
from gazepipe.config import load as config
from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import Job
from gazepipe.errors import UserError
from gazepipe.provenance.checksums import problems
from gazepipe.report.html import Writer, number, parts
from gazepipe.report.method_cards import method_card


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and the texts of its cells."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5.06 ± 0.31", 5.06),
        ("−0.48 [−0.76, −0.20]", -0.48),
        ("-0.48 [-0.76, -0.20]", -0.48),
        ("+2.71 ²", 2.71),
        ("11.18 M", 11.18e6),
        ("642.97 M", 642.97e6),
        ("1.74 G", 1.74e9),
        ("85.56 k", 85.56e3),
        ("1,234", 1234),
        ("< 0.001", 0.001),
        ("3.1e-05", 3.1e-5),
        ("×9.0", 9.0),
        ("4.0×", 4.0),
        ("15 %", 15.0),
        ("1 pair", 1.0),
        ("resnet18", None),
        ("8277a93710506428", None),
        ("—", None),
        ("", None),
        ("[−0.76, −0.20]", None),
    ],
)
def test_a_cell_is_sorted_by_the_number_that_it_begins_with(text, value):
    assert number(text) == (value if value is None else pytest.approx(value))


def test_columns_of_numbers_carry_them(tmp_path):
    rows = ["| a2 | **5.06** ± 0.3 | better |", "| a10 | — | 2 of 3 |", "| b | x | same |"]
    table = "\n".join(["| Model | Error | Finding |", "|---|---:|---|", *rows])
    tags = Tags(Writer(tmp_path).html(table, "Benchmark"))
    cells = [each.get("data-order") for each in tags.named("td")]
    assert cells == [None, "5.06", None, None, "", None, None, "", None]
    assert [each["class"] for each in tags.named("th")] == ["text", "number", "text"]
    assert all(each["scope"] == "col" for each in tags.named("th"))
    assert "Table 1. Benchmark" in tags.texts


def test_a_page_in_parts():
    before, sections = parts(
        "# Title\n\nnote\n\n## One `a`\n\ntext\n\n### Below\n\n```\n## no heading\n```\n\n## Two\nend\n"
    )
    assert before.split() == ["#", "Title", "note"]
    assert [heading for heading, _ in sections] == ["One `a`", "Two"]
    assert "### Below" in sections[0][1]
    assert "## no heading" in sections[0][1]
    assert sections[1][1] == "end"


@pytest.mark.parametrize("text", [*HOSTILE, "<b>x</b>", "a|b", "`a`", "**a**", "&lt;", "\\<i>", "a\nb"])
def test_text_of_others_is_shown_as_it_is(tmp_path, text):
    html = Writer(tmp_path).html(f"| Subject |\n|---|\n| {plain(text)} |\n", numbered=False)
    tags = Tags(html)
    assert {tag for tag, _ in tags.tags} == {"div", "table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert " ".join(text.split()) in "".join(tags.texts)


@pytest.mark.parametrize("text", [*HOSTILE, "<img src=x onerror=alert(1)>", "![a](../secret.png)", "![a](/etc/a.png)"])
def test_markdown_of_others_brings_no_code_and_no_picture(tmp_path, text):
    (tmp_path / "secret.png").write_bytes(b"\x89PNG")
    folder = tmp_path / "results"
    folder.mkdir()
    tags = Tags(Writer(folder).html(text))
    assert {tag for tag, _ in tags.tags} <= {"p"}


def test_pictures_of_the_results(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/a.svg").write_text(PICTURE)
    (tmp_path / "figures/a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (30).to_bytes(4) + (20).to_bytes(4) + bytes(700_000)
    )
    written = Writer(tmp_path)
    small, large = Tags(written.html("![A **figure**](figures/a.svg)")), Tags(written.html("![Large](figures/a.png)"))
    [picture] = small.named("img")
    assert picture["src"].startswith("data:image/svg+xml;base64,")
    assert (picture["alt"], picture["width"], picture["height"]) == ("A **figure**", "4", "2")
    assert [link["href"] for link in small.named("a")] == ["figures/a.svg", "figures/a.png"]
    [picture] = large.named("img")
    assert picture == {"src": "figures/a.png", "loading": "lazy", "alt": "Large", "width": "30", "height": "20"}
    assert "Figure 2. Large " in large.texts


# ---- the page


def test_the_page_has_every_part(paged):
    text = (paged.folder / "index.html").read_text()
    shown = " ".join(Tags(text.partition("<body>")[2]).texts)
    assert re.findall(r"<h2 [^>]*>(.*?)</h2>", text)[-4:] == ["Files", "Methods", "Exported networks", "Provenance"]
    for said in (
        "gazepipe benchmark: default run",
        "Cross-dataset",
        "It always answers.",
        "Distillation from the method",
        "kd.response",
        "training.epochs",
        "a <b>cpu</b>",
        "1.5 minutes of wall time",
        "make report",
        "SHA-256",
    ):
        assert said in shown, said
    for link in ("tables/benchmark.csv", "checksums.json", "tables.md", "deploy/columbia-drawn/resnet18/base/"):
        assert f'href="{link}"' in text
    benchmark = text[text.index('<section id="benchmark"') : text.index('<section id="cross-dataset"')]
    assert 'href="tables/benchmark.csv"' in benchmark
    assert 'href="tables/benchmark.tex"' in benchmark


def test_what_others_wrote_is_text(paged):
    text = (paged.folder / "index.html").read_text()
    tags = Tags(text)
    assert [each.get("type") for each in tags.named("script")] == ["text/plain", "module"]
    assert all(each["src"].startswith("data:") or ":" not in each["src"] for each in tags.named("img"))
    assert not any((each.get("href") or "").startswith("javascript") for each in tags.named("a"))
    for name in HOSTILE:
        assert name in "".join(tags.texts)


def test_the_page_asks_for_nothing(paged):
    text = (paged.folder / "index.html").read_text()
    tags = Tags(text)
    assert "default-src 'none'" in tags.named("meta")[2]["content"]
    assert not tags.named("link")
    assert not tags.named("iframe")
    assert not [each for each in tags.named("script") if "src" in each]
    assert not re.findall(r"url\((?!data:)|@import", text.partition("</head>")[0])
    assert len(text) < 2_000_000


def test_same_results_same_page_and_checksums_hold(paged, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(paged.folder, folder)
    run = Run.__new__(Run)
    run.plan, run.folder = paged.plan, folder
    before = (folder / "index.html").read_bytes()
    assert list(problems(folder)) == []
    assert write_page(run).encode() == before
    run.write()  # tables again, with the page there
    assert "index.html" not in (folder / "checksums.json").read_text()
    assert list(problems(folder)) == []
    assert write_page(run).encode() == before
    (folder / "report.html").write_text("a report")
    assert 'href="report.html"' in write_page(run)
    assert list(problems(folder)) == []


@pytest.mark.parametrize(
    "name", ["tables.md", "checksums.json", "runs/columbia-drawn/resnet18/base/fold0/seed0/run.json"]
)
def test_a_missing_file_is_named(paged, tmp_path, name):
    folder = tmp_path / "results"
    shutil.copytree(paged.folder, folder)
    (folder / name).unlink()
    (folder / "index.html").unlink()
    run = Run.__new__(Run)
    run.plan, run.folder = paged.plan, folder
    with pytest.raises(UserError, match=name):
        write_page(run)
    assert not (folder / "index.html").exists()


def test_a_card_tells_what_a_method_does():
    raw = toy_config()
    raw["benchmark"] |= {"datasets": ["columbia-drawn"], "models": ["resnet18"], "methods": ["kd_prune"], "deploy": []}
    raw["methods"]["kd_prune"]["training"] = {"optimizer": "sgd"}
    cards = Plan(config.load(raw)).settings(Job.of("page")).methods
    assert list(cards) == ["base", "kd", "kd_prune"]  # those that it starts and learns from come along
    text = method_card("kd_prune", cards["kd_prune"])
    assert "Starts from the weights of `kd`." in text
    assert re.search(r"\| rebirth\.share \| 0\.\d+ \| Share of each layer's filters", text)
    assert "| training.optimizer | sgd |" in text
    assert "training.schedule" not in text  # as it is by default
    assert "Not in the tables itself" in method_card("base", cards["base"])


def test_the_facts_of_every_training_are_read():
    plan = Plan(config.load(toy_config()))
    job = Job.of("page")
    named = [Path(plan.path(file)) for file in plan.inputs(job)["facts"]]
    assert sorted(plan.settings(job).facts(Path(plan.root))) == sorted(named)
    assert len(named) > 20


@pytest.mark.parametrize(
    ("block", "name", "option", "value", "other"),
    [
        ("models", "resnet18", "width", 0.5, True),
        ("models", "simvit", "width", 0.5, False),
        ("datasets", "mpiifacegaze-drawn", "subjects", 4, False),
        ("methods", "kd", "training", {"epochs": 2}, False),
    ],
)
def test_the_key_of_the_page_follows_what_the_run_uses(block, name, option, value, other):
    raw = toy_config()
    raw["benchmark"] |= {"datasets": ["columbia-drawn"], "models": ["resnet18"], "methods": ["base"], "deploy": []}
    raw["benchmark"]["folds"] = {}
    before = Plan(config.load(raw)).key(Job.of("page"))
    raw[block][name][option] = value
    assert (Plan(config.load(raw)).key(Job.of("page")) != before) == other
